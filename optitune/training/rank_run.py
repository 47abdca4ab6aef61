"""A `Run` of several processes: their reports become one, and what that leads to is the same for all."""

from dataclasses import replace
from typing import Any

from torch import Tensor

from optitune.errors import UsageError
from optitune.training.progress import Diverged, Progress
from optitune.training.ranks import RankReport, Word, combined, sizes, unreadable
from optitune.training.run import Run


class RankRun(Run):
    """One rank's view of a training; on a single process it is a `Run`.

    Rank 0 has the record: it writes checkpoints and learns whether to go on. The others take its word at every report.
    """

    last_weights: dict[str, Tensor] | None = None
    """After the last epoch of a full training, on every rank."""

    def _sizes(self) -> Any:
        return sizes(self._judged, self._shard, self.ranks)

    def _reported(self, value: Any, loss: Any, each: Any) -> Progress:
        if self.ranks == 1:
            return super()._reported(value, loss, each)
        found: Progress | Diverged | UsageError
        try:
            found = super()._reported(value, loss, each)
        except (Diverged, UsageError) as cause:
            found = cause
        reports = self.peers.gather(RankReport(found, self._shard))
        if self.rank:
            # as all ranks see it, whatever this one has found
            progress = self._word().progress
            assert progress is not None
            return progress
        progress = combined(reports, self._judged)
        assert progress.validation is not None
        same = self._unmoved(progress.validation.value)
        progress = replace(progress, validation=replace(progress.validation, same=same))
        self.peers.share(Word("report", progress))
        return progress

    def _word(self) -> Word:
        """What rank 0 says next.

        Raises:
            Stopped: it says so.
        """
        word: Word = self.peers.share(None)
        if word.do == "stop":
            super().stop()
        return word

    def progress(self, progress: Progress) -> None:
        """An evaluation was made; see `Record.progress`."""
        if self.rank == 0:
            super().progress(progress)
        else:
            self.history.append(progress)
            self._tell(True)
        if self.done and self.stage == "retrain" and self.ranks > 1:
            # now, while all ranks can give what they hold of sharded weights
            self.last_weights = self.weights()

    def stop(self, cause: BaseException | None = None) -> None:
        """End the training where it is, on all ranks; see `Record.stop`."""
        if self.rank == 0 and not self.ended:
            self.peers.share(Word("stop"))
        super().stop(cause)

    def _tell(self, new: bool, kept: bool = True) -> None:
        if self.rank == 0:
            super()._tell(new, kept)
            self.peers.share(Word("go on"))
            return
        while self._word().do == "keep":
            if self._keeps is not None:
                self._keeps.state_dict()

    def _keep(self) -> None:
        self.peers.share(Word("keep"))
        super()._keep()

    def _stored(self, steps: int) -> Any:
        found = super()._stored(steps)
        epoch = found[0][-1].epoch if found else 0
        if self.peers.share(epoch) != epoch:
            raise unreadable(self.rank)
        return found
