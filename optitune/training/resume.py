"""The record of a training: it keeps a checkpoint now and then, goes on from it after a stop or a kill, and ends it."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from optitune.common import checkpoint
from optitune.errors import OptituneError
from optitune.training.evaluation import Evaluation
from optitune.training.plan import Plan
from optitune.training.progress import Progress


class Stopped(BaseException):
    """Ends a training from within its report; no `Exception`, so that code which catches those lets it pass."""


class Trains(Protocol):
    """What can be trained: a task of ours by the engine, or a loop of the user's own."""

    def drive(self, run: Any) -> None:
        """Train, and report to the run; it raises `Stopped` where the training is to end."""


class Keeps(Protocol):
    """What a checkpoint is made of."""

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to go on from the last report."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""

    def outline(self) -> dict[str, Any]:
        """What a checkpoint says of its weights."""


Report = Callable[[list[Progress], bool], bool]
"""Called with all evaluations so far, one object that grows, those of earlier processes included, and whether the last
one is new: after a checkpoint was taken up, its own last one is not. Returns whether the training is to end here."""


class Record:
    """What a stage knows of a training.

    What is due to be kept is kept before the stage sees it.

    Args:
        plan: of the training.
        report: see `Report`.
        stopping: asked at every evaluation but the last one; if so, the training is kept and ends there.
        path: of the checkpoint; None to keep none.
        identity: all that decides the training's numbers, as plain JSON values; a checkpoint of another identity is
            not taken up, nor is a damaged one.
        wait: from the seconds that the last checkpoint took (0 at the begin) to those until the next; default: a
            checkpoint at every evaluation.
        durable: wait for the disk. Without, a crash of the machine may damage the checkpoint, and the training begins
            anew.
        keep_end: keep the end, too, for what is made of it.

    Attributes:
        history: all evaluations.
        ended: whether the training was ended within its report.
    """

    def __init__(
        self,
        plan: Plan,
        report: Report,
        stopping: Callable[[], bool],
        path: Path | None = None,
        identity: Any = None,
        *,
        wait: Callable[[float], float] = lambda took: 0.0,
        durable: bool = True,
        keep_end: bool = False,
    ) -> None:
        self.plan = plan
        self.history: list[Progress] = []
        self._report = report
        self._stopping = stopping
        self._path = path
        self._identity = identity
        self._wait = wait
        self._durable = durable
        self._keep_end = keep_end
        self._keeps: Keeps | None = None
        self._due = 0.0
        self.ended = False
        self._cause: BaseException | None = None

    @property
    def done(self) -> bool:
        """Whether the plan was trained to its end."""
        return bool(self.history) and self.history[-1].epoch == self.plan.epochs

    @property
    def seconds(self) -> float:
        """Spent in the training until its last evaluation."""
        return self.history[-1].seconds if self.history else 0.0

    def run(self, training: Trains) -> None:
        """Train what is left of the plan, from the checkpoint if there is one.

        Raises:
            Diverged: the loss became nan or infinite.
            OptituneError: the checkpoint cannot be written.
        """
        self._due = time.perf_counter() + self._wait(0.0)
        try:
            training.drive(self)
        except Stopped:
            if not self.ended:
                raise
        except Exception:
            # on the way out, where it has ended for another reason
            if not self.ended:
                raise
        if self._cause is not None:
            # here, whatever the user's own code has made of it on its way
            raise self._cause

    def take_up(self, keeps: Keeps, steps_per_epoch: int = 1) -> bool:
        """Put a training where its checkpoint left it, if there is one; to be called once, at its begin.

        Returns:
            whether there was one.

        Raises:
            Stopped: the training ends there.
        """
        self._keeps = keeps
        found = self._stored(steps_per_epoch)
        if found is None:
            return False
        keeps.load_state_dict(found[1])
        self.history[:] = found[0]
        self._tell(False)
        return True

    def progress(self, progress: Progress) -> None:
        """An evaluation was made.

        Raises:
            Stopped: the training ends here.
        """
        self.history.append(progress)
        began, kept = time.perf_counter(), False
        if self._path is not None and (self._keep_end if self.done else began >= self._due):
            self._keep()
            kept = True
            self._due = (now := time.perf_counter()) + self._wait(now - began)
        self._tell(True, kept)

    def stop(self, cause: BaseException | None = None) -> None:
        """End the training where it is.

        Args:
            cause: raised once the training's own code has been left.

        Raises:
            Stopped: always.
        """
        self.ended, self._cause = True, cause if self._cause is None else self._cause
        raise Stopped

    def _tell(self, new: bool, kept: bool = True) -> None:
        try:
            end = self._report(self.history, new) or (self.done and not new)
            if not end and not self.done and self._stopping():
                end = True
                if self._path is not None and not kept:
                    self._keep()
        except BaseException as cause:
            self.stop(cause)
        if end:
            self.stop()

    def relay(self, rows: list[Progress], new: bool) -> tuple[bool, bool]:
        """Take note of a training that another process runs and keeps.

        Args:
            rows: its evaluations since the last call.
            new: whether the last one is new; see `Report`.

        Returns:
            (whether it is to end there, whether it is to keep its state before)
        """
        self.history += rows
        stopping = not self.done and self._stopping()
        try:
            self._tell(new)
        except Stopped:
            return not stopping or self._cause is not None, stopping
        return False, stopping

    def _keep(self) -> None:
        if self._keeps is None or self._path is None:
            return
        rows = [
            vars(each) | {"validation": each.validation and vars(replace(each.validation, predicted=None, each=None))}
            for each in self.history
        ]
        state = {"identity": self._identity, "progress": rows, "training": self._keeps.state_dict()}
        checkpoint.save(state | self._keeps.outline(), self._path, self._durable)

    def _stored(self, steps: int) -> tuple[list[Progress], dict[str, Any]] | None:
        """The evaluations and the state of the checkpoint; None where there is none of this training."""
        if self._path is None or not self._path.exists():
            return None
        try:
            kept = checkpoint.load(self._path)
            if kept.get("identity", kept.get("plan")) != self._identity:
                return None
            return _history(kept, steps), kept["training"]
        except (OptituneError, KeyError, TypeError, ValueError, AttributeError):
            return None


def _history(kept: dict[str, Any], steps: int) -> list[Progress]:
    """The evaluations in a checkpoint, also in one of an older version.

    Comparisons kept epoch, seconds, value and loss of their points, full trainings a row for each epoch, and trials
    their last evaluation alone.
    """
    if "points" in kept:
        return [
            Progress(round(epoch * steps), epoch, 0.0, 0.0, None, Evaluation(loss, value, 0, None), seconds)
            for epoch, seconds, value, loss in kept["points"]
        ]
    if "epochs" in kept:
        return [Progress(epoch * steps, epoch, lr, loss, value, None, 0.0) for epoch, lr, loss, value in kept["epochs"]]
    rows = kept["progress"] if isinstance(kept["progress"], list) else [kept["progress"]]
    return [Progress(**row | {"validation": row["validation"] and Evaluation(**row["validation"])}) for row in rows]
