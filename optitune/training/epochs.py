"""The epochs of a training loop of the user's own."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from optitune.errors import UsageError
from optitune.tasks.user_code import caller_place

if TYPE_CHECKING:
    from optitune.training.run import Run


class Epochs:
    """The epochs of a run: their number as the length, and those left to iterate over."""

    def __init__(self, run: "Run") -> None:
        self._run = run

    def __len__(self) -> int:
        return self._run.plan.epochs

    def __iter__(self) -> Iterator[int]:
        run = self._run
        run.adopt()
        while not run.done:
            run.begin_epoch()
            epoch = run.epoch
            yield epoch
            if run.ended:
                # the loop has caught what ended it
                run.stop()
            if run.epoch == epoch:
                run.stop(
                    UsageError(
                        f"epoch {epoch + 1} ended without a run.report{caller_place()}: report every epoch, "
                        "run.report(value, loss=...)"
                    )
                )
