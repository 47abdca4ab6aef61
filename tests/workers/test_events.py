"""Events between processes: every class of them crosses, whatever stage it is of."""

import pickle
from collections.abc import Iterator
from dataclasses import fields

from optitune.workers.events import Event
from optitune.workers.pool import WORKER_MODULES


def classes(of: type[Event] = Event) -> Iterator[type[Event]]:
    for each in of.__subclasses__():
        yield each
        yield from classes(each)


def test_every_event_pickles() -> None:
    for module in (*WORKER_MODULES[:3], "optitune.searching.ray_backend.actor", "optitune.searching.reproducible_data"):
        __import__(module)
    found = [each for each in classes() if each.__module__.startswith("optitune.")]
    assert len(found) > 12
    for each in found:
        event = each(*range(len(fields(each))))
        assert pickle.loads(pickle.dumps(event)) == event  # noqa: S301 our own, written a moment ago
