"""The configurations that a search tries first: known-good settings, and what a list learned from records adds."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from optitune.space.ranges import Float
from optitune.space.search_space import InitialPoint, SearchSpace, known_good


@dataclass(frozen=True)
class Try:
    """An optimizer's known-good settings at a multiple of their learning rate."""

    optimizer: str
    lr_factor: float

    def __str__(self) -> str:
        return f"{self.optimizer}, lr x {self.lr_factor:g}"


LEARNED = (
    Try("muon", 10.0),
    Try("adagrad", 0.03),
    Try("muon", 1.0),
    Try("nadam", 10.0),
    Try("muon", 3.0),
    Try("adam", 30.0),
    Try("adadelta", 10.0),
)
"""What a greedy cover takes, one after another, so that the best of all so far is as good as it can be on the mean of
eleven recorded tasks (`scripts/bench/quality/learned_list.py`; greedy portfolios: Feurer et al. 2022, JMLR 23:261)."""

AHEAD = 4
"""How many of them come before the known-good settings of the other optimizers; the rest come after those."""


def first_tries(space: SearchSpace, epochs: int, learned: Sequence[Try] = LEARNED) -> list[InitialPoint]:
    """All configurations to try first, each once, in their order.

    Those of the list whose learning rate lies outside the study's range are left out.

    Args:
        space: of the study.
        epochs: of a trial.
        learned: the list.
    """
    known = known_good(space, epochs)
    ahead, after = _learned(space, known, learned[:AHEAD]), _learned(space, known, learned[AHEAD:])
    found: list[InitialPoint] = []
    for each in (*ahead, *known, *after):
        if each not in found:
            found.append(each)
    return found


def _learned(space: SearchSpace, known: Sequence[InitialPoint], tries: Sequence[Try]) -> Iterator[InitialPoint]:
    for each in tries:
        point = next((one for one in known if one.optimizer == each.optimizer), None)
        if point is None or each.lr_factor == 1.0:
            yield from [] if point is None else [point]
            continue
        value_range = space.optimizers[point.optimizer].get("lr")
        if not isinstance(value_range, Float):
            continue
        lr = space.rows[point.optimizer].lr * each.lr_factor
        if value_range.contains(lr):
            yield replace(point, values={**point.values, "lr": lr})
