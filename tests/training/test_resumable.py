"""The one loop of all stages: it keeps a training now and then, goes on from there, and stops when it is asked to."""

from collections.abc import Callable
from math import inf
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from optitune.common import checkpoint
from optitune.space.configuration import Configuration
from optitune.tasks import metrics
from optitune.tasks.data import Examples
from optitune.tasks.models import Cnn
from optitune.training.engine import Training
from optitune.training.plan import Plan
from optitune.training.progress import Diverged, Progress
from optitune.training.resume import Record

EVALUATIONS = 6


def never() -> bool:
    return False


@pytest.fixture
def begun(configured: Callable[..., Configuration], images: Examples) -> Callable[..., Training]:
    """A training of 3 epochs with 2 evaluations each, at its begin."""

    def begin(loss: Callable[[Tensor, Tensor], Tensor] = functional.cross_entropy) -> Training:
        torch.manual_seed(0)
        plan = Plan(configured("sgd"), loss, metrics.find("accuracy"), 3, 5, "fp32", evaluations=2)
        return Training(Cnn(size=4, channels=(4, 8), hidden=16, classes=3), plan, images, images)

    return begin


def numbers(history: list[Progress]) -> list[tuple[Any, ...]]:
    """Everything of it but the clock."""
    assert all(row.validation for row in history)
    return [(row.step, row.epoch, row.lr, row.train_loss, row.validation.loss) for row in history]  # type: ignore[union-attr]


def resumable(
    training: Training, path: Path | None, identity: Any, stopping: Callable[[], bool], **how: Any
) -> list[tuple[list[Progress], bool]]:
    """All that a stage is given: so many evaluations, and whether the last one was new."""
    seen: list[tuple[list[Progress], bool]] = []

    def report(history: list[Progress], new: bool) -> bool:
        seen.append(([*history], new))
        return False

    Record(training.plan, report, stopping, path, identity, **how).run(training)
    return seen


def until(training: Training, path: Path | None, count: int, identity: Any = 1, **how: Any) -> list[Progress]:
    """The history of a training that is stopped after so many evaluations of its own."""
    fresh: list[bool] = []

    def report(history: list[Progress], new: bool) -> bool:
        fresh.append(new)
        return False

    run = Record(training.plan, report, lambda: sum(fresh) >= count, path, identity, **how)
    run.run(training)
    return run.history


@pytest.mark.parametrize("every", [1, 2, 4])
def test_one_that_is_stopped_again_and_again_has_the_numbers_of_one_that_was_not(
    every: int, begun: Callable[..., Training], tmp_path: Path
) -> None:
    straight = until(begun(), None, EVALUATIONS)
    for _ in range(-(-EVALUATIONS // every)):
        # nothing is kept on the way, so that all hangs on what a stop keeps
        history = until(begun(), tmp_path / "t.safetensors", every, wait=lambda took: inf)
    assert numbers(history) == numbers(straight)
    assert len(history) == EVALUATIONS


@pytest.mark.parametrize("damaged", [False, True])
def test_a_checkpoint_of_anything_else_or_damaged_is_not_taken_up(
    damaged: bool, begun: Callable[..., Training], tmp_path: Path
) -> None:
    path = tmp_path / "t.safetensors"
    until(begun(), path, 2)
    assert [(len(history), new) for history, new in resumable(begun(), path, 1, lambda: True)] == [(2, False)]
    if damaged:
        path.write_bytes(path.read_bytes()[:-3] + b"abc")
    assert resumable(begun(), path, 1 if damaged else 2, never)[0][1]


def test_what_is_made_of_the_end_is_made_of_its_checkpoint_too(begun: Callable[..., Training], tmp_path: Path) -> None:
    for keep_end in (False, True):
        path = tmp_path / f"{keep_end}.safetensors"
        until(begun(), path, EVALUATIONS, keep_end=keep_end)
        again = begun()
        assert [new for _, new in resumable(again, path, 1, never)] == ([False] if keep_end else [False, True])
        assert again.epoch == 3


def test_a_loss_that_diverges_is_passed_on(begun: Callable[..., Training]) -> None:
    with pytest.raises(Diverged):
        until(begun(lambda outputs, targets: functional.cross_entropy(outputs, targets) * inf), None, EVALUATIONS)


def test_checkpoints_that_take_long_are_written_less_often(
    begun: Callable[..., Training], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # when the loop begins; then each evaluation, and the end of its checkpoint if there is one
    now = iter([0.0, 1.0, 2.0, 11.9, 13.0, 14.0])
    monkeypatch.setattr("optitune.training.resume.time", SimpleNamespace(perf_counter=lambda: next(now)))
    written = []
    path = tmp_path / "t.safetensors"

    def report(history: list[Progress], new: bool) -> bool:
        written.append(path.exists())
        path.unlink(missing_ok=True)
        return len(history) == 3

    training = begun()
    Record(training.plan, report, never, path, 1, wait=lambda took: 10 * took).run(training)
    # it took a second, so that the next is due after ten more
    assert written == [True, False, True]


@pytest.mark.parametrize("stage", ["search", "compare", "retrain"])
def test_a_checkpoint_of_an_older_version_is_taken_up(
    stage: str, begun: Callable[..., Training], tmp_path: Path
) -> None:
    path = tmp_path / "t.safetensors"
    history = until(begun(), path, 4)
    found = checkpoint.load(path)
    rows = found.pop("progress")
    if stage == "search":
        found["progress"] = rows[-1]
    elif stage == "compare":
        found["plan"] = found.pop("identity")
        judged = [row["validation"] for row in rows]
        found["points"] = [
            [row["epoch"], row["seconds"], each["value"], each["loss"]] for row, each in zip(rows, judged, strict=True)
        ]
    else:
        found["plan"] = found.pop("identity")
        found["epochs"] = [[int(row["epoch"]), row["lr"], row["train_loss"], row["train_value"]] for row in rows[1::2]]
    checkpoint.save(found, path)
    training = begun()
    kept, new = resumable(training, path, 1, lambda: True)[0]
    assert not new
    assert (training.epoch, kept[-1].epoch, kept[-1].step) == (2, 2, history[-1].step)
    if stage == "search":
        assert numbers(kept) == numbers(history[-1:])
    elif stage == "compare":
        assert [row.validation and row.validation.value for row in kept] == [
            row.validation and row.validation.value for row in history
        ]
    else:
        assert [(row.lr, row.train_loss) for row in kept] == [(row.lr, row.train_loss) for row in history[1::2]]
