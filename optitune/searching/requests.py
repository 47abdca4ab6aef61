"""What a search, and a machine that joins one, are asked for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from optitune.storage.request import StageRequest
from optitune.storage.studies import StudyLocation


@dataclass(frozen=True, kw_only=True)
class JoinRequest(StageRequest):
    """To train trials of a study.

    Attributes:
        timeout: seconds after which no further trial is begun; None for never, or for what the study's file says.
        trial_timeout: seconds that a worker may be at one trial; None for as long as it takes.
    """

    timeout: float | None = None
    trial_timeout: float | None = None


@dataclass(frozen=True, kw_only=True)
class SearchRequest(JoinRequest):
    """To make a study, or to go on with it; with 0 workers the training is left to workers elsewhere.

    Attributes:
        settings: of the study, as far as they were typed, by key.
        trials: how many finished trials of its own the study is to have; None for what its file says, or the default.
        cluster: the Ray cluster that is to train, as a user types it; None for this machine.
        from_study: whose trials a new study begins with, as far as they lie in its search space; None for no study's.
        accept_changes: whether the user says that what has changed of the task's code makes no difference.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    trials: int | None = None
    cluster: str | None = None
    from_study: StudyLocation | None = None
    accept_changes: bool = False
