"""A made-up study with a comparison and a full training, for what reports on them."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch

from optitune.common.summary import summarise
from optitune.comparing import results as comparison_results
from optitune.comparing.kept_runs import save_run
from optitune.comparing.results import Comparison, conclude
from optitune.report.page import Subject
from optitune.retraining.mistakes import Mistakes
from optitune.retraining.records import EpochRecord, SeedResult
from optitune.retraining.results import FullPlan, Tested
from optitune.space.configuration import Configuration
from optitune.statistics.runs import HALF, KNOWN_GOOD, TUNED, TWICE, Finalist, Plan, Point, Prefer, Run, RunId
from optitune.storage import studies, study_checks
from optitune.storage import trials as storage_trials
from optitune.storage.studies import StudyLocation
from optitune.storage.urls import open_storage
from optitune.study.records import Outcome, TrialRecord, best
from optitune.study.settings import StudySettings
from optitune.tasks.metrics import METRICS, Metric, StoredMetric, kept

EPOCHS, STEPS = 5, 100
"""Of a trial, and in an epoch."""

CHECKSUM = "sha256:" + "0123456789abcdef" * 4

LEVEL = {"sgd": 0.984, "adam": 0.982, "adamw": 0.9815, "adagrad": 0.93}
"""What the best configuration of each truly comes to; the rest as adam."""


def configuration(optimizer: str, lr: float, gamma: float = 0.5) -> Configuration:
    from optitune.space import optimizers

    row = optimizers.find(optimizer)
    return Configuration.model_validate(
        {
            "optimizer": {"name": optimizer, "settings": {**row.arguments(row.known_good[0]), "lr": lr}},
            "schedule": {"name": "step", "settings": {"step_size": 2, "gamma": gamma}},
        }
    )


def good_lr(optimizer: str) -> float:
    from optitune.space import optimizers

    return float(optimizers.find(optimizer).known_good[0]["lr"])


def trials(optimizers: tuple[str, ...], each: int = 14, metric: Metric = METRICS["accuracy"]) -> list[TrialRecord]:
    """Trials of a search, the best near each one's known-good lr; some pruned, the largest lr diverging."""
    chance = np.random.default_rng(0)
    sign = metric.sign
    rows = []
    for number in range(each * len(optimizers)):
        name = optimizers[number % len(optimizers)]
        off = chance.normal(0, 0.6) if number >= len(optimizers) else 0.0
        gamma = float(chance.uniform(0.3, 0.9))
        score = LEVEL.get(name, 0.98) - 0.02 * off**2 + chance.normal(0, 0.002)
        end = score if sign > 0 else 1 - score
        outcome: Outcome = "diverged" if off > 0.95 else "pruned" if abs(off) > 0.6 else "complete"
        done = EPOCHS if outcome == "complete" else 1.0
        points = [(STEPS * (k + 1) // 2, end - sign * 0.3 * 0.35**k) for k in range(int(2 * done))]
        rows.append(
            TrialRecord(
                number,
                outcome,
                configuration(name, good_lr(name) * 10**off, gamma),
                points[-1][1] if outcome == "complete" else None,
                "" if outcome == "complete" else outcome,
                () if outcome == "diverged" else tuple(points),
                2.5 * done,
                epochs=float(done),
                score=sign * points[-1][1] if outcome == "complete" else None,
            )
        )
    return rows


def runs(plan: Plan, rounds: int, sign: int = 1, diverging: str = "") -> list[Run]:
    """Runs of a comparison, the first two rounds with variants; one optimizer may diverge in the last round."""
    chance = np.random.default_rng(1)
    found = []
    for number in range(rounds):
        easy = chance.normal(0, 0.002)
        for each in plan.finalists:
            for variant in (TUNED, HALF, TWICE, KNOWN_GOOD)[: 4 if number < 2 else 1]:
                score = LEVEL.get(each.optimizer, 0.98) + easy + chance.normal(0, 0.0008) - 0.004 * (variant != TUNED)
                end = score if sign > 0 else 1 - score
                evaluations = range(1, 2 * plan.epochs + 1)
                curve = tuple(Point(k / 2, 1.3 * k, end - sign * 0.3 * 0.4**k, 0.1 + 0.5**k) for k in evaluations)
                lost = each.optimizer == diverging and number == rounds - 1
                found.append(
                    Run(
                        RunId(number, each.optimizer, variant),
                        "diverged at step 7: loss nan" if lost else "",
                        curve[-1].value,
                        0.1,
                        1.3 * 2 * plan.epochs,
                        {"sgd": 4_000}.get(each.optimizer, 8_000),
                        4_000,
                        curve,
                    )
                )
    return found


def comparison(
    records: list[TrialRecord],
    optimizers: tuple[str, ...],
    rounds: int = 8,
    metric: Metric = METRICS["accuracy"],
    epsilon: float = 0.001,
    diverging: str = "",
) -> Comparison:
    sign = metric.sign
    finalists = []
    for name in optimizers:
        leader = best(row for row in records if row.optimizer == name)
        assert leader is not None
        assert leader.configuration is not None
        assert leader.value is not None
        known = configuration(name, good_lr(name))
        finalists.append(
            Finalist(trial=leader.number, value=leader.value, configuration=leader.configuration, known_good=known)
        )
    plan = Plan(
        task="digits",
        finalists=tuple(finalists),
        epochs=EPOCHS,
        precision="fp32",
        seed=2_000_003,
        data_checksum=CHECKSUM,
        network="abc",
        metric=metric.name,
        train_examples=1_000,
        held_out=70,
        rounds=20,
        evaluations=2,
    )
    found = conclude(plan, runs(plan, rounds, sign, diverging), records, metric, epsilon)
    assert found is not None
    return found


def costly(about: Subject, seconds: Mapping[str, float], prefer: Prefer = "value", epsilon: float = 0.5) -> Subject:
    """The same, compared by runs that take so many seconds, some of them a little more.

    Args:
        about: a study that was compared.
        seconds: by optimizer.
        prefer: by what one is taken.
        epsilon: what difference does not matter.
    """
    assert about.comparison is not None
    plan, rows = about.comparison.plan, about.comparison.runs
    rows = tuple(replace(run, seconds=seconds[run.key.optimizer] + 0.01 * run.key.round) for run in rows)
    found = conclude(plan, rows, about.trials, about.metric, epsilon, prefer=prefer, epsilon_from="as asked for")
    return replace(about, comparison=found)


def full_training(found: Comparison | None, records: list[TrialRecord], metric: Metric) -> Tested:
    leader = best(records)
    assert leader is not None
    trial = leader.number if found is None else found.plan.finalist(found.recommendation.optimizer).trial
    chosen = records[trial].configuration
    assert chosen is not None
    value = 0.985 if metric.direction == "maximize" else 0.016
    wrong = {(8, 1): 2, (9, 3): 1}
    matrix = tuple(
        tuple(35 if true == said else wrong.get((true, said), 0) for said in range(10)) for true in range(10)
    )
    plan = FullPlan(
        task="digits",
        configuration=chosen,
        epochs=15,
        precision="fp32",
        seeds=(1_000_003, 1_000_004, 1_000_005),
        data_checksum=CHECKSUM,
        network="abc",
    )
    seeds = tuple(
        SeedResult(seed, value + 0.001 * place, 0.07, 20.0, (EpochRecord(1, 0.1, 0.5, 0.9),), matrix)
        for place, seed in enumerate(plan.seeds)
    )
    return Tested(
        plan=plan,
        trial=trial,
        stored_metric=StoredMetric(**kept(metric)),
        test_value=summarise([seed.test_value for seed in seeds], metric.lowest, metric.highest),
        test_loss=summarise([seed.test_loss for seed in seeds]),
        runs=seeds,
        versions=studies.versions(),
    )


def mistakes(count: int = 6) -> Mistakes:
    images = torch.randint(0, 17, (count, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return Mistakes(images, 16.0, tuple(range(count)), tuple((number + 1) % 10 for number in range(count)))


def subject(
    optimizers: tuple[str, ...] = ("sgd", "adam", "adamw", "adagrad"),
    stage: str = "tested",
    metric: Metric = METRICS["accuracy"],
    **other: Any,
) -> Subject:
    """What a report is about, at a stage of `empty`, `searched`, `compared` and `tested`."""
    records = [] if stage == "empty" else trials(optimizers, metric=metric)
    found = comparison(records, optimizers, metric=metric, **other) if stage in ("compared", "tested") else None
    return Subject(
        name="digits",
        settings=StudySettings(task="digits", optimizers=optimizers, precision="fp32").document(),
        data=facts(metric),
        versions={"search": studies.versions()},
        metric=metric,
        trials=tuple(records),
        comparison=found,
        tested=full_training(found, records, metric) if stage == "tested" else None,
        mistakes=mistakes() if stage == "tested" else None,
    )


def facts(metric: Metric) -> dict[str, Any]:
    about = {"train_examples": 1_150, "validation_examples": 287, "checksum": CHECKSUM}
    return {**about, "metric": metric.name, "direction": metric.direction}


def stored(home: StudyLocation, about: Subject) -> None:
    """Write a study as a search leaves it, and its comparison if it has one."""
    home.folder.mkdir(parents=True)
    settings = StudySettings(task="digits", optimizers=about.optimizers, precision="fp32")
    opened = study_checks.create_or_resume(
        open_storage(home.url, create=True), home.name, settings, facts(about.metric), about.metric
    )
    states = {"complete": optuna.trial.TrialState.COMPLETE}
    for row in about.trials:
        assert row.configuration is not None
        opened.add_trial(
            optuna.trial.create_trial(
                state=states.get(row.outcome, optuna.trial.TrialState.PRUNED),
                value=row.value,
                intermediate_values=dict(row.curve),
                user_attrs={
                    storage_trials.OUTCOME: row.outcome,
                    storage_trials.CONFIGURATION: row.configuration.model_dump(mode="json"),
                    storage_trials.SECONDS: row.seconds,
                    storage_trials.EPOCHS: row.epochs,
                },
            )
        )
    if about.comparison is not None:
        folder = home.folder / comparison_results.FOLDER
        comparison_results.save_plan(folder, about.comparison.plan)
        for run in about.comparison.runs:
            save_run(folder, run)
        comparison_results.save_verdict(folder, about.comparison)


def without_variants(about: Subject) -> Subject:
    """The same, its comparison without the runs of other settings."""
    assert about.comparison is not None
    own = tuple(run for run in about.comparison.runs if run.key.variant == TUNED)
    return replace(about, comparison=replace(about.comparison, runs=own))


def home(folder: Path) -> StudyLocation:
    return studies.location(folder / "studies", "digits", None)
