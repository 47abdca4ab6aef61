"""The searches that are held against each other on replayed trainings: one row each."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import optuna
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, GPSampler, QMCSampler, RandomSampler, TPESampler
from optuna.trial import TrialState

from optitune.sampling.forecast import LR_AHEAD
from optitune.sampling.pruner import ForecastPruner
from optitune.sampling.sampler import FairSampler
from scripts.bench.quality.worlds import Parameters, Way, World, rungs


@dataclass(frozen=True)
class Step:
    """A trial that ended: with the epochs that the search had spent by then, and its final value, if it has one."""

    epochs: float
    parameters: Parameters
    value: float | None


Strategy = Callable[[World, float, int], Iterator[Step]]
"""From a world, a number of epochs and a seed to trials as they end, until so many epochs are spent."""


def optuna_search(
    sampler: Callable[[World, int], BaseSampler],
    pruner: Callable[[World], BasePruner],
    way: Way = "theirs",
    rungs_per_epoch: int = 1,
) -> Strategy:
    """A search that is an Optuna study.

    Args:
        way: whose space it searches.
        rungs_per_epoch: how often an epoch is reported, at most.
    """

    def run(world: World, epochs: float, seed: int) -> Iterator[Step]:
        generator = np.random.default_rng((seed, 1))
        # Hyperband tells brackets by the name of the study
        study = optuna.create_study(
            study_name="replay",
            direction="maximize" if world.maximize else "minimize",
            sampler=sampler(world, seed),
            pruner=pruner(world),
        )
        every, last = world.evaluations, rungs(world)
        between = ceil(every / rungs_per_epoch)
        spent = 0.0
        while spent < epochs:
            trial = study.ask()
            parameters = world.suggest(trial, way)
            trial.set_user_attr(LR_AHEAD, dict(world.lr_ahead(parameters)))
            replayed = world.train(parameters, generator)
            state, value = TrialState.COMPLETE, None
            for rung, found in enumerate(replayed.values, start=1):
                at = rung
                if rung % between == 0 and rung < last:
                    trial.report(found, rung)
                    if trial.should_prune():
                        state = TrialState.PRUNED
                        break
            else:
                at = len(replayed.values) + replayed.diverged
                if replayed.diverged:
                    state = TrialState.PRUNED
                    # as optitune does: a loss has no worst value to report
                    if world.maximize:
                        trial.report(world.worst, max(1, at))
                else:
                    value = replayed.values[-1]
                    trial.report(value, last)
            study.tell(trial, value, state)
            spent += at / every
            yield Step(spent, parameters, value)

    return run


def fair(world: World, seed: int, **options: Any) -> FairSampler:
    """Our sampler, as `optitune search` makes it."""
    return FairSampler(
        seed,
        ideal=world.ideal,
        spaces=world.spaces,
        **{"known_good": world.known_good, "first_tries": world.first_tries, **options},
    )


def ours(**options: Any) -> Strategy:
    """Our search, with these options of its sampler."""
    return optuna_search(
        lambda world, seed: fair(world, seed, **options),
        lambda world: ForecastPruner(ideal=world.ideal),
        "ours",
        rungs_per_epoch=4,
    )


STRATEGIES: dict[str, Strategy] = {
    "random-wide": optuna_search(lambda w, s: RandomSampler(seed=s), lambda w: NopPruner(), "wide"),
    "tpe-median-wide": optuna_search(lambda w, s: TPESampler(seed=s), lambda w: MedianPruner(), "wide"),
    "random": optuna_search(lambda w, s: RandomSampler(seed=s), lambda w: NopPruner()),
    "tpe-median": optuna_search(lambda w, s: TPESampler(seed=s), lambda w: MedianPruner()),
    "tpe": optuna_search(lambda w, s: TPESampler(seed=s), lambda w: NopPruner()),
    "tpe-group": optuna_search(
        lambda w, s: TPESampler(seed=s, multivariate=True, group=True),
        lambda w: MedianPruner(),
    ),
    "hyperband": optuna_search(
        lambda w, s: TPESampler(seed=s),
        lambda w: HyperbandPruner(min_resource=w.evaluations, max_resource=rungs(w)),
    ),
    "qmc": optuna_search(
        lambda w, s: QMCSampler(seed=s, scramble=True, warn_independent_sampling=False), lambda w: MedianPruner()
    ),
    "gp": optuna_search(lambda w, s: GPSampler(seed=s, warn_independent_sampling=False), lambda w: MedianPruner()),
    "optitune": ours(),
    "optitune-known-good": ours(first_tries=None),
}
"""What Optuna offers, and ours. `wide` is the space that a hurried user writes (`worlds.Way`)."""
