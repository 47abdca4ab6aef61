"""What tests of faults share: commands in processes of their own, tasks with a fault, and what a study then holds."""

import os
import subprocess
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from forked_commands import to_end
from optuna.trial import FrozenTrial, TrialState

from optitune.storage import studies, trials
from optitune.storage.artifacts import FOLDER
from optitune.storage.urls import open_storage, sqlite_url

HANG_S = 300
"""No command of these tests takes nearly as long; it only keeps a hang from lasting for ever."""

TASK = '''
"""The digits with a fault. Everything before workers train goes well, or the command would be refused at once."""

import multiprocessing
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from optitune.tasks.builtin import TASKS

DIGITS = TASKS["digits"].task(Path())


def in_a_worker():
    return multiprocessing.current_process().name.startswith("optitune-worker")


HERE = Path(__file__).parent
trainings = 0
rate = 0.0


def noted(optimizer, *_):
    global rate
    rate = optimizer.param_groups[0]["lr"]


def once(name):
    try:
        (HERE / name).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


class Faulty(nn.Module):
    def __init__(self):
        global rate
        super().__init__()
        self.network = DIGITS.model()
        self.begun = False
        rate = 0.0

    def forward(self, inputs):
        global trainings
        if in_a_worker() and self.training and not self.begun:
            self.begun = True
            trainings += 1
            with (HERE / "trainings.log").open("a") as log:
                log.write(f"{os.getpid()}\\n")
        if in_a_worker() and (FAULT):
            CONSEQUENCE
        return self.network(inputs)


if in_a_worker():
    register_optimizer_step_pre_hook(noted)


def make_task():
    return replace(DIGITS, name="faulty", model=Faulty)
'''

ADAM = "abs(rate - 0.001) < 1e-9"
"""In Adam's first trial of a search of constant schedules, and in no other."""


def faulty_task(folder: Path, fault: str, consequence: str) -> str:
    """A task that does `consequence`, a statement, in every forward pass of a worker in which `fault` holds."""
    path = folder / "faulty.py"
    path.write_text(TASK.replace("FAULT", fault).replace("CONSEQUENCE", consequence))
    return f"{path}:make_task"


def trainings_begun(folder: Path) -> int:
    """How often a worker began to train a network of the task in `folder`; a network only looked at does not count."""
    return len((folder / "trainings.log").read_text().splitlines())


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """The environment without settings of optitune's that whoever runs the tests may have."""
    return {name: value for name, value in os.environ.items() if not name.startswith("OPTITUNE_")} | dict(extra)


def command(
    *words: object,
    folder: Path,
    extra: Mapping[str, str] = {},
    before: Callable[[], None] | None = None,
    forked: bool = True,
) -> subprocess.CompletedProcess[str]:
    """An optitune command on the studies in `folder`, run to its end.

    Args:
        extra: of its environment.
        before: called in the new process before it becomes the command.
        forked: False where what `before` does takes effect when a program is begun.
    """
    words = (*words, "--studies-dir", folder)
    return to_end(words, HANG_S, forked=forked, env=environment(extra), preexec_fn=before)


@dataclass(frozen=True)
class Held:
    """What a study in a folder holds."""

    trials: list[FrozenTrial]

    @property
    def finished(self) -> int:
        return sum(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in self.trials)

    @property
    def states(self) -> Counter[str]:
        return Counter(trial.state.name for trial in self.trials)

    @property
    def reasons(self) -> list[str]:
        """Of the trials that failed."""
        return [trial.user_attrs[trials.REASON] for trial in self.trials if trial.state == TrialState.FAIL]


def held(folder: Path, name: str) -> Held:
    """What the study of that name holds."""
    storage = open_storage(sqlite_url(folder / name / "study.db"), create=False)
    return Held(studies.find(storage, name).get_trials(deepcopy=False))


def only_error(ended: subprocess.CompletedProcess[str]) -> str:
    """The one line that tells why a command could not do it."""
    *_, line = ended.stderr.splitlines()
    assert ended.returncode == 1, ended.stderr
    assert line.startswith("error: "), ended.stderr
    assert "Traceback" not in ended.stderr
    assert "a fault of optitune's own" not in ended.stderr
    return line


def files_in(folder: Path) -> set[str]:
    """All files below `folder` that are no database's, no lock's, and not shown by the dashboard alone."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.parent.name != FOLDER)
    return {
        str(path.relative_to(folder)) for path in found if ".db" not in path.name and not path.name.endswith(".lock")
    }


def scratch_files(folder: Path) -> list[Path]:
    """What was being written when a process ended."""
    return [path for path in folder.rglob(".*") if path.is_file()]
