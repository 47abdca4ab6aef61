"""The verdict on the runs of one task: which are paired, what does not matter, what is decided, what comes next."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from math import inf, isfinite
from statistics import fmean

from optitune.common.text import Unit, few, plural
from optitune.comparing.sentences import said
from optitune.errors import OptituneError, UsageError
from optitune.judging.columns import SHARES, Columns, words
from optitune.judging.epsilon import usual_epsilon
from optitune.judging.next_runs import NextRuns, advice, next_runs
from optitune.judging.request import JudgeRequest
from optitune.judging.results import Judgement
from optitune.judging.rows import TrainedRun
from optitune.statistics.choice import recommend
from optitune.statistics.runs import Run, RunId
from optitune.statistics.verdict import judge

UNEVEN = 3
"""Arms whose numbers of runs differ by more than this factor are named."""


def judged(
    task: str,
    trained: Sequence[TrainedRun],
    metric: str,
    sign: int,
    request: JudgeRequest,
    columns: Columns,
    percent: bool,
) -> Judgement:
    """The verdict on the runs of one task.

    Args:
        task: its name; empty where there is one alone.
        trained: its runs.
        metric: name of what is judged.
        sign: 1 where more is better, -1 where less is.
        request: what was asked for.
        columns: of the table.
        percent: whether the source says that values are shares.

    Raises:
        UsageError: an option does not fit the runs.
        OptituneError: too few runs ended.
    """
    arms = list(dict.fromkeys(run.arm for run in trained))
    values = {arm: [run.value for run in trained if run.arm == arm and run.value is not None] for arm in arms}
    known = [value for own in values.values() for value in own]
    if not any(len(own) > 1 for own in values.values()):
        where = f"task {task}" if task else "no arm"
        raise OptituneError(
            f"{trained[0].place}: {where} has no arm with two runs that ended, so that nothing is known of luck: train "
            "each at least 3 times"
        )
    share = bool(words(metric) & SHARES) and all(0 <= value <= 1 for value in known)
    unit = Unit(metric, percent=percent or share)
    limits = (-inf, inf)
    if words(metric) & SHARES and all(0 <= value <= 100 for value in known):
        limits = (0.0, 1.0 if share else 100.0)
    paired = _paired(trained, arms, request.paired, columns)
    runs = _runs(trained, arms, paired)
    counts = Counter(run.key.optimizer for run in runs)
    most = max(counts, key=lambda arm: counts[arm])
    if request.rounds is not None and counts[most] > request.rounds:
        raise UsageError(
            f"rounds = {request.rounds}: {most} has {counts[most]} runs{_on(task)}: give the number that was planned, "
            "or leave --rounds out"
        )
    if request.epsilon is not None:
        epsilon, epsilon_from = request.epsilon, "as asked for"
    else:
        epsilon, epsilon_from = usual_epsilon(metric, values, sign, unit)
    verdict = judge(runs, arms, sign, epsilon, request.rounds, limits, paired=paired, prefer=request.prefer)
    if verdict is None:
        raise OptituneError(f"{trained[0].place}: each arm{_on(task)} has a run that diverged: no arm can be taken")
    losses = {place.optimizer: place.regret for place in verdict.places if not place.out}
    choice = recommend(runs, verdict.leader, losses, epsilon, request.prefer)
    more = next_runs(verdict, dict(counts), request.rounds)
    return Judgement(
        task=task,
        unit=unit,
        sign=sign,
        runs=tuple(runs),
        verdict=verdict,
        choice=choice,
        epsilon_from=epsilon_from,
        paired=paired,
        rounds=request.rounds,
        sentence=said(verdict, unit, choice).sentence,
        advice=advice(verdict, more, request.rounds, _seeds(more, paired, columns), unit),
        next_runs=more,
        notes=tuple(_notes(trained, arms, values, paired, columns, request)),
        seconds={
            arm: fmean(times)
            for arm in arms
            if (times := [run.seconds for run in trained if run.arm == arm and run.seconds is not None])
        },
    )


def _on(task: str) -> str:
    return f" on {task}" if task else ""


def _paired(trained: Sequence[TrainedRun], arms: Sequence[str], asked: bool | None, columns: Columns) -> bool:
    """Whether runs of one seed are compared with each other: where every two arms share half of their seeds."""
    seeds = {arm: {run.seed for run in trained if run.arm == arm} for arm in arms}
    several = [own for own in seeds.values() if len(own) > 1]
    shared = columns.seed is not None and all(
        len(one & other) >= max(2, min(len(one), len(other)) / 2) for one, other in combinations(several, 2)
    )
    if asked and not shared:
        why = "no column is a seed" if columns.seed is None else f"the arms share too few values of '{columns.seed}'"
        raise UsageError(f"{why}: name the column with --seed, or leave --paired out")
    return shared and columns.paired if asked is None else asked


def _order(seed: str) -> tuple[bool, float, str]:
    """Numbers by size, before all texts."""
    whole = seed.lstrip("-").isdigit()
    return (not whole, float(seed) if whole else 0.0, seed)


def _runs(trained: Sequence[TrainedRun], arms: Sequence[str], paired: bool) -> list[Run]:
    """As the rows of a comparison: a round for each shared seed, or the runs of each arm numbered."""
    everybody = sorted({run.seed for run in trained}, key=_order)
    rounds = {seed: number for number, seed in enumerate(everybody)}
    found = []
    for arm in arms:
        own = sorted((run for run in trained if run.arm == arm), key=lambda run: _order(run.seed))
        for number, run in enumerate(own):
            found.append(
                Run(
                    key=RunId(rounds[run.seed] if paired else number, arm),
                    diverged="" if run.value is not None else "no finite value",
                    value=run.value or 0.0,
                    loss=run.value or 0.0,
                    seconds=run.seconds or 0.0,
                    state_bytes=0,
                    weight_bytes=0,
                    curve=run.curve,
                )
            )
    return found


def _seeds(more: NextRuns | None, paired: bool, columns: Columns) -> str:
    """From which seeds to train next, in words."""
    if not paired or more is None:
        return ", from new seeds"
    if isfinite(more.loss):
        return f", from new values of '{columns.seed}' that are the same for all"
    return f", from values of '{columns.seed}' that the others have"


def _notes(
    trained: Sequence[TrainedRun],
    arms: Sequence[str],
    values: Mapping[str, Sequence[float]],
    paired: bool,
    columns: Columns,
    request: JudgeRequest,
) -> list[str]:
    """What is peculiar to these runs."""
    notes = []
    seeds = {arm: {run.seed for run in trained if run.arm == arm} for arm in arms}
    least, most = min(arms, key=lambda arm: len(seeds[arm])), max(arms, key=lambda arm: len(seeds[arm]))
    if paired:
        everywhere = set.intersection(*seeds.values())
        if alone := sum(len(own - everywhere) for own in seeds.values()):
            notes.append(
                f"{plural(alone, 'run')} of a {columns.seed} that not all arms have count only against the arms that "
                "have it."
            )
    elif columns.paired:
        notes.append(f"The arms share too few values of '{columns.seed}', so that their runs are not paired.")
    if len(seeds[most]) > UNEVEN * len(seeds[least]):
        notes.append(
            f"{most} has {plural(len(seeds[most]), 'run')} and {least} {len(seeds[least])}: what is known of their "
            "difference hangs on the fewer."
        )
    if single := [arm for arm in arms if len(values[arm]) == 1]:
        notes.append(f"Of {few(single)} there is one run, so that nothing is known of its luck.")
    if same := [arm for arm, own in values.items() if len(own) > 1 and len(set(own)) == 1]:
        notes.append(f"All runs of {few(same)} came to the same value: did the seed reach the training?")
    several = {run.arm for run in trained if len(run.curve) > 1}
    ended = [run for run in trained if run.curve and run.value is not None]
    ends = {arm: [run.curve[-1].epoch for run in ended if run.arm == arm] for arm in arms if arm in several}
    if early := {arm: count for arm, own in ends.items() if (count := sum(end < max(own) for end in own))}:
        text = few([f"{plural(count, 'run')} of {arm}" for arm, count in early.items()])
        notes.append(
            f"The curves of {text} end at an earlier {columns.step} than others of the same arm; their last values "
            "count: remove those that were cut short."
        )
    if fell := {arm: count for arm, own in values.items() if (count := len(seeds[arm]) - len(own))}:
        text = few([f"{plural(count, 'run')} of {arm}" for arm, count in fell.items()])
        how = "never reached the target" if request.target is not None else "ended without a result"
        notes.append(f"{text} {how}, so that {'it is' if len(fell) == 1 else 'they are'} out.")
    return notes
