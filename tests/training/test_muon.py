"""Muon with AdamW: each part as torch's own, of any shape and memory format, kept and taken up again."""

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from optitune.training.muon import MuonWithAdamW

STEPS = 6
SETTINGS: dict[str, Any] = {"lr": 0.02, "momentum": 0.9, "weight_decay": 0.3}


def weights(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))))


def gradients(like: Tensor, steps: int = STEPS, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(like.shape, generator=generator) for _ in range(steps)]


def follow(optimizer: torch.optim.Optimizer, weight: nn.Parameter, given: Iterable[Tensor]) -> Tensor:
    """`weight` after a step along each of the `given` gradients."""
    for gradient in given:
        weight.grad = gradient.clone(memory_format=torch.preserve_format)
        optimizer.step()
    return weight.detach()


def muon(*weight: nn.Parameter, **settings: Any) -> MuonWithAdamW:
    return MuonWithAdamW([{"params": list(weight), "matrix": True}], **{**SETTINGS, **settings})


@pytest.mark.parametrize("shape", [(24, 10), (10, 24), (16, 16), (1, 8), (8, 1)])
@pytest.mark.parametrize("nesterov", [True, False])
def test_a_matrix_moves_as_with_muon_of_torch(shape: tuple[int, int], nesterov: bool) -> None:
    ours, theirs = weights(*shape), weights(*shape)
    start = ours.detach().clone()
    given = gradients(ours)
    reference = torch.optim.Muon([theirs], **SETTINGS, nesterov=nesterov, adjust_lr_fn="match_rms_adamw")
    ended = follow(muon(ours, nesterov=nesterov), ours, given)
    torch.testing.assert_close(ended, follow(reference, theirs, given), rtol=1e-6, atol=1e-7)
    assert not torch.allclose(ended, start, atol=0.01)


@pytest.mark.parametrize("group", [{}, {"matrix": False}])
@pytest.mark.parametrize("shape", [(7,), (4, 5), (3, 2, 3, 3)])
def test_the_rest_moves_as_with_adamw_of_torch(shape: tuple[int, ...], group: dict[str, Any]) -> None:
    ours, theirs = weights(*shape), weights(*shape)
    given = gradients(ours)
    settings: dict[str, Any] = {"lr": 0.01, "betas": (0.8, 0.97), "eps": 1e-6, "weight_decay": 0.2}
    optimizer = MuonWithAdamW([{"params": [ours], **group}], **settings)
    reference = torch.optim.AdamW([theirs], **settings)
    assert torch.equal(follow(optimizer, ours, given), follow(reference, theirs, given))


def test_parameters_without_groups_are_the_rest() -> None:
    ours, theirs = weights(4, 5), weights(4, 5)
    given = gradients(ours)
    optimizer, reference = MuonWithAdamW([ours]), torch.optim.AdamW([theirs], betas=(0.9, 0.95), weight_decay=0.1)
    assert torch.equal(follow(optimizer, ours, given), follow(reference, theirs, given))


def test_both_parts_in_one_optimizer_do_not_touch_each_other() -> None:
    matrix, bias, lone_matrix, lone_bias = weights(6, 4), weights(6), weights(6, 4), weights(6)
    both = MuonWithAdamW([{"params": [matrix], "matrix": True}, {"params": [bias], "lr": 0.5}], **SETTINGS)
    for along, across in zip(gradients(matrix), gradients(bias, seed=1), strict=True):
        matrix.grad, bias.grad = along, across
        both.step()
    assert torch.equal(matrix, follow(muon(lone_matrix), lone_matrix, gradients(matrix)))
    alone = MuonWithAdamW([lone_bias], **{**SETTINGS, "lr": 0.5})
    assert torch.equal(bias, follow(alone, lone_bias, gradients(bias, seed=1)))


def test_a_convolution_moves_as_its_flattened_matrix() -> None:
    convolution, matrix = weights(8, 3, 5, 5), nn.Parameter(weights(8, 3, 5, 5).detach().flatten(1))
    given = gradients(convolution)
    ended = follow(muon(convolution), convolution, given)
    assert torch.equal(ended.flatten(1), follow(muon(matrix), matrix, [each.flatten(1) for each in given]))


def test_the_memory_format_changes_nothing_but_itself() -> None:
    plain, last = weights(8, 4, 3, 3), nn.Parameter(weights(8, 4, 3, 3).detach().to(memory_format=torch.channels_last))
    given = gradients(plain)
    optimizer = muon(last)
    ended = follow(optimizer, last, [each.to(memory_format=torch.channels_last) for each in given])
    assert torch.equal(ended, follow(muon(plain), plain, given))
    for tensor in (last, optimizer.state[last]["momentum_buffer"]):
        assert tensor.shape == (8, 4, 3, 3)
        assert tensor.is_contiguous(memory_format=torch.channels_last)


def test_the_steps_of_a_matrix_are_about_as_long_as_those_of_adamw() -> None:
    for shape in ((64, 16), (16, 64), (32, 32)):
        weight = nn.Parameter(torch.zeros(shape))
        moved = follow(muon(weight, lr=1.0), weight, gradients(weight, steps=1))
        assert 0.1 < moved.square().mean().sqrt() < 0.3


def pair() -> tuple[nn.Parameter, nn.Parameter, MuonWithAdamW]:
    matrix, bias = weights(6, 2, 3, 3), weights(6)
    groups = [{"params": [matrix], "matrix": True}, {"params": [bias], "matrix": False}]
    return matrix, bias, MuonWithAdamW(groups, **SETTINGS)


def train(matrix: nn.Parameter, bias: nn.Parameter, optimizer: MuonWithAdamW, seed: int) -> None:
    for along, across in zip(gradients(matrix, seed=seed), gradients(bias, seed=seed), strict=True):
        matrix.grad, bias.grad = along, across
        optimizer.step()


def test_a_state_that_was_kept_in_a_file_goes_on_to_the_same_numbers(tmp_path: Path) -> None:
    matrix, bias, optimizer = pair()
    train(matrix, bias, optimizer, seed=1)
    state = optimizer.state_dict()
    assert {name for each in state["state"].values() for name in each} == {
        "step",
        "momentum_buffer",
        "exp_avg",
        "exp_avg_sq",
    }
    file = tmp_path / "state.safetensors"
    save_file(
        {f"{number}.{name}": value for number, each in state["state"].items() for name, value in each.items()}, file
    )
    kept: dict[int, dict[str, Tensor]] = {}
    for key, value in load_file(file).items():
        number, name = key.split(".")
        kept.setdefault(int(number), {})[name] = value
    taken_up, its_bias, successor = pair()
    with torch.no_grad():
        taken_up.copy_(matrix)
        its_bias.copy_(bias)
    successor.load_state_dict({"state": kept, "param_groups": state["param_groups"]})
    train(matrix, bias, optimizer, seed=2)
    train(taken_up, its_bias, successor, seed=2)
    assert torch.equal(taken_up, matrix)
    assert torch.equal(its_bias, bias)


def test_a_copy_goes_on_to_the_same_numbers() -> None:
    everything = pair()
    train(*everything, seed=1)
    copied = copy.deepcopy(everything)
    train(*everything, seed=2)
    train(*copied, seed=2)
    assert torch.equal(copied[0], everything[0])
    assert torch.equal(copied[1], everything[1])


def test_a_schedule_changes_the_lr_of_both_parts() -> None:
    matrix, bias, optimizer = pair()
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 1.0 if epoch == 0 else 0.0)
    start = matrix.detach().clone(), bias.detach().clone()
    train(matrix, bias, optimizer, seed=1)
    assert not torch.equal(matrix, start[0])
    assert not torch.equal(bias, start[1])
    schedule.step()
    still = matrix.detach().clone(), bias.detach().clone()
    train(matrix, bias, optimizer, seed=2)
    assert torch.equal(matrix, still[0])
    assert torch.equal(bias, still[1])


def test_a_closure_is_evaluated_once_and_its_loss_given_back() -> None:
    matrix, bias, optimizer = pair()
    losses: list[Tensor] = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        losses.append((matrix.flatten(1).sum(1) + bias).square().mean())
        losses[-1].backward()
        return losses[-1]

    given = [optimizer.step(closure) for _ in range(20)]
    assert given == losses
    assert losses[-1] < losses[0]


def test_a_matrix_without_a_gradient_stays() -> None:
    matrix, bias, optimizer = pair()
    before = matrix.detach().clone()
    bias.grad = torch.ones_like(bias)
    optimizer.step()
    assert torch.equal(matrix, before)
    assert matrix not in optimizer.state


def test_a_gradient_of_zeros_leaves_all_to_weight_decay() -> None:
    weight = weights(4, 6)
    before = weight.detach().clone()
    moved = follow(muon(weight), weight, [torch.zeros_like(weight)])
    torch.testing.assert_close(moved, before * (1 - SETTINGS["lr"] * SETTINGS["weight_decay"]))


@pytest.mark.parametrize(
    "settings",
    [
        {"lr": -1.0},
        {"momentum": 1.0},
        {"momentum": -0.1},
        {"weight_decay": -0.1},
        {"betas": (1.0, 0.9)},
        {"betas": (0.9, 1.0)},
        {"eps": -1e-8},
    ],
)
def test_a_setting_out_of_its_range_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"-?\d"):
        MuonWithAdamW([weights(3, 3)], **settings)


def test_a_bias_is_no_matrix() -> None:
    with pytest.raises(ValueError, match="two dimensions"):
        muon(weights(5))
