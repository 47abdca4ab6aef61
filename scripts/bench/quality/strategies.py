"""The searches that are held against each other on replayed trainings: one row each."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import optuna
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, GPSampler, QMCSampler, RandomSampler, TPESampler
from optuna.trial import TrialState

from optitune.sampling.forecast import LR_AHEAD, OPTIMIZER
from optitune.sampling.parameters import first_parameters, spaces, suggest
from optitune.sampling.pruner import ForecastPruner
from optitune.sampling.sampler import FairSampler
from optitune.searching.objective import changes_ahead
from optitune.space import optimizers
from optitune.space.configuration import ScheduleSettings
from optitune.space.search_space import LR_FACTOR
from scripts.bench.quality.replay import World

Parameters = dict[str, Any]

WIDE_LR = 1e-5, 1e-1
"""The learning rates that a plain user looks at, whatever the optimizer."""

RECORDED = 0.003, 300.0
"""Multiples of the known-good learning rate that the record reaches."""


@dataclass(frozen=True)
class Step:
    """A trial that ended: with the epochs that the search had spent by then, and its final value, if it has one.

    Attributes:
        study: of a search that is one of Optuna's.
    """

    epochs: float
    parameters: Parameters
    value: float | None
    study: optuna.Study | None = field(default=None, compare=False)


Strategy = Callable[[World, float, int], Iterator[Step]]
"""From a world, a number of epochs and a seed to trials as they end, until so many epochs are spent."""


def our_space(world: World, trial: Any) -> Parameters:
    suggest(trial, world.settings, world.settings.space())
    return dict(trial.params)


def wide_space(world: World, trial: Any) -> Parameters:
    """What a plain user searches: one range of learning rates, and momenta on a linear scale."""
    name = trial.suggest_categorical(OPTIMIZER, world.settings.optimizers)
    row = optimizers.find(name)
    factor = trial.suggest_float("lr", *WIDE_LR, log=True) / row.lr
    values = dict(row.known_good[0])
    if "momentum" in row.ranges:
        values["momentum"] = trial.suggest_float("momentum", 0.0, 0.99)
    if "beta1" in row.ranges and "beta2" in row.ranges and name != "muon":
        values["beta1"] = trial.suggest_float("beta1", 0.8, 0.99)
        values["beta2"] = trial.suggest_float("beta2", 0.9, 0.9999)
    found: Parameters = {
        OPTIMIZER: name,
        LR_FACTOR: min(max(factor, RECORDED[0]), RECORDED[1]),
        "step_size": trial.suggest_int("step_size", 1, world.settings.epochs),
        "gamma": trial.suggest_float("gamma", 0.1, 1.0),
    }
    space = world.settings.space()
    for (owner, key), parameter in space.parameters.items():
        if owner == name and key != "lr":
            found[parameter] = 1 - values[key] if parameter.startswith("one_minus") else values[key]
    return found


def schedule(parameters: Parameters) -> ScheduleSettings:
    return ScheduleSettings(name="step", settings={name: parameters[name] for name in ("step_size", "gamma")})


def optuna_search(
    sampler: Callable[[World, int], BaseSampler],
    pruner: Callable[[World], BasePruner],
    space: Callable[[World, Any], Parameters] = our_space,
    rungs_per_epoch: int = 1,
) -> Strategy:
    """A search that is an Optuna study.

    Args:
        rungs_per_epoch: how often an epoch is reported.
    """

    def run(world: World, epochs: float, seed: int) -> Iterator[Step]:
        generator = np.random.default_rng((seed, 1))
        # Hyperband tells brackets by the name of the study
        study = optuna.create_study(
            study_name="replay", direction="maximize", sampler=sampler(world, seed), pruner=pruner(world)
        )
        every = world.about.evaluations
        spent = 0.0
        while spent < epochs:
            trial = study.ask()
            parameters = space(world, trial)
            trial.set_user_attr(LR_AHEAD, changes_ahead(schedule(parameters), world.settings.epochs, every, every))
            replayed = world.train(parameters, generator)
            state, value = TrialState.COMPLETE, None
            for rung, found in enumerate(replayed.values, start=1):
                at = rung
                if rung * rungs_per_epoch % every == 0 and rung < world.rungs:
                    trial.report(found, rung)
                    if trial.should_prune():
                        state = TrialState.PRUNED
                        break
            else:
                at = len(replayed.values) + replayed.diverged
                if replayed.diverged:
                    state = TrialState.PRUNED
                    trial.report(0.0, max(1, at))
                else:
                    value = replayed.values[-1]
                    trial.report(value, world.rungs)
            study.tell(trial, value, state)
            spent += at / every
            yield Step(spent, parameters, value, study)

    return run


def fair(world: World, seed: int, **options: Any) -> FairSampler:
    """Our sampler, as `optitune search` makes it."""
    settings = world.settings
    return FairSampler(seed, ideal=1.0, known_good=first_parameters(settings), spaces=spaces(settings), **options)


def ours(**options: Any) -> Strategy:
    """Our search, with these options of its sampler."""
    return optuna_search(
        lambda world, seed: fair(world, seed, **options), lambda world: ForecastPruner(ideal=1.0), rungs_per_epoch=4
    )


STRATEGIES: dict[str, Strategy] = {
    "random-wide": optuna_search(lambda w, s: RandomSampler(seed=s), lambda w: NopPruner(), wide_space),
    "tpe-median-wide": optuna_search(lambda w, s: TPESampler(seed=s), lambda w: MedianPruner(), wide_space),
    "random": optuna_search(lambda w, s: RandomSampler(seed=s), lambda w: NopPruner()),
    "tpe-median": optuna_search(lambda w, s: TPESampler(seed=s), lambda w: MedianPruner()),
    "tpe": optuna_search(lambda w, s: TPESampler(seed=s), lambda w: NopPruner()),
    "tpe-group": optuna_search(
        lambda w, s: TPESampler(seed=s, multivariate=True, group=True),
        lambda w: MedianPruner(),
    ),
    "hyperband": optuna_search(
        lambda w, s: TPESampler(seed=s),
        lambda w: HyperbandPruner(min_resource=w.about.evaluations, max_resource=w.rungs),
    ),
    "qmc": optuna_search(
        lambda w, s: QMCSampler(seed=s, scramble=True, warn_independent_sampling=False), lambda w: MedianPruner()
    ),
    "gp": optuna_search(lambda w, s: GPSampler(seed=s, warn_independent_sampling=False), lambda w: MedianPruner()),
    "optitune": ours(),
    "optitune-racing": ours(allocation="racing"),
}
"""What Optuna offers, and ours. `wide` is the space that a plain user writes; all others have our space."""
