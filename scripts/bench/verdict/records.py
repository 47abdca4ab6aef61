"""Values of real trainings that others published, read from a folder that is not part of the project.

    nanogpt_track3.csv.gz   method, run, steps, val_loss
    deepobs.csv.gz          problem, optimizer, lr, momentum, seed, epoch, train_loss, test_loss, train_accuracy,
                            test_accuracy (empty where there is none)
    algoperf.csv.gz         ruleset, algorithm, workload, trial, study, step, value, seconds

Sources: KellerJordan/modded-nanogpt, records of track 3 (MIT); DeepOBS baselines (Schneider et al. 2019, ICLR; MIT);
logs of AlgoPerf v0.5 in mlcommons/submissions_algorithms (Apache-2.0).
"""

import csv
import gzip
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, log
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SEEDS = 10
"""How many seeds DeepOBS gives the best learning rate of an optimizer."""

STUDIES = 5
"""How often AlgoPerf trained each setting."""

TARGETS = {
    "criteo1tb": (0.123735, -1, 0.0001, "loss"),
    "imagenet_resnet": (0.77431, 1, 0.001, "accuracy"),
    "librispeech_conformer": (0.085884, -1, 0.001, "word error rate"),
    "ogbg": (0.28098, 1, 0.001, "mean average precision"),
}
"""By workload: the value at which AlgoPerf v0.5 ends a training, 1 where more is better, what difference does not
matter, and what is measured."""

FIVE_PERCENT = log(1.05)
"""What difference of logarithms of time does not matter."""


class Unreadable(Exception):
    """A file of records is missing or is not what it should be: one line that says which."""


@dataclass(frozen=True)
class Question:
    """Which of several is best?

    Attributes:
        name: what was trained.
        metric: what was measured.
        sign: 1 where more is better, -1 where less is.
        epsilon: largest difference that does not matter.
        arms: by name of an optimizer, a value a run, in the order of seeds.
    """

    name: str
    metric: str
    sign: int
    epsilon: float
    arms: Mapping[str, Floats]

    @property
    def rounds(self) -> int:
        return min(map(len, self.arms.values()))


def rows(path: Path, *columns: str) -> Iterator[dict[str, str]]:
    """The rows of a gzipped CSV that has these columns.

    Raises:
        Unreadable: it is missing, no gzipped text, or lacks a column.
    """
    try:
        with gzip.open(path, "rt", newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = [each for each in columns if each not in (reader.fieldnames or ())]
            if missing:
                raise Unreadable(f"{path}: no column {', '.join(missing)}; is this the folder of published records?")
            yield from reader
    except FileNotFoundError:
        raise Unreadable(f"{path}: no such file; name the folder that holds the published records") from None
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise Unreadable(f"{path}: cannot be read as gzipped CSV ({error})") from None


def number(path: Path, row: Mapping[str, str], column: str) -> float:
    """
    Raises:
        Unreadable: it is no number.
    """
    try:
        return float(row[column])
    except (TypeError, ValueError):
        raise Unreadable(f"{path}: {column} = {row[column]!r} is no number") from None


def nanogpt(folder: Path) -> dict[str, Floats]:
    """The losses of all runs of each setting: optimizers of equal numbers of steps."""
    path = folder / "nanogpt_track3.csv.gz"
    found: dict[str, list[float]] = {}
    for row in rows(path, "method", "run", "steps", "val_loss"):
        found.setdefault(f"{row['method']}, {row['steps']} steps", []).append(number(path, row, "val_loss"))
    return {name: np.array(values) for name, values in found.items() if all(map(isfinite, values))}


def deepobs(folder: Path) -> list[Question]:
    """A question a problem: each optimizer at its best learning rate, after the last epoch; the test accuracy where
    there is one, the test loss otherwise."""
    path = folder / "deepobs.csv.gz"
    last: dict[str, dict[tuple[str, ...], dict[int, dict[str, str]]]] = {}
    for row in rows(path, "problem", "optimizer", "lr", "momentum", "seed", "epoch", "test_loss", "test_accuracy"):
        setting = row["optimizer"], row["lr"], row["momentum"]
        seeds = last.setdefault(row["problem"], {}).setdefault(setting, {})
        before = seeds.get(int(row["seed"]))
        if before is None or int(row["epoch"]) > int(before["epoch"]):
            seeds[int(row["seed"])] = row
    found = []
    for problem, settings in last.items():
        repeated = {name: seeds for (name, *_), seeds in settings.items() if len(seeds) >= SEEDS}
        if len(repeated) < 2:
            continue
        accuracy = all(row["test_accuracy"] for seeds in repeated.values() for row in seeds.values())
        column, sign = ("test_accuracy", 1) if accuracy else ("test_loss", -1)
        arms = {
            name: np.array([number(path, seeds[seed], column) for seed in sorted(seeds)])
            for name, seeds in repeated.items()
        }
        epsilon = 0.001 if accuracy else negligible_loss([float(values.mean()) for values in arms.values()])
        found.append(Question(problem, column.replace("_", " "), sign, epsilon, arms))
    return found


def negligible_loss(means: Sequence[float]) -> float:
    """What difference does not matter: a tenth of how far the median optimizer is behind the best, at most a hundredth
    of the best loss."""
    best = min(means)
    return min(0.1 * (median(means) - best), 0.01 * abs(best))


def algoperf(folder: Path) -> list[Question]:
    """Two questions a workload, each of every algorithm's best setting of those trained in all studies: the best
    validation value of a run, and the logarithm of the seconds of training until the target, among those that reached
    it every time.

    A run ends at the target, so that the best values of good algorithms all lie close above it.
    """
    path = folder / "algoperf.csv.gz"
    curves: dict[tuple[str, str, str], dict[str, list[tuple[float, float]]]] = {}
    for row in rows(path, "ruleset", "algorithm", "workload", "trial", "study", "value", "seconds"):
        algorithm = row["algorithm"] + (" (self-tuning)" if row["ruleset"] == "self_tuning" else "")
        value = number(path, row, "value") if row["value"] else float("nan")
        key = row["workload"], algorithm, row["trial"]
        curves.setdefault(key, {}).setdefault(row["study"], []).append((number(path, row, "seconds"), value))
    values: dict[str, dict[str, Floats]] = {}
    times: dict[str, dict[str, Floats]] = {}
    for (workload, algorithm, _), studies in curves.items():
        if workload not in TARGETS or len(studies) < STUDIES:
            continue
        target, sign, _, _ = TARGETS[workload]
        runs = [studies[study] for study in sorted(studies)]
        best = np.array([max((sign * value for _, value in run if isfinite(value)), default=np.nan) for run in runs])
        keep_better(values.setdefault(workload, {}), algorithm, sign * best, sign)
        keep_better(times.setdefault(workload, {}), algorithm, np.log([reached(run, target, sign) for run in runs]), -1)
    found = []
    for workload, arms in values.items():
        _, sign, epsilon, metric = TARGETS[workload]
        found.append(Question(workload, f"best {metric}", sign, epsilon, arms))
        found.append(Question(workload, "log time to target", -1, FIVE_PERCENT, times[workload]))
    return [each for each in found if len(each.arms) > 1]


def reached(run: Sequence[tuple[float, float]], target: float, sign: int) -> float:
    """Seconds until the target; nan where it was not reached."""
    return min((seconds for seconds, value in run if sign * (value - target) >= 0), default=float("nan"))


def keep_better(arms: dict[str, Floats], name: str, values: Floats, sign: int) -> None:
    """Keep the better mean of this one's settings; one that has no value in some run is none."""
    if np.isfinite(values).all() and (name not in arms or sign * (values.mean() - arms[name].mean()) > 0):
        arms[name] = values


def seeds_shared(question: Question, generator: np.random.Generator, shuffles: int = 2_000) -> tuple[float, float]:
    """Whether runs of equal seeds are alike: the mean correlation over seeds of all pairs of optimizers, and how often
    it is as large where seeds are shuffled."""
    ranks = [np.argsort(np.argsort(values[: question.rounds])).astype(float) for values in question.arms.values()]

    def correlation(each: Sequence[Floats]) -> float:
        matrix: Any = np.corrcoef(each)
        return float(matrix[np.triu_indices(len(each), 1)].mean())

    seen = correlation(ranks)
    chance = [correlation([generator.permutation(each) for each in ranks]) for _ in range(shuffles)]
    return seen, float(np.mean([each >= seen - 1e-12 for each in chance]))
