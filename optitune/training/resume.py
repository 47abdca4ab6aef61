"""The resumable training loop: train, keep a checkpoint now and then, and go on from it after a stop or a kill."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from optitune.common import checkpoint
from optitune.errors import OptituneError
from optitune.training.engine import Progress, Training
from optitune.training.evaluation import Evaluation
from optitune.training.weights import bare


def resumable(
    training: Training,
    path: Path | None,
    identity: Any,
    stopping: Callable[[], bool],
    wait: Callable[[float], float] = lambda took: 0.0,
    durable: bool = True,
    keep_end: bool = False,
) -> Iterator[tuple[list[Progress], bool]]:
    """Train what is left of a plan, from its checkpoint if there is one.

    What is due to be kept is kept before the caller sees it. When this ends, `training.epoch` says whether the plan is
    done or the training was stopped.

    Args:
        training: at its begin; trained in place.
        path: of the checkpoint; None to keep none.
        identity: all that decides the training's numbers, as plain JSON values; a checkpoint of another identity is
            not taken up, nor is a damaged one.
        stopping: asked at every evaluation but the last one; if so, the training is kept and ends there.
        wait: from the seconds that the last checkpoint took (0 at the begin) to those until the next; default: a
            checkpoint at every evaluation.
        durable: wait for the disk. Without, a crash of the machine may damage the checkpoint, and the training begins
            anew.
        keep_end: keep the end, too, for what is made of it.

    Yields:
        All evaluations so far, those of earlier processes included, and whether the last one is new: after a
        checkpoint was taken up, its own last one is not. The list is one object that grows.

    Raises:
        Diverged: the loss became nan or infinite.
        OptituneError: the checkpoint cannot be written.
    """
    history = [] if path is None else _taken_up(training, path, identity)
    if history:
        yield history, False
        if training.epoch == training.plan.epochs or stopping():
            return
    due = time.perf_counter() + wait(0.0)
    for progress in training.run():
        history.append(progress)
        ended, began = progress.epoch == training.plan.epochs, time.perf_counter()
        kept = path is not None and (keep_end if ended else began >= due)
        if path and kept:
            _keep(training, path, identity, history, durable)
            due = (now := time.perf_counter()) + wait(now - began)
        yield history, True
        if not ended and stopping():
            if path and not kept:
                _keep(training, path, identity, history, durable)
            return


def _keep(training: Training, path: Path, identity: Any, history: list[Progress], durable: bool) -> None:
    rows = [
        vars(each) | {"validation": each.validation and vars(replace(each.validation, predicted=None, each=None))}
        for each in history
    ]
    names = list(bare(training.model).state_dict())
    state = {"identity": identity, "progress": rows, "training": training.state_dict(), "names": names}
    checkpoint.save(state, path, durable)


def _taken_up(training: Training, path: Path, identity: Any) -> list[Progress]:
    """Put `training` where the checkpoint at `path` left it; its evaluations, none where it begins anew."""
    if not path.exists():
        return []
    try:
        kept = checkpoint.load(path)
        if kept.get("identity", kept.get("plan")) != identity:
            return []
        history = _history(kept, training.steps_per_epoch)
        state = kept["training"]
    except (OptituneError, KeyError, TypeError, ValueError, AttributeError):
        return []
    training.load_state_dict(state)
    return history


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
