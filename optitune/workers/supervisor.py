"""Supervisor of workers: listens to them, replaces those that die, and stops them when the user says so."""

import signal
import sys
import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from optitune.errors import Interrupted, OptituneError, UsageError
from optitune.tasks.user_code import raised_from
from optitune.workers.child_process import signals
from optitune.workers.events import Done, Event, Failed, Output, RankDied, Retired

DEATHS_IN_A_ROW = 3
"""How often a worker, and those that took its place, may die without a sign of life in between."""


class Supervisor(ABC):
    """Workers of any kind: listened to, replaced when they die, stopped when the user says so.

    Args:
        size: how many there are.
        on_event: called for every event of the workers.
        on_tick: called a few times a second.
        on_death: called with a worker that died by itself and of what; whether that is dealt with. What is not
            may happen to each `DEATHS_IN_A_ROW` times without a sign of life in between.
        sign_of_life: whether an event shows that its worker gets on.
    """

    def __init__(
        self,
        size: int,
        on_event: Callable[[Event], None],
        on_tick: Callable[[], None],
        on_death: Callable[[int, str], bool],
        sign_of_life: Callable[[Event], bool],
    ) -> None:
        self._size = size
        self._on_event = on_event
        self._on_tick = on_tick
        self._on_death = on_death
        self._sign_of_life = sign_of_life
        self._done: set[int] = set()
        self._retired: set[int] = set()
        self._error: OptituneError | None = None
        self._asked = 0
        self._deaths: Counter[int] = Counter()
        self._causes: dict[int, str] = {}

    def run(self) -> None:
        """Start the workers and return when all are done.

        Raises:
            Interrupted: the user stopped them; the first signal lets every worker reach its next
                evaluation, the second ends them at once.
            OptituneError: a worker failed, or workers keep dying.
        """
        with self._signals_handled():
            try:
                for worker in range(self._size):
                    if not self._asked:
                        self._start(worker)
                while self._living():
                    self._listen()
                    self._on_tick()
            finally:
                self._end()
        if self._error is not None:
            raise self._error
        if self._asked:
            raise Interrupted("stopped")

    def asked(self) -> bool:
        """Whether the user has asked for an end."""
        return self._asked > 0

    @abstractmethod
    def stop(self) -> None:
        """Ask every worker to stop at its next occasion. Called from a signal's handler, too."""

    @abstractmethod
    def kill(self, worker: int) -> None:
        """End a worker at once; another one takes its place. Called from a signal's handler, too."""

    @abstractmethod
    def kill_if(self, worker: int, still: Callable[[], bool]) -> None:
        """End a worker at once if `still` says so when all that it has sent so far has been read."""

    @abstractmethod
    def _start(self, worker: int) -> None: ...

    @abstractmethod
    def _living(self) -> list[int]: ...

    @abstractmethod
    def _listen(self) -> None:
        """Wait for a moment at most, handle the events of workers, and part with those that have gone."""

    @abstractmethod
    def _end(self) -> None:
        """Leave no worker behind."""

    def _handle(self, event: Event) -> None:
        match event:
            case Output(text=text):
                # a screen that is drawn meanwhile makes room for it
                with suppress(OSError, ValueError):
                    print(text, file=sys.stderr, flush=True)
            case Done(worker=worker, stopped=stopped):
                # one that somebody else has stopped leaves its work to another; whether that was this process is known
                # when it has gone
                if worker not in self._retired and not stopped:
                    self._done.add(worker)
            case RankDied(worker=worker, cause=cause):
                self._causes[worker] = cause
            case Failed(worker=worker, message=message):
                self._done.add(worker)
                if self._error is None:
                    kind = UsageError if event.usage else OptituneError
                    self._error = raised_from(kind(message), event.bug)
                self.stop()
            case _:
                if self._sign_of_life(event):
                    del self._deaths[event.worker]
                if isinstance(event, Retired):
                    self._retired.add(event.worker)
                self._on_event(event)

    def _parted(self, worker: int, cause: str) -> None:
        """See to it that another takes the place of a worker that has gone, unless its work is done."""
        cause = self._causes.pop(worker, cause)
        if worker in self._done or self._asked or self._error is not None:
            return
        if worker in self._retired:
            self._retired.remove(worker)
        elif not self._on_death(worker, cause):
            self._deaths[worker] += 1
        if self._deaths[worker] < DEATHS_IN_A_ROW:
            self._start(worker)
        else:
            self._error = OptituneError(
                f"workers died {self._deaths[worker]} times in a row ({cause}); what was finished is kept"
            )
            self.stop()

    @contextmanager
    def _signals_handled(self) -> Iterator[None]:
        def handle(number: int, frame: Any) -> None:
            self._asked += 1
            if self._asked == 1:
                self.stop()
            else:
                for worker in self._living():
                    self.kill(worker)

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        # a closed terminal means nothing to what was begun with nohup
        handled = [each for each in signals if each == signal.SIGINT or signal.getsignal(each) != signal.SIG_IGN]
        before = {number: signal.signal(number, handle) for number in handled}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
