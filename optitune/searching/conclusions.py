"""What a search may conclude of itself: what tuning brought, and whether to go on."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from optitune.common.text import Unit
from optitune.sampling.parameters import known_good
from optitune.statistics.tuning import Outlook, Tuning, outlook, tuning
from optitune.study.records import TrialRecord
from optitune.study.settings import StudySettings


@dataclass(frozen=True)
class Conclusions:
    """What the trials of a study show together.

    Attributes:
        tuning: what tuning brought; None where too little was repeated to know.
        outlook: why more trials would hardly help; None where they may.
    """

    tuning: Tuning | None
    outlook: Outlook | None

    def sentences(self, unit: Unit) -> list[str]:
        """Both in words, none where nothing is known."""
        return [each.sentence(unit) for each in (self.tuning, self.outlook) if each is not None]

    def document(self, unit: Unit) -> dict[str, Any]:
        """Both as `--json` prints them."""
        return {
            name: {**asdict(each), "sentence": each.sentence(unit)} if each is not None else None
            for name, each in (("tuning", self.tuning), ("stop", self.outlook))
        }


def conclusions(settings: StudySettings, records: Sequence[TrialRecord]) -> Conclusions:
    """Conclude from a study's trials.

    Args:
        settings: of the study.
        records: its trials, finished and running.
    """
    return Conclusions(tuning(records, known_good(settings)), outlook(records))
