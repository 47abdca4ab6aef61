"""The commands that repeat a comparison and a full training: typed again they find nothing more to do."""

from collections.abc import Mapping, Sequence
from math import isclose
from typing import Any

import optuna

from optitune.common.commands import option_words
from optitune.comparing import plan as comparison_plan
from optitune.comparing.requests import MOST_RUNS, SENSITIVITY
from optitune.comparing.results import Comparison
from optitune.errors import OptituneError
from optitune.retraining import run as retraining
from optitune.retraining.choose import choose_best
from optitune.retraining.results import Tested
from optitune.statistics.costs import target_of
from optitune.statistics.runs import KNOWN_GOOD, PREFER, TUNED, UNTIL, VARIANTS, RunId
from optitune.storage import trials
from optitune.storage.studies import StudyLocation
from optitune.storage.trials import best_config
from optitune.study.records import TrialRecord, standings
from optitune.tasks.metrics import Metric


def compare_words(
    name: str,
    found: Comparison,
    settings: Mapping[str, Any],
    trials: Sequence[TrialRecord],
    metric: Metric,
    max_runs: int | None = None,
) -> list[str]:
    """The words of the command that makes a comparison.

    Args:
        name: of the study.
        settings: of the study.
        trials: of the study.
        metric: of the study.
        max_runs: to go on up to so many runs; None for those that there are.
    """
    asked, plan = found.asked, found.plan
    could = {row.optimizer for row in standings(trials, settings["optimizers"]) if row.best is not None}
    some = set(plan.optimizers) != could or (asked is not None and asked.optimizers is not None)
    names: Sequence[str] = plan.optimizers
    if asked is not None:
        if asked.optimizers is not None:
            names = [name for name in asked.optimizers if name in plan.optimizers]
        epsilon, target, sensitivity = asked.epsilon, asked.target, asked.sensitivity
    else:
        # a comparison of an older version does not keep what was asked, but what came of it
        scores = [metric.score(each.value) for each in plan.finalists]
        usual = comparison_plan.negligible(metric, max(scores))
        epsilon = None if isclose(found.verdict.epsilon, usual, rel_tol=1e-12) else found.verdict.epsilon
        target = None if found.target == target_of(found.runs, found.verdict.contenders, metric.sign) else found.target
        sensitivity = _rounds_of_variants(found)
    if max_runs is None:
        # one that was stopped by time has fewer than it was to have
        sensitivity = min(sensitivity, _rounds_of_variants(found))
    most = len([run for run in found.runs if run.key.variant == TUNED]) if max_runs is None else max_runs
    seed = _seed(plan.seed, settings, comparison_plan.SEEDS_APART)
    options = {
        "--optimizers": ",".join(names) if some else None,
        "--epochs": plan.epochs if plan.epochs != settings["epochs"] else None,
        "--seed": seed or None,
        "--epsilon": epsilon,
        "--target": target,
        "--until": asked.until if asked and asked.until != UNTIL else None,
        "--prefer": asked.prefer if asked and asked.prefer != PREFER else None,
        "--sensitivity": sensitivity if sensitivity != SENSITIVITY else None,
        "--max-runs": most if most != MOST_RUNS else None,
    }
    return ["compare", name, *option_words(options)]


def _rounds_of_variants(found: Comparison) -> int:
    """In how many rounds all those that are not out were trained with other settings too."""
    there = {run.key for run in found.runs}
    variants = [
        (name, variant)
        for name in found.verdict.contenders
        for variant in VARIANTS
        if not (variant == KNOWN_GOOD and found.plan.finalist(name).untuned)
    ]
    rounds = 0
    while rounds < found.plan.rounds and all(RunId(rounds, *each) in there for each in variants):
        rounds += 1
    return rounds


def _seed(first: int, settings: Mapping[str, Any], apart: int) -> int:
    """The seed that a user typed, from the first that came of it."""
    return (first - int(settings.get("seed", 0)) - apart) // 1000


def retrain_words(name: str, result: Tested, what: str, settings: Mapping[str, Any]) -> list[str]:
    """The words of the command that makes full trainings.

    Args:
        name: of the study.
        what: `best`, or the number of a trial.
        settings: of the study.
    """
    plan = result.plan
    epochs = plan.epochs if result.length is None else retraining.AUTO
    options = {
        "--epochs": epochs if epochs != retraining.LONGER * settings["epochs"] else None,
        "--keep": plan.keep if plan.keep != "last" else None,
        "--seeds": len(plan.seeds) if len(plan.seeds) != retraining.SEEDS else None,
        "--seed": _seed(plan.seeds[0], settings, retraining.SEEDS_APART) or None,
        "--precision": plan.precision if plan.precision != settings["precision"] else None,
    }
    return ["retrain", what, "--study", name, *option_words(options)]


def retrain_argument(home: StudyLocation, opened: optuna.Study, result: Tested) -> str | None:
    """The argument by which `retrain` trains the same again: `best`, or a trial's number; None where neither does.

    Args:
        home: where the study lives.
        opened: the study.
        result: the full training.
    """
    configuration, epochs = result.plan.configuration, result.plan.epochs
    try:
        config = choose_best(home, opened).config
        if config.configuration.stretched(epochs / config.epochs) == configuration:
            return "best"
        found = best_config(opened, trials.record(opened, -1 if result.trial is None else result.trial))
    except OptituneError:
        return None
    return str(found.trial) if found.configuration.stretched(epochs / found.epochs) == configuration else None
