"""Workers of a test, run to their end."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optitune.workers.events import Event
from optitune.workers.pool import Channel, Pool


@dataclass(frozen=True)
class Began(Event):
    number: int = 0


@dataclass(frozen=True)
class Ended(Event):
    body: Any = None


def until_stopped(channel: Channel, folder: Path) -> None:
    channel.send(Began(channel.worker))
    while not channel.stopping():
        time.sleep(0.02)
    (folder / f"left-{channel.worker}").touch()


def run(target: Callable[..., None], jobs: list[tuple], on_event: Callable[[Event], None] = lambda _: None) -> list:
    events: list[Event] = []

    def handle(event: Event) -> None:
        events.append(event)
        on_event(event)

    Pool(target, jobs, handle, lambda: None).run()
    return events
