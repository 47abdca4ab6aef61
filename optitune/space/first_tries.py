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

FURTHER = 4
"""How many of them are tried after the known-good settings of all optimizers."""


def first_tries(space: SearchSpace, epochs: int, learned: Sequence[Try] = LEARNED) -> list[InitialPoint]:
    """All configurations to try first, in their order.

    Known-good settings come first, those of optimizers that the list names in its order; then the first of the list
    with another learning rate. Those whose learning rate lies outside the study's range are left out.

    Args:
        space: of the study.
        epochs: of a trial.
        learned: the list.
    """
    known = known_good(space, epochs)
    named = list(dict.fromkeys(each.optimizer for each in learned))
    further = [each for each in learned if each.lr_factor != 1.0][:FURTHER]
    ordered = sorted(known, key=lambda each: named.index(each.optimizer) if each.optimizer in named else len(named))
    return [*ordered, *_learned(space, known, further)]


def _learned(space: SearchSpace, known: Sequence[InitialPoint], tries: Sequence[Try]) -> Iterator[InitialPoint]:
    for each in tries:
        point = next((one for one in known if one.optimizer == each.optimizer), None)
        value_range = space.optimizers[each.optimizer].get("lr") if point else None
        if point is None or not isinstance(value_range, Float):
            continue
        lr = space.rows[each.optimizer].lr * each.lr_factor
        if value_range.contains(lr):
            yield replace(point, values={**point.values, "lr": lr})
