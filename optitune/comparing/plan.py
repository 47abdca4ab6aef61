"""Who is compared, and how: from a study to the plan of its comparison."""

from collections.abc import Container, Iterable, Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from optitune.common.text import plural
from optitune.errors import OptituneError, UsageError, unknown
from optitune.sampling.parameters import known_good
from optitune.statistics.runs import Finalist, Plan, RunId
from optitune.statistics.sequential_test import FIRST_LOOK
from optitune.study.records import TrialRecord, standings
from optitune.study.settings import StudySettings
from optitune.study.steps import evaluations_per_epoch
from optitune.tasks.metrics import Metric, correct, r2

if TYPE_CHECKING:
    from torch import Tensor

ROUNDS = 13
"""How many rounds a comparison has at most: so many parts of the data are each held out once."""

FIRST = FIRST_LOOK
"""How many rounds all finalists are given before any can be out: the first look is after them."""

SEEDS_APART = 2_000_003
"""Comparisons use seeds far from the search's and from those of full trainings."""

FEWEST_HELD_OUT = 10
"""Of fewer examples no round is made: there are fewer rounds then."""

PRACTICAL: Mapping[object, float] = {correct: 0.001, r2: 0.001}
"""What difference does not matter, by what is computed: a metric of that name may be in another unit."""

PRACTICAL_SHARE = 0.01
"""The same for other metrics, at most, as a share of the best value that the search found."""

PRACTICAL_SPREAD = 0.1
"""The same for other metrics, as a share of the spread of what the search found: a loss may have any offset."""


class Epsilon(NamedTuple):
    """What difference does not matter.

    Attributes:
        value: in the metric's unit.
        origin: where it comes from, in words.
    """

    value: float
    origin: str


def finalists(
    records: Sequence[TrialRecord], settings: StudySettings, asked: Sequence[str] | None, epochs: int
) -> tuple[tuple[Finalist, ...], tuple[str, ...]]:
    """The best configuration of each optimizer, and the optimizers that have none.

    Args:
        records: the study's trials.
        settings: the study's settings.
        asked: names of the optimizers to compare; None for all of the study.
        epochs: length of a run; configurations of the search are stretched to it.

    Raises:
        UsageError: an optimizer that was asked for is not in the study.
        OptituneError: there is nothing to compare.
    """
    for name in asked or ():
        if name not in settings.optimizers:
            raise unknown("optimizer of this study", name, settings.optimizers)
    ratio, start = epochs / settings.epochs, known_good(settings)
    found, without = [], []
    for row in standings(records, asked or settings.optimizers):
        if row.best is None or row.best.configuration is None or row.best.value is None:
            without.append(row.optimizer)
            continue
        found.append(
            Finalist(
                trial=row.best.number,
                value=row.best.value,
                configuration=row.best.configuration.stretched(ratio),
                known_good=start[row.optimizer].stretched(ratio),
            )
        )
    if len(found) < 2:
        there = f"only {found[0].optimizer} has" if found else "no optimizer has"
        raise OptituneError(
            f"there is nothing to compare: {there} a complete trial; search more trials, or compare more optimizers"
        )
    return tuple(found), tuple(without)


def make_plan(
    settings: StudySettings,
    who: tuple[Finalist, ...],
    metric: Metric,
    total: int,
    epochs: int,
    seed: int,
    facts: Mapping[str, Any],
    judged: int | None = None,
    groups: "Tensor | None" = None,
) -> Plan:
    """The plan of a comparison.

    Args:
        settings: of the study.
        who: is compared.
        total: how many examples may be trained on and held out.
        epochs: of a run.
        seed: another seed, other runs.
        facts: of data and network.
        judged: how many validation examples of their own there are; None to hold out others in every round.
        groups: of the examples, where they are split by groups.

    Raises:
        UsageError: there are too few examples.
    """
    by_time, number = facts.get("split") == "time", None if groups is None else len(set(groups.tolist()))
    # by time half of the examples are there for the earliest round to train on
    blocks = total // 2 if by_time else total
    rounds = ROUNDS if judged else min(ROUNDS, blocks // FEWEST_HELD_OUT, number or ROUNDS)
    if rounds < 2:
        least = "20 of two groups" if number is not None else "40" if by_time else "20"
        there = f"{total} examples" + (f" of {plural(number, 'group')}" if number is not None else "")
        raise UsageError(f"{there} are too few to hold out other ones in every round: at least {least} are needed")
    held = judged or blocks // rounds
    most = total if judged else total - (rounds if by_time else 1) * held
    if groups is not None and not judged:
        from optitune.tasks.grouping import group_folds

        most = total - int(group_folds(groups, rounds).bincount().max())
    training = min(settings.train_examples or total, most)
    assert settings.precision != "auto"
    return Plan(
        task=settings.task,
        finalists=who,
        epochs=epochs,
        precision=settings.precision,
        seed=settings.seed + SEEDS_APART + 1000 * seed,
        metric=metric.name,
        train_examples=training,
        held_out=held,
        rounds=rounds,
        evaluations=evaluations_per_epoch(training, held, held),
        **facts,
    )


def practical(
    metric: Metric, who: Sequence[Finalist], records: Iterable[TrialRecord] = (), ratio: float = 1.0
) -> Epsilon:
    """What difference does not matter, if nothing is said of it.

    Of a metric without a usual one it is a tenth of how far the median of the finalists and of their known-good
    settings is behind the best of them, as the search found them: half of them may be hopeless without any effect.

    Args:
        metric: of the task.
        who: is compared.
        records: the study's trials.
        ratio: length of a run as a multiple of a trial's, to which the finalists are stretched.
    """
    scores = [metric.score(each.value) for each in who]
    limit = negligible(metric, max(scores))
    if metric.computes in PRACTICAL:
        return Epsilon(limit, f"the usual one for {metric.name}")
    known = {each.optimizer: each.known_good for each in who if not each.untuned}
    for row in records:
        config = row.configuration
        if row.value is None or config is None or config.stretched(ratio) != known.get(row.optimizer or ""):
            continue
        scores.append(metric.score(row.value))
        del known[config.optimizer.name]
    spread = PRACTICAL_SPREAD * (max(scores) - median(scores))
    if 0 < spread < limit:
        return Epsilon(spread, "a tenth of how far the median of tuned and known-good settings was behind the best")
    return Epsilon(limit, "1 % of the best value of the search")


def negligible(metric: Metric, best: float) -> float:
    """The difference from a value that matters so little that nobody would train longer for it, in its unit."""
    return PRACTICAL.get(metric.computes, PRACTICAL_SHARE * abs(best))


def step(wanted: Sequence[str], done: Container[RunId], rounds: int, workers: int = 1) -> list[RunId]:
    """The next runs: the next round of those wanted, or the next two where otherwise workers would wait.

    Args:
        wanted: of whom another round would decide something.
        done: the runs there are.
        rounds: how many there are at most.
        workers: how many runs are trained at once.
    """
    lacking = [number for number in range(rounds) if any(RunId(number, name) not in done for name in wanted)]
    several = 2 if workers >= 2 * len(wanted) else 1
    return [RunId(number, name) for number in lacking[:several] for name in wanted if RunId(number, name) not in done]


def opening(optimizers: Sequence[str], done: Container[RunId], rounds: int) -> list[RunId]:
    """The runs of the first rounds that are not done yet.

    Args:
        optimizers: names of the finalists.
        done: the runs that are done.
        rounds: how many rounds there are at most.
    """
    first = [RunId(number, name) for number in range(min(FIRST, rounds)) for name in optimizers]
    return [key for key in first if key not in done]
