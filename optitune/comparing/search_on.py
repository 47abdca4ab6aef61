"""The command that goes on with a search where a comparison shows that an optimizer is not tuned to the end."""

from collections.abc import Sequence

from optitune.common.commands import option_words
from optitune.space.ranges import Float
from optitune.statistics.costs import Untuned
from optitune.statistics.runs import HALF, TWICE, Finalist
from optitune.study.records import FINISHED, TrialRecord
from optitune.study.settings import StudySettings

FURTHER = 10
"""By which factor a range is widened, beyond which a better value lies."""


def search_words(
    name: str, settings: StudySettings, records: Sequence[TrialRecord], finalist: Finalist, found: Untuned
) -> list[str]:
    """The words of a command that searches where other settings were better: half as many trials as there were.

    A study's ranges stay as they are. Where what was better lies outside, another study begins with its trials.

    Args:
        name: of the study.
        settings: of the study.
        records: its trials.
        finalist: the optimizer's configuration that was compared.
        found: what was better than that.
    """
    own = sum(row.outcome in FINISHED and row.from_study is None for row in records)
    more = max(len(settings.optimizers), own // 2)
    better = finalist.configuration.lr * {HALF: 0.5, TWICE: 2.0}.get(found.variant, 1.0)
    ranges = {(owner, key): each for owner, key, each in settings.space().owned()}
    searched = ranges.get((found.optimizer, "lr"))
    if not isinstance(searched, Float) or searched.contains(better):
        return ["search", *option_words({"--study": name, "--trials": own + more})]
    low, high = (
        (searched.low / FURTHER, searched.high) if better < searched.low else (searched.low, searched.high * FURTHER)
    )
    lr = f"{found.optimizer}.lr=[{low:.6g}, {high:.6g}]"
    return ["search", *option_words({"--study": f"{name}-2", "--from": name, "--set": lr, "--trials": more})]
