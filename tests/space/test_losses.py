"""What is minimised: the rows, labels as vectors, outputs of one number, and a task's own loss."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from optitune.errors import UsageError
from optitune.space import losses
from optitune.space.configuration import TrainingSettings
from optitune.space.losses import LOSSES, OF_TASK, ROWS
from optitune.training.build import at, build_loss

every_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


LABELS = torch.tensor([0, 2, 1, 2, 0])


def built(loss: str, **settings: Any) -> Callable[[Tensor, Tensor], Tensor]:
    return build_loss(TrainingSettings(loss=loss, **settings), None)


@every_row
def test_a_row_names_its_function_and_has_its_words(row: losses.Loss) -> None:
    assert LOSSES[row.name] is row
    assert losses.find(row.name) is row
    assert callable(at(row.path))
    assert row.source
    assert row.note.endswith(".")
    assert set(row.settings) <= set(TrainingSettings.model_fields)


@every_row
def test_a_loss_is_one_number_with_a_gradient_for_classes(row: losses.Loss) -> None:
    outputs = drawn(5, 3).requires_grad_()
    loss = built(row.name)(outputs, LABELS)
    assert loss.shape == ()
    loss.backward()
    assert outputs.grad is not None
    assert bool((outputs.grad != 0).any())


@every_row
def test_a_loss_is_the_mean_over_the_examples(row: losses.Loss) -> None:
    outputs, loss = drawn(5, 3), built(row.name)
    alone = torch.stack([loss(outputs[[place]], LABELS[[place]]) for place in range(5)])
    assert loss(outputs, LABELS).item() == pytest.approx(alone.mean().item(), rel=1e-6)


def test_cross_entropy_is_torchs_own() -> None:
    assert build_loss(TrainingSettings(), None).own is functional.cross_entropy


def test_label_smoothing_is_told_to_cross_entropy() -> None:
    outputs = drawn(5, 3)
    smooth = built("cross-entropy", label_smoothing=0.3)(outputs, LABELS)
    aim = 0.7 * functional.one_hot(LABELS, 3) + 0.1
    assert smooth.item() == pytest.approx(-(aim * outputs.log_softmax(1)).sum(1).mean().item(), rel=1e-6)
    assert smooth != built("cross-entropy")(outputs, LABELS)


def test_the_squared_error_of_classes_is_that_of_vectors_of_zeros_and_a_one() -> None:
    outputs = drawn(5, 3)
    vectors = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, 1, 0], [0, 0, 1], [1, 0, 0]])
    assert torch.equal(built("mse")(outputs, LABELS), ((outputs - vectors) ** 2).mean())


@pytest.mark.parametrize("shape", [(5,), (5, 1), (5, 4), (5, 2, 3)])
def test_the_squared_error_of_numbers_compares_them_one_by_one(shape: tuple[int, ...]) -> None:
    outputs, targets = drawn(*shape), drawn(*shape) + 1
    assert torch.equal(built("mse")(outputs, targets), functional.mse_loss(outputs, targets))


@given(st.integers(1, 6), st.lists(st.integers(1, 3), max_size=2))
def test_a_number_in_a_row_of_its_own_is_compared_with_its_target(n: int, rest: list[int]) -> None:
    """(n, 1) and (n,) would be subtracted to (n, n)."""
    outputs, targets = drawn(n, 1, *rest), drawn(n, *rest) + 1
    assert built("mse")(outputs, targets).item() == pytest.approx(((outputs[:, 0] - targets) ** 2).mean().item())


def test_a_loss_of_the_tasks_own_is_taken_as_it_is() -> None:
    def own(outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs.sum()

    assert build_loss(TrainingSettings(loss=OF_TASK), own).own is own


def test_an_unknown_loss_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="unknown loss 'cross-entrop': did you mean 'cross-entropy'"):
        losses.find("cross-entrop")
    with pytest.raises(UsageError, match="unknown loss 'x': there are: cross-entropy, mse"):
        losses.find("x")


def test_the_names_are_distinct_and_none_is_that_of_a_tasks_own() -> None:
    assert len(LOSSES) == len(ROWS)
    assert OF_TASK not in LOSSES
