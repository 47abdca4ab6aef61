"""How far trainings have got: by this one that dies at the same place again and again is told from one that goes on."""

from math import inf
from typing import Any

from optitune.workers.pool import Event


class Furthest:
    """Which events show a training further than it has ever been.

    What is trained again after a death does not count: a training that dies at the same place each time would never
    be given up, and one that gets further each time is not to be.

    Args:
        of: under which name an event has its training.
    """

    def __init__(self, of: str) -> None:
        self._of = of
        self._places: dict[Any, float] = {}

    def __call__(self, event: Event) -> bool:
        """Whether this one does; to be asked once for each event."""
        if event.kind not in ("progress", "finished"):
            return False
        training = event.body[self._of]
        place = inf if event.kind == "finished" else event.body["epoch"]
        further: bool = place > self._places.get(training, 0.0)
        if further:
            self._places[training] = place
        return further
