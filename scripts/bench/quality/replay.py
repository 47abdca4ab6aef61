"""Replay of a record of real trainings: what any configuration would have done, without training it.

Two worlds are made from one record. In `fitted`, Gaussian processes are fitted to the recorded curves (`fit.py`), and
whether a configuration fails is predicted from its nearest neighbours. In `nearest`, a configuration does what the
nearest recorded one did. In both, what differs from run to run is drawn from what differed between seeds in the record.
`World.errors` says how far off the fit is.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from math import isnan
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from scipy.stats import spearmanr

from optitune.sampling.forecast import OPTIMIZER
from optitune.sampling.parameters import first_parameters, known_good_parameters, spaces
from optitune.space.first_tries import LEARNED, Try
from optitune.space.search_space import LR_FACTOR
from optitune.study.settings import StudySettings
from scripts.bench.quality.fit import NEIGHBOURS, Model, models, promising
from scripts.bench.quality.own_space import lr_ahead, own_space
from scripts.bench.quality.points import LR_BOX, RECORDED, lr_of
from scripts.bench.quality.record import Curve, read
from scripts.bench.quality.scale import Scale
from scripts.bench.quality.worlds import Parameters, Replayed, Way

Kind = Literal["fitted", "nearest"]


class World:
    """A world (`worlds.World`) made of a record of our own.

    Args:
        record: the file that `make_record.py` wrote.
        kind: how configurations that were not recorded are predicted.
        without: optimizers that do not compete.
        learned: gives the list that our search tries first.

    Attributes:
        settings: of the recorded study.
        optimizers, epochs, evaluations, maximize, ideal, worst, useless: see `worlds.World`.
    """

    def __init__(
        self,
        record: Path,
        kind: Kind,
        without: Sequence[str] = (),
        learned: Callable[[], Sequence[Try]] = lambda: LEARNED,
    ) -> None:
        self._learned = learned
        self.about, curves = read(record)
        self.kind = kind
        settings = StudySettings.model_validate(self.about.settings)
        competing = tuple(name for name in settings.optimizers if name not in without)
        self.settings = settings.model_copy(update={"optimizers": competing})
        self.optimizers, self.epochs = competing, self.settings.epochs
        self.evaluations = self.about.evaluations
        metric = self.about.judge
        self.maximize, self.ideal = metric.direction == "maximize", metric.ideal
        self.worst, self.useless = self.about.worst, self.about.chance
        self._curves = curves
        self._scale = Scale(metric, self.about.chance, curves)
        self._models = models(self.settings, curves, self._scale, self.evaluations, self.about.lr_prior is not None)
        found = [model.residuals for model in self._models.values() if len(model.residuals)]
        self._residuals = np.concatenate(found) if found else np.zeros((1, self.epochs * self.evaluations))
        for model in self._models.values():
            # before worker processes are forked
            if not model.failed.all():
                model.expected(model.x[0])

    def _value(self, score: float) -> float:
        return float(self._scale.values(score))

    def _recorded(self, curve: Curve) -> float:
        return self.worst if isnan(curve.final) else curve.final

    def _within(self, parameters: Mapping[str, Any]) -> Parameters:
        """With the nearest learning rate that was recorded: further away, all is as it is there."""
        if LR_FACTOR not in parameters:
            # one that asks what the space is, and draws nothing
            return dict(parameters)
        low, high = (
            RECORDED if self.about.lr_prior is None else (10 ** (sign * self.about.lr_prior[1]) for sign in (-1, 1))
        )
        return {**parameters, LR_FACTOR: min(max(parameters[LR_FACTOR], low), high)}

    @cached_property
    def known_good(self) -> list[Parameters]:
        return known_good_parameters(self.settings)

    @cached_property
    def first_tries(self) -> list[Parameters]:
        return first_parameters(self.settings, self._learned())

    @cached_property
    def spaces(self) -> dict[str, dict[str, BaseDistribution]]:
        return spaces(self.settings)

    def suggest(self, trial: Any, way: Way = "ours") -> Parameters:
        # where learning rates were sampled widely, a careful user looks further about as well
        apart = LR_BOX[1] if self.about.lr_prior is None else 100.0
        return self._within(own_space(trial, self.settings, way, apart))

    def lr_ahead(self, parameters: Mapping[str, Any]) -> dict[str, float]:
        return lr_ahead(parameters, self.epochs, self.evaluations)

    def truth(self, parameters: Mapping[str, Any]) -> float:
        """The mean final value over seeds."""
        model, parameters = self._models[parameters[OPTIMIZER]], self._within(parameters)
        x = model.places(parameters)
        if self.kind == "nearest":
            row = model.nearest(x)
            return self._recorded(model.first[row]) if model.failed[row] else self._value(model.y[row, -1])
        if model.fails(x[None])[0]:
            return self._recorded(model.first[model.nearest(x, failed=True)])
        return self._value(model.final(x[None])[0])

    def train(self, parameters: Mapping[str, Any], generator: np.random.Generator) -> Replayed:
        """One run of a configuration, with what differs from run to run drawn."""
        model, parameters = self._models[parameters[OPTIMIZER]], self._within(parameters)
        x = model.places(parameters)
        if self.kind == "nearest":
            row = model.nearest(x)
            failed, curve = bool(model.failed[row]), model.y[row]
        else:
            failed = bool(model.fails(x[None])[0])
            row = model.nearest(x, failed) if failed else 0
            curve = model.y[row] if failed else model.expected(x)
        if failed:
            was = model.first[row]
            return Replayed(was.values, was.diverged is not None)
        values = self._scale.values(curve + self._residuals[generator.integers(len(self._residuals))])
        return Replayed(tuple(float(value) for value in values), False)

    def unsearched(self, optimizer: str) -> float:
        """The mean final value of an optimizer's known-good settings, as they were recorded."""
        first = self._models[optimizer].first[0]
        assert first.origin == "known-good"
        return self.truth(first.parameters)

    @cached_property
    def median(self) -> float:
        return float(np.median([self._recorded(each) for model in self._models.values() for each in model.first]))

    @cached_property
    def seconds(self) -> dict[str, float]:
        """Processor time of an epoch by optimizer, the median over whole trainings."""
        taken: dict[str, list[float]] = {name: [] for name in self.optimizers}
        for curve in self._curves:
            if curve.optimizer in taken and len(curve.values) == self.epochs * self.evaluations:
                taken[curve.optimizer].append(curve.seconds[-1] / self.epochs)
        usual = np.concatenate(list(taken.values()))
        return {name: float(np.median(times or usual)) for name, times in taken.items()}

    @cached_property
    def spread(self) -> float:
        """The standard deviation of a final value from run to run, at the median configuration of those repeated."""
        repeated: dict[tuple[str, int], list[Curve]] = {}
        for curve in self._curves:
            repeated.setdefault((curve.optimizer, curve.number), []).append(curve)
        spreads = [
            np.std([curve.final for curve in runs], ddof=1)
            for runs in repeated.values()
            if len(runs) > 2 and not any(self._scale.failed(curve) for curve in runs)
        ]
        return float(np.median(spreads)) if spreads else 0.0

    @cached_property
    def best(self) -> dict[str, float]:
        """The best mean final value that each optimizer has within our ranges."""
        return {name: self._best(name) for name in self.settings.optimizers}

    def _best(self, name: str) -> float:
        model = self._models[name]
        if self.kind == "nearest":
            inside = [row for row, curve in enumerate(model.first) if curve.origin != "outer" and not model.failed[row]]
            return self._value(model.y[inside, -1].max()) if inside else self.unsearched(name)
        every = self.about.lr_prior is not None
        known = [curve.parameters for curve in model.first if every or curve.origin == "known-good"]
        known += promising(self.settings, name, model, 1, lr_of(self.about.lr_prior))
        return (max if self.maximize else min)(self.truth(parameters) for parameters in known)

    def errors(self) -> dict[str, float]:
        """How far off the fitted world is at configurations it was not shown, over all optimizers.

        Returns:
            root mean square and median absolute error of the final value, rank correlation, the share of variance
            explained on the scale of `Scale`, and how often failing was predicted.
        """
        pairs = [model.held_out() for model in self._models.values()]
        predicted, was = (np.concatenate(each) for each in zip(*pairs, strict=True))
        off = self._scale.values(predicted) - self._scale.values(was)
        right = [self._predicted_failing(model) for model in self._models.values()]
        return {
            "rms": float(np.sqrt(np.mean(off**2))),
            "median": float(np.median(np.abs(off))),
            "rank": float(np.mean([spearmanr(*pair).statistic for pair in pairs if len(pair[0])])),
            "explained": float(1 - np.mean((predicted - was) ** 2) / np.var(was)),
            "failing": float(np.mean(np.concatenate(right))),
        }

    def _predicted_failing(self, model: Model) -> NDArray[np.bool_]:
        distances = model.distances(model.x)
        np.fill_diagonal(distances, np.inf)
        near = np.argsort(distances, axis=1)[:, :NEIGHBOURS]
        return np.asarray((model.failed[near].sum(axis=1) * 2 > NEIGHBOURS) == model.failed)
