"""How long a search will still take, as far as its trials so far tell."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from statistics import median

from optitune.sampling.forecast import ENOUGH
from optitune.study.records import FINISHED, TrialRecord
from optitune.study.settings import StudySettings

LEAST = 3
"""How many trials must have been trained to say anything."""

PRUNED_SHARE = 0.12
"""What share of a whole training one that is pruned takes."""

OTHERS_SHARE = 0.5
"""What share a trial takes with a pruner of Optuna's."""

TRUST = 8.0
"""How many whole trainings the rule counts for against what trials really took."""

PAUSE = 3.0
"""By how many times its training, and seconds, a trial may take longer before it counts as stopped in between."""

IDLE_SHARE = 0.15
"""What share of a whole training each further worker waits at the end, when there are no trials left for it."""


def expected_share(own: int, finished: int, pruner: str) -> float:
    """What share of its epochs a trial is to be expected to train.

    The n-th of equally drawn trials is the best so far with probability 1/n. That one is trained in full, and of the
    others a share. The first of an optimizer has nothing to be measured against, nor have the first of a study.

    Args:
        own: how many trials its optimizer has had before it.
        finished: how many the study has had.
        pruner: of the study; only of ours is it known whom it keeps.
    """
    if own == 0 or finished < ENOUGH or pruner == "none":
        return 1.0
    if pruner != "optitune":
        return OTHERS_SHARE
    wins = 1 / (own + 1)
    return wins + (1 - wins) * PRUNED_SHARE


def time_left(
    records: Sequence[TrialRecord],
    doing: Sequence[tuple[str, float]],
    settings: StudySettings,
    target: int,
    workers: int,
) -> float | None:
    """Seconds until a study has all its trials; None while too little is known.

    Trials to come are expected to be as long as `expected_share` says, times by how much trials so far have been
    longer or shorter than that, and to take the time that those did.

    Args:
        records: of the study; those that have not ended are left out.
        doing: optimizer and epochs trained so far of each trial under way.
        target: how many finished trials the study is to have.
        workers: how many there are.
    """
    done = [row for row in records if row.outcome in FINISHED and row.optimizer]
    trained = [row for row in done if row.epochs and row.seconds]
    if len(trained) < LEAST:
        return None
    had: Counter[str] = Counter(dict.fromkeys(settings.optimizers, 0))

    def share_of_next(optimizer: str) -> float:
        had[optimizer] += 1
        return expected_share(had[optimizer] - 1, had.total() - 1, settings.pruner)

    taken = expected = TRUST
    for row in done:
        share = share_of_next(str(row.optimizer))
        if share < 1:
            expected += share
            taken += row.epochs / settings.epochs

    def epochs_of_next(optimizer: str) -> float:
        share = share_of_next(optimizer)
        return settings.epochs * (min(1.0, share * taken / expected) if share < 1 else 1.0)

    an_epoch, a_trial = _costs(trained)
    left, to_come = 0.0, max(0, target - len(done))
    for optimizer, so_far in doing[:to_come]:
        # of one that has come through an evaluation, the rest is as uncertain as all of it was before
        left += epochs_of_next(optimizer) * (1 - so_far / settings.epochs) * an_epoch + a_trial
    for _ in range(to_come - len(doing)):
        # every optimizer is given as many epochs, so that who is pruned more has more trials: about even is enough
        left += epochs_of_next(min(settings.optimizers, key=lambda name: had[name])) * an_epoch + a_trial
    idle = IDLE_SHARE * (workers - 1) * settings.epochs * an_epoch if to_come else 0.0
    return (left + idle) / workers


def _costs(trained: Sequence[TrialRecord]) -> tuple[float, float]:
    """Seconds that an epoch takes, by the longer trials; and what a trial takes beside, which short ones show."""
    half = max(row.epochs for row in trained) / 2
    longer = [row for row in trained if row.epochs > half]
    an_epoch = sum(_span(row) for row in longer) / sum(row.epochs for row in longer)
    beside = [_span(row) - row.epochs * an_epoch for row in trained if row.epochs <= half]
    return an_epoch, max(0.0, median(beside or [0.0])) + _between(trained)


def _span(row: TrialRecord) -> float:
    """Seconds from a trial's begin to its end; of one that was stopped and taken up again later, only its training."""
    seconds = row.seconds or 0.0
    if row.began is None or row.ended is None:
        return seconds
    span = (row.ended - row.began).total_seconds()
    return span if seconds <= span < PAUSE * seconds + PAUSE else seconds


def _between(trained: Sequence[TrialRecord]) -> float:
    """Seconds from the end of a trial to the begin of the next."""
    ends = sorted(row.ended for row in trained if row.ended)
    begins = [row.began for row in trained if row.began]
    waits = [(begin - ends[place - 1]).total_seconds() for begin in begins if (place := bisect_right(ends, begin))]
    return median(waits) if waits else 0.0


ROUND = ((90, 5, 1, "s"), (600, 30, 60, "min"), (5400, 60, 60, "min"), (86_400, 1800, 3600, "h"))
"""Up to how many seconds a time is told in steps of how many, in which unit."""


def roughly(seconds: float) -> str:
    """A time that is only about right, without digits that would say more."""
    for below, step, unit, name in ROUND:
        if seconds < below:
            return f"{max(1, round(seconds / step)) * step / unit:g} {name}"
    return f"{seconds / 86_400:.2g} d"
