"""How much of the differences between an optimizer's trials each of its settings explains."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
from scipy.stats import rankdata

from optitune.report.data import ENOUGH, last_seen
from optitune.space.configuration import Configuration, flat
from optitune.study.records import TrialRecord


@dataclass(frozen=True)
class Influence:
    """How much an optimizer's result hangs on each of its settings.

    Attributes:
        trials: how many it rests on.
        shares: by setting, how much of the ranks' variance it explains by itself, from 0 to 1; empty where the trials
            are too few.
    """

    optimizer: str
    trials: int
    shares: Mapping[str, float]


def influences(records: Iterable[TrialRecord], optimizers: Iterable[str], sign: int) -> list[Influence]:
    """How much of the differences between an optimizer's trials each setting explains.

    Trials are ranked by the last value seen, those that diverged last, so that what fails early counts too: an
    importance over complete trials alone would not know of learning rates that are far off.

    Args:
        records: the study's trials, finished and running.
        optimizers: names, in the order in which rows are to come.
        sign: 1 where more of the metric is better, -1 where less is.
    """
    rows = [row for row in records if row.outcome in ("complete", "pruned", "diverged") and row.same_as is None]
    found = []
    for name in optimizers:
        scored = [
            (_comparable(row.configuration), -inf if (value := last_seen(row)) is None else sign * value)
            for row in rows
            if row.configuration is not None and row.optimizer == name
        ]
        shares: dict[str, float] = {}
        if len(scored) >= ENOUGH:
            for key in {key: None for settings, _ in scored for key in settings}:
                having = [(settings[key], score) for settings, score in scored if key in settings]
                share = explained([value for value, _ in having], [score for _, score in having])
                if share is not None:
                    shares[key] = share
        found.append(Influence(name, len(scored), shares))
    return found


def _comparable(configuration: Configuration) -> dict[str, float | str]:
    """All that may differ between an optimizer's trials, as numbers and words."""
    every = flat(configuration).items()
    return {name: str(value) if isinstance(value, bool | str) else float(value) for name, value in every}


def explained(setting: Sequence[float | str], scores: Sequence[float]) -> float | None:
    """What share of the variance of the scores' ranks a setting explains, less what chance would.

    Numbers explain as a parabola of their ranks does, since most have a best somewhere between; words as the means of
    their groups do. None where it is always the same, or the values are too few.
    """
    kinds, total = sorted(set(map(str, setting))), len(setting)
    if len(kinds) < 2 or total < ENOUGH or len(set(scores)) < 2:
        return None
    if any(isinstance(value, str) for value in setting):
        columns = [np.array([str(value) == kind for value in setting], dtype=np.float64) for kind in kinds[1:]]
    else:
        ranks = rankdata(setting) / total - 0.5
        columns = [ranks, ranks**2][: len(kinds) - 1]
    design = np.column_stack([np.ones(total), *columns])
    free = total - 1 - len(columns)
    if free < 1:
        return None
    ranked = rankdata(scores)
    solution = np.linalg.lstsq(design, ranked, rcond=None)[0]
    unexplained = float(np.square(ranked - design @ solution).sum() / np.square(ranked - ranked.mean()).sum())
    return min(1.0, max(0.0, 1 - unexplained * (total - 1) / free))
