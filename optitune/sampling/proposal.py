"""Proposals of the next configuration: from the prior, from near the best, ranked by the model of all trials."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from optitune.sampling.model import Array, Axis, Observed, Surrogate, log_expected_improvement

FROM_PRIOR, NEAR, TRANSPLANTED = 192, 192, 64
"""Candidates that are drawn from the prior, near the optimizer's best trials, and near other optimizers' best."""

BEST = 3
"""How many of its best trials an optimizer's candidates are near."""

CHANGED, STEP = 0.3, 0.7
"""Share of hyperparameters in which a candidate differs from the trial that it is near, and by how many prior standard
deviations."""

WIDENED = 1.5
"""Factor of the prior's standard deviation for candidates drawn from it."""

TRUST = 0.5
"""Weight of the prior in the choice among candidates: it falls with the number of the optimizer's trials (Hvarfner et
al. 2022, arXiv:2204.11051)."""

RANKED = 16
"""Candidates that are given, the most promising first, lest one that was tried before comes again."""


class Proposals:
    """What a study's trials say of configurations that it has not tried.

    Args:
        axes: by optimizer and parameter.
        observed: ended trials, at least one.
        pending: running ones.
        generator: of candidates.
    """

    def __init__(
        self,
        axes: Mapping[Any, Mapping[str, Axis]],
        observed: Sequence[Observed],
        pending: Sequence[Observed],
        generator: np.random.Generator,
    ) -> None:
        self._axes = axes
        self._observed = observed
        self._pending = pending
        self._generator = generator

    @cached_property
    def _model(self) -> Surrogate:
        return Surrogate(self._axes, self._observed, self._pending)

    @cached_property
    def _ranked(self) -> list[Observed]:
        return sorted(self._observed, key=lambda each: -each.score)

    def of(self, optimizer: Any, overall: bool = False) -> tuple[float, list[dict[str, Any]]]:
        """How promising an optimizer's candidates are at best, and the best of them as parameters by name.

        Promising is the logarithm of the expected improvement, corrected by the prior.

        Args:
            optimizer: its name.
            overall: whether the best of all optimizers is to be improved on; else the optimizer's own.
        """
        own, model = self._axes[optimizer], self._model
        places = {name: own[name].valid(each) for name, each in self._candidates(optimizer).items()}
        mean, variance = model(optimizer, model.columns(optimizer, places, len(next(iter(places.values())))))
        best = model.best if overall else model.best_of(optimizer)
        gain = log_expected_improvement(mean, variance, float(mean.max()) if best is None else best)
        prior = np.sum([own[name].log_density(places[name]) for name in own], axis=0)
        trials = sum(each.optimizer == optimizer for each in self._observed)
        worth = gain + TRUST / max(1, trials) * prior
        order = np.argsort(-worth, kind="stable")[:RANKED].tolist()
        return float(worth.max()), [{name: own[name].value(each[at]) for name, each in places.items()} for at in order]

    def _candidates(self, optimizer: Any) -> dict[str, Array]:
        """Coordinates of candidates by parameter, (number,) each."""
        own, generator = self._axes[optimizer], self._generator
        near = [each for each in self._ranked if each.optimizer == optimizer][:BEST]
        others = [each for each in self._ranked if each.optimizer != optimizer][:BEST]
        found: dict[str, list[Array]] = {
            name: [axis.through(generator.random(FROM_PRIOR), WIDENED)] for name, axis in own.items()
        }
        for bases, number, changed in ((near, NEAR, CHANGED), (others, TRANSPLANTED, CHANGED / 2)):
            if not bases:
                continue
            start = generator.integers(len(bases), size=number)
            for name, axis in own.items():
                at = np.array([self._place(each, own, name) for each in bases])[start]
                if axis.options:
                    moved = np.floor(generator.random(number) * len(axis.options))
                else:
                    moved = np.clip(at + generator.normal(0.0, STEP, number), axis.low, axis.high)
                found[name].append(np.where(generator.random(number) < changed, moved, at))
        return {name: np.concatenate(parts) for name, parts in found.items()}

    def _place(self, trial: Observed, own: Mapping[str, Axis], name: str) -> float:
        """The coordinate of a trial, of another optimizer perhaps; the centre where that lacks the parameter."""
        axes, axis = self._axes[trial.optimizer], own[name]
        centre = float(axis.centre) if axis.options else 0.0
        if name not in axes or name not in trial.parameters:
            return centre
        place = axes[name].place(trial.parameters[name])
        if axis.options:
            return place if 0 <= place < len(axis.options) else centre
        return float(np.clip(place, axis.low, axis.high))
