"""The digits task, with every evaluation that a worker makes written down: what `run.py` counts."""

import multiprocessing
import os
from dataclasses import replace
from pathlib import Path

from torch import nn

from optitune import Task
from optitune.tasks.builtin import TASKS

LOG = "OPTITUNE_SOAK_LOG"
"""Where the file of lines is named."""


class Counted(nn.Module):
    """A network that appends a line to the log whenever it is about to be judged."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs):
        return self.network(inputs)

    def train(self, mode: bool = True) -> nn.Module:
        if not mode and multiprocessing.current_process().name.startswith("optitune-worker"):
            # one write of a few bytes to a file opened for appending is not torn by a kill
            log = os.open(os.environ[LOG], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(log, b"evaluated\n")
            os.close(log)
        return super().train(mode)


def make_task() -> Task:
    digits = TASKS["digits"].task(Path())
    return replace(digits, name="soak", model=lambda: Counted(digits.model()))
