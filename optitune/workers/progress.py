"""Progress of trainings across deaths of their workers: whether a training gets further than before."""

from collections.abc import Hashable

from optitune.workers.events import Event


class ProgressTracker:
    """Whether an event shows more progress of its training than any event before.

    What is trained again after a death does not count: a training that dies at the same place each time would never
    be given up, and one that gets further each time is not to be.
    """

    def __init__(self) -> None:
        self._places: dict[Hashable, float] = {}

    def __call__(self, event: Event) -> bool:
        """Whether this one does; to be asked once for each event."""
        if event.place is None:
            return False
        training, place = event.place
        further = place > self._places.get(training, 0.0)
        if further:
            self._places[training] = place
        return further
