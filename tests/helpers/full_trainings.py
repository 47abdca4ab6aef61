"""What tests of full trainings share: a small study, its results, and a worker that is killed."""

import json
import os
import signal
from pathlib import Path
from typing import Any

from optitune.cli.main import run
from optitune.retraining import worker as retrain_worker
from optitune.retraining.events import SeedFinished, SeedProgress
from optitune.workers.events import Event
from optitune.workers.pool import Channel


def search_digits(place: Path) -> None:
    """Make a small study of digits in a folder of studies."""
    words = [
        "search",
        "--task",
        "digits",
        "--epochs",
        "2",
        "--trials",
        "3",
        "--optimizers",
        "sgd,adam,adadelta",
        "--quiet",
        "--studies-dir",
    ]
    assert run([*words, str(place)]) == 0


def results(folder: Path, name: str = "best") -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "digits" / "retrain" / name / "metrics.json").read_text())
    return document


def killed_at_every_step(channel: Channel, *arguments: Any) -> None:
    """A worker that the system kills whenever it has got further."""
    send = channel.send

    def and_die(event: Event) -> None:
        send(event)
        if isinstance(event, SeedFinished) or (isinstance(event, SeedProgress) and event.fresh):
            os.kill(os.getpid(), signal.SIGKILL)

    channel.send = and_die  # type: ignore[method-assign]
    retrain_worker.work(channel, *arguments)
