"""Worlds made of the trainings of AlgoPerf (Dahl et al. 2023, arXiv:2306.07179)."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
from optuna.distributions import CategoricalDistribution

from optitune.sampling.forecast import OPTIMIZER
from scripts.bench.quality.published_world import Array, Published, Spaces
from scripts.bench.quality.worlds import Replayed

TARGETS: Mapping[str, tuple[float, bool]] = {
    "criteo1tb": (0.123735, False),
    "imagenet_resnet": (0.77431, True),
    "librispeech_conformer": (0.085884, False),
    "ogbg": (0.28098, True),
}
"""Validation targets of AlgoPerf v0.5 (Dahl et al. 2023, arXiv:2306.07179), at which its trainings ended, and whether
higher values are better."""


class AlgoPerf(Published):
    """A table of algorithms and their five settings, five seeds each: it tests which algorithm gets the budget.

    A training is the time that it was given; one that reached the target keeps its last value.
    One that ended early without it failed. Only trainings with external tuning are here: self-tuning ones had three
    times the time. An algorithm that was not tried with all settings does not compete. The settings have no order, so
    `known_good` is the first one of each algorithm.

    Args:
        workload: of the benchmark.
        rows: of that workload, as the file has them.
    """

    SETTINGS = 5

    def __init__(self, workload: str, rows: list[dict[str, str]]) -> None:
        target, self.maximize = TARGETS[workload]
        self.ideal = 1.0 if self.maximize else 0.0
        found: dict[str, dict[str, dict[str, list[tuple[float, float]]]]] = defaultdict(
            lambda: defaultdict(lambda: defaultdict(list))
        )
        for row in rows:
            if row["ruleset"] == "external_tuning":
                runs = found[row["algorithm"]][row["trial"]]
                runs[row["study"]].append((float(row["seconds"]), float(row["value"])))
        last = [run[-1] for settings in found.values() for runs in settings.values() for run in runs.values()]
        given = max(seconds for seconds, _ in last)
        self.worst = 0.0 if self.maximize else max(value for _, value in last)
        sign = 1 if self.maximize else -1
        self._runs: dict[tuple[str, str], list[Replayed]] = {}
        for algorithm, settings in found.items():
            if len(settings) == self.SETTINGS:
                for setting, runs in settings.items():
                    self._runs[algorithm, setting] = [
                        self._replayed(np.array(run), given, sign * (run[-1][1] - target) >= 0) for run in runs.values()
                    ]
        names = list(dict.fromkeys(algorithm for algorithm, _ in self._runs))
        settings_of: Spaces = {
            name: {"setting": CategoricalDistribution(sorted({setting for _, setting in self._runs}))} for name in names
        }
        self.by_way = dict.fromkeys(("ours", "theirs", "wide"), settings_of)
        self._truths = {key: float(np.mean([self._final(run) for run in runs])) for key, runs in self._runs.items()}
        self.best = {
            name: (max if self.maximize else min)(value for (of, _), value in self._truths.items() if of == name)
            for name in names
        }
        self.median = float(np.median(list(self._truths.values())))
        self.known_good = [{OPTIMIZER: name, "setting": min(key[1] for key in self._runs)} for name in names]
        self.seconds = dict.fromkeys(names, given / self.epochs)
        finals = [[self._final(run) for run in runs] for runs in self._runs.values()]
        self.spread = float(np.median([np.std(each, ddof=1) for each in finals]))

    def _replayed(self, run: Array, given: float, reached: bool) -> Replayed:
        times, values = run.T
        share = times[-1] / given
        failed = not reached and share < 0.9
        until = int(share * self.epochs) if failed else self.epochs
        at = np.searchsorted(times, np.arange(1, until + 1) * given / self.epochs, side="right") - 1
        return Replayed(tuple(values[np.maximum(at, 0)].tolist()), failed)

    def _final(self, run: Replayed) -> float:
        return self.worst if run.diverged else run.values[-1]

    def truth(self, parameters: Mapping[str, Any]) -> float:
        return self._truths[parameters[OPTIMIZER], parameters["setting"]]

    def train(self, parameters: Mapping[str, Any], generator: np.random.Generator) -> Replayed:
        runs = self._runs[parameters[OPTIMIZER], parameters["setting"]]
        return runs[generator.integers(len(runs))]
