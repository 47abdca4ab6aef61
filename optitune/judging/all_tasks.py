"""The verdict over all tasks, each of which is one round of a paired comparison."""

from collections import Counter
from collections.abc import Mapping, Sequence
from math import inf, log, sqrt
from statistics import fmean, median, variance

from optitune.common.text import Unit, few
from optitune.comparing.sentences import said
from optitune.judging.columns import SHARES, words
from optitune.judging.ratios import RatioUnit
from optitune.judging.results import Judgement
from optitune.judging.rows import TrainedRun
from optitune.statistics.choice import Recommendation
from optitune.statistics.runs import Run, RunId
from optitune.statistics.sequential_test import MOST_PLANNED
from optitune.statistics.verdict import judge

FEW_TASKS = 10
"""Below so many tasks a verdict over all says how little they say."""


def over_all(tasks: Mapping[str, Sequence[TrainedRun]], metric: str, sign: int) -> Judgement | None:
    """The verdict over all tasks, a round each: the mean of each arm's runs, made comparable between tasks.

    Positive values of which less is better, and what an accuracy lacks to 1, by their logarithm, so that differences
    are shares of the value; others in units of the task's standard deviation from seed to seed.

    Args:
        tasks: the runs of each.
        metric: name of what is judged.
        sign: 1 where more is better, -1 where less is.

    Returns:
        None where fewer than 3 tasks have values that can be compared, or each arm diverged on one.
    """
    arms = list(dict.fromkeys(run.arm for own in tasks.values() for run in own))
    known = [run.value for own in tasks.values() for run in own if run.value is not None]
    accuracy = bool(words(metric) & SHARES) and sign == 1
    highest = (1.0 if max(known) <= 1 else 100.0) if accuracy else inf
    if accuracy and all(0 <= value < highest for value in known):
        form, how = "log", f"what {metric} lacks to {highest:g}, relative to the task's best"
    elif sign == -1 and min(known) > 0:
        form, how, highest = "log", f"{metric} relative to the task's best", 0.0
    else:
        form, how = "sd", f"{metric} behind the task's best, in standard deviations from seed to seed"
    runs = []
    for number, own in enumerate(tasks.values()):
        by_arm = {arm: each for arm in arms if (each := [run.value for run in own if run.arm == arm])}
        whole = {arm: [value for value in each if value is not None] for arm, each in by_arm.items()}
        whole = {arm: each for arm, each in whole.items() if len(each) == len(by_arm[arm])}
        spreads = [variance(each) for each in whole.values() if len(each) > 1]
        spread = sqrt(median(spreads)) if spreads else 0.0
        if not whole or (form == "sd" and not spread):
            continue
        # less is better: how far behind the task's best
        far = {
            arm: log(abs(highest - fmean(each))) if form == "log" else -sign * fmean(each) / spread
            for arm, each in whole.items()
        }
        best = min(far.values())
        for arm in by_arm:
            value = far.get(arm, best) - best
            runs.append(Run(RunId(number, arm), "" if arm in far else "no result", value, value, 0.0, 0, 0, ()))
    count = len({run.key.round for run in runs})
    if count < 3:
        return None
    unit = RatioUnit(how) if form == "log" else Unit(how)
    epsilon, source = (log(1.01), "1 % of the value") if form == "log" else (0.5, "half of what another seed changes")
    # the tasks were there before anybody looked
    planned = count if count <= MOST_PLANNED else None
    verdict = judge(runs, arms, -1, epsilon, planned, until="clear")
    if verdict is None:
        return None
    little = f" {count} tasks say little of others" if count < FEW_TASKS else f" {count} tasks are some of many"
    counts = Counter(run.key.optimizer for run in runs)
    notes = [
        f"Over all tasks, each is one round of a paired comparison: the mean of an arm's runs, as {how}.{little}: "
        "what holds over these need not hold on the next one."
    ]
    if less := [arm for arm in arms if counts[arm] < count]:
        notes.append(f"{few(less)} did not run on every task and {'is' if len(less) == 1 else 'are'} judged on fewer.")
    return Judgement(
        task="",
        unit=unit,
        sign=-1,
        runs=tuple(runs),
        verdict=verdict,
        choice=Recommendation(verdict.leader, verdict.leader),
        epsilon_from=source,
        paired=True,
        rounds=planned,
        tasks=count,
        sentence=f"Over all {count} tasks: {said(verdict, unit).sentence}",
        advice="Only more tasks say more." if verdict.status == "undecided" else "No further runs are needed.",
        next_runs=None,
        notes=tuple(notes),
        seconds={},
    )
