"""How long to train: the rule of `--epochs auto`."""

from collections.abc import Callable
from math import isfinite

from optitune.comparing.plan import negligible
from optitune.retraining.results import TriedLength
from optitune.tasks.metrics import Metric

LONGEST = 16
"""How many times as long as the search's trials at most."""


def find(first: int, train: Callable[[int], TriedLength], metric: Metric) -> list[TriedLength]:
    """Find the number of epochs by trainings that are judged on held-out validation data; the found one is the last.

    A training has `first` epochs, the next one twice as many, and so on, up to `LONGEST` times. Each has its schedule
    stretched to its length, since a value in the midst of a longer schedule says little of a training of that length
    (Hoffmann et al. 2022, arXiv:2203.15556). Patience is one length: the first that is not better than half of it, by
    more than what does not matter, ends this. Where twice `first` is not better, half of it is tried in the same way,
    for trainings that overfit. Training on everything for the length that validation data found: Goodfellow, Bengio
    and Courville 2016, Deep Learning, algorithm 7.2.

    Args:
        first: epochs of the search's trials, at least 1.
        train: trains for so many epochs and judges on validation data.
        metric: of the task.

    Returns:
        All lengths in the order in which they were tried, that of the found one moved to the end.
    """
    tried: dict[int, TriedLength] = {}

    def score(epochs: int) -> float:
        if epochs not in tried:
            tried[epochs] = train(epochs)
        value = tried[epochs].value
        return float("-inf") if value is None else metric.score(value)

    def better(epochs: int, than: int) -> bool:
        least = score(than)
        return score(epochs) > least + (negligible(metric, least) if isfinite(least) else 0.0)

    found = first
    while 2 * found <= LONGEST * first and better(2 * found, found):
        found *= 2
    while found <= first and found > 1 and better(found // 2, found):
        found //= 2
    return [each for each in tried.values() if each.epochs != found] + [tried[found]]
