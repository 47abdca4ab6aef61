"""What each stage that trains is asked for: the study, the data, the worker processes and the device."""

from dataclasses import dataclass
from pathlib import Path

from optitune.common.files import data_folder
from optitune.storage.studies import StudyLocation
from optitune.tasks import loading
from optitune.tasks.task import Task


@dataclass(frozen=True, kw_only=True)
class StageRequest:
    """A stage to run, as the command line and the functions for Python ask for it.

    Attributes:
        home: where the study lives.
        data_dir: where torchvision's files lie; None for the user's cache folder.
        workers: how many worker processes train; None to choose.
        device: `auto`, or as torch names it.
        ranks: how many processes train each trial of a loop of the user's own together.
        task: what to train where that is no built-in task and no `FILE.py:FUNCTION`.
    """

    home: StudyLocation
    data_dir: Path | None = None
    workers: int | None = None
    device: str = "auto"
    ranks: int = 1
    task: Task | None = None

    def located(self, task: str, typed: bool = False) -> str:
        """The name of a task with its file as it is found from the study's place; see `loading.located`."""
        return loading.located(task, self.home.folder.parent, typed)

    @property
    def data_folder(self) -> Path:
        """The folder that `data_dir` comes to."""
        return data_folder(self.data_dir)
