"""From settings to torch: which parameters are treated how, and the learning rate of every step."""

from collections.abc import Callable, Mapping, Sequence
from math import cos, pi
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from optitune.space import optimizers, schedules
from optitune.space.configuration import Configuration, OptimizerSettings, ScheduleSettings, TrainingSettings
from optitune.space.schedules import SCHEDULES
from optitune.training.build import (
    FUSED,
    at,
    build_optimizer,
    build_schedules,
    factor,
    parameter_groups,
    penalise,
    warmup_steps,
)

Configured = Callable[..., Configuration]
Network = Callable[[int], nn.Module]


class Sequences(nn.Module):
    """An embedding, a hidden layer with normalisation, and an output layer."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(5, 4)
        self.hidden = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.ReLU())
        self.head = nn.Linear(6, 3)


def named(
    model: nn.Module, settings: OptimizerSettings, training: TrainingSettings
) -> list[tuple[dict[str, Any], Any]]:
    """The groups of a model: what is particular to each, and the names of its parameters."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return [
        (
            {key: value for key, value in group.items() if key != "params"},
            [names[id(parameter)] for parameter in group["params"]],
        )
        for group in parameter_groups(model, settings, training)
    ]


def grouped(configured: Configured, model: nn.Module, optimizer: str, **training: Any) -> Any:
    configuration = configured(optimizer, training=training)
    return named(model, configuration.optimizer, configuration.training)


CONVOLUTIONS = ["conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias"]
LINEAR = ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]
WEIGHTS = ["conv1.weight", "conv2.weight", "fc1.weight", "fc2.weight"]
BIASES = ["conv1.bias", "conv2.bias", "fc1.bias", "fc2.bias"]


def test_where_nothing_differs_there_is_one_group_in_the_networks_order(
    configured: Configured, network: Network
) -> None:
    assert grouped(configured, network(0), "adam") == [({}, CONVOLUTIONS + LINEAR)]


def test_weight_decay_pulls_at_neither_biases_nor_normalisation(configured: Configured, network: Network) -> None:
    assert grouped(configured, network(0), "adamw") == [({}, WEIGHTS), ({"weight_decay": 0.0}, BIASES)]
    ((_, weights), (spared, rest)) = grouped(configured, Sequences(), "sgd")
    assert weights == ["tokens.weight", "hidden.0.weight", "head.weight"]
    assert spared == {"weight_decay": 0.0}
    assert rest == ["hidden.0.bias", "hidden.1.weight", "hidden.1.bias", "head.bias"]


def test_weight_decay_pulls_at_all_where_it_is_told_to(configured: Configured, network: Network) -> None:
    assert grouped(configured, network(0), "adamw", decay_biases=True) == [({}, CONVOLUTIONS + LINEAR)]


def test_no_weight_decay_needs_no_groups(configured: Configured, network: Network) -> None:
    configuration = configured("adamw", weight_decay=0.0)
    assert len(parameter_groups(network(0), configuration.optimizer, configuration.training)) == 1


def test_torch_is_given_the_decay_of_each_group(configured: Configured, network: Network) -> None:
    configuration = configured("adamw", weight_decay=0.3)
    optimizer = build_optimizer(configuration.optimizer, network(0), configuration.training)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.3, 0.0]
    assert {group["lr"] for group in optimizer.param_groups} == {0.001}


def test_a_pattern_multiplies_the_lr_of_what_it_fits(configured: Configured, network: Network) -> None:
    groups = grouped(configured, network(0), "adam", groups={"fc*": 10.0})
    assert groups == [({}, CONVOLUTIONS), ({"lr": pytest.approx(0.01)}, LINEAR)]


def test_the_first_pattern_that_fits_holds(configured: Configured, network: Network) -> None:
    groups = grouped(configured, network(0), "adam", groups={"fc2.*": 3.0, "fc*": 2.0, "*": 0.5})
    assert groups == [
        ({"lr": pytest.approx(0.0005)}, CONVOLUTIONS),
        ({"lr": pytest.approx(0.002)}, LINEAR[:2]),
        ({"lr": pytest.approx(0.003)}, LINEAR[2:]),
    ]


def test_a_factor_of_one_makes_no_group_of_its_own(configured: Configured, network: Network) -> None:
    assert grouped(configured, network(0), "adam", groups={"fc*": 1.0}) == [({}, CONVOLUTIONS + LINEAR)]


def test_factors_and_decay_make_a_group_for_each_pair(configured: Configured, network: Network) -> None:
    groups = grouped(configured, network(0), "adamw", groups={"fc*": 2.0})
    lr = pytest.approx(0.002)
    assert groups == [
        ({}, CONVOLUTIONS[::2]),
        ({"weight_decay": 0.0}, CONVOLUTIONS[1::2]),
        ({"lr": lr}, LINEAR[::2]),
        ({"lr": lr, "weight_decay": 0.0}, LINEAR[1::2]),
    ]


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("fc1.weight", "fc1.weight", True),
        ("fc1", "fc1.weight", False),
        ("fc*", "fc1.weight", True),
        ("fc?.bias", "fc1.bias", True),
        ("fc[12].*", "fc3.bias", False),
        ("*.bias", "body.layer.0.bias", True),
        ("body*", "body.layer.0.bias", True),
        ("*layer*", "body.layer.0.bias", True),
        ("FC*", "fc1.weight", False),
    ],
)
def test_a_pattern_is_that_of_a_shell_and_crosses_dots(pattern: str, name: str, fits: bool) -> None:
    assert factor(name, {pattern: 5.0}) == (5.0 if fits else 1.0)


parts = st.from_regex(r"[a-z][a-z0-9]{0,3}", fullmatch=True)
dotted = st.lists(parts, min_size=1, max_size=4).map(".".join)


@given(dotted, st.integers(0, 20), st.floats(0.01, 100))
def test_a_star_stands_for_any_end_of_a_name(name: str, kept: int, value: float) -> None:
    assert factor(name, {name[:kept] + "*": value}) == value
    assert factor(name, {f"{name}*": 2.0, "*": value}) == 2.0


def test_frozen_parameters_stay_out(configured: Configured, network: Network) -> None:
    model = network(0)
    for parameter in model.conv1.parameters():
        parameter.requires_grad_(False)
    assert grouped(configured, model, "adamw") == [
        ({}, ["conv2.weight", "fc1.weight", "fc2.weight"]),
        ({"weight_decay": 0.0}, ["conv2.bias", "fc1.bias", "fc2.bias"]),
    ]


class HeadFirst(nn.Module):
    """A network that makes its layers in another order than it uses them."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.body = nn.Linear(4, 3), nn.Linear(4, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.head(self.body(inputs))
        return outputs


def test_the_output_layer_is_seen_where_there_are_inputs(configured: Configured) -> None:
    model, configuration = HeadFirst(), configured("muon", weight_decay=0.0)
    for inputs, hidden in ((torch.rand(2, 4), model.body), (None, model.head)):
        groups = parameter_groups(model, configuration.optimizer, configuration.training, lambda given=inputs: given)
        assert [id(each) for group in groups if group["matrix"] for each in group["params"]] == [id(hidden.weight)]


def test_a_pattern_fits_the_names_of_the_network_within_a_compiled_one(configured: Configured) -> None:
    configuration = configured("adam", training={"groups": {"head.*": 0.5}})
    compiled: Any = torch.compile(HeadFirst())
    groups = parameter_groups(compiled, configuration.optimizer, configuration.training)
    assert [group.get("lr") for group in groups] == [0.0005, None]


def test_neither_decay_nor_a_penalty_pulls_at_sparse_weights(configured: Configured) -> None:
    model = nn.Sequential(nn.EmbeddingBag(50, 4, sparse=True), nn.Linear(4, 2))
    for biases, names in ((False, ["0.weight", "1.bias"]), (True, ["0.weight"])):
        groups = grouped(configured, model, "sgd", decay_biases=biases)
        assert [(group, sorted(each)) for group, each in groups if group] == [({"weight_decay": 0.0}, names)]


def test_hidden_matrices_are_told_to_an_optimizer_that_treats_them_apart(configured: Configured) -> None:
    groups = grouped(configured, Sequences(), "muon")
    assert groups == [
        ({"matrix": False}, ["tokens.weight", "head.weight"]),
        ({"matrix": True}, ["hidden.0.weight"]),
        (
            {"matrix": False, "weight_decay": 0.0},
            ["hidden.0.bias", "hidden.1.weight", "hidden.1.bias", "head.bias"],
        ),
    ]


def test_a_fused_kernel_is_asked_for_where_the_row_says_there_is_one(configured: Configured, network: Network) -> None:
    for name, fused in (("adam", True), ("nadam", False), ("adagrad", True)):
        configuration = configured(name)
        optimizer = build_optimizer(configuration.optimizer, network(0), configuration.training)
        assert bool(optimizer.param_groups[0].get("fused")) == fused


@pytest.mark.parametrize(
    ("model", "fused"),
    [
        (nn.Linear(2, 2), True),
        (nn.Linear(2, 2, dtype=torch.float64), True),
        (nn.Linear(2, 2, dtype=torch.bfloat16), True),
        (nn.Linear(2, 2, dtype=torch.complex64), False),
        (nn.Linear(2, 2, device="meta"), False),
        (nn.Embedding(5, 2), True),
        (nn.Embedding(5, 2, sparse=True), False),
        (nn.Sequential(nn.EmbeddingBag(5, 2, sparse=True), nn.Linear(2, 2)), False),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "adagrad"])
def test_a_fused_kernel_is_not_forced_on_parameters_that_it_does_not_take(
    name: str, model: nn.Module, fused: bool, configured: Configured
) -> None:
    configuration = configured(name)
    optimizer = build_optimizer(configuration.optimizer, model, configuration.training)
    assert {bool(group["fused"]) for group in optimizer.param_groups} == {fused}


def test_torch_has_no_fused_adagrad_on_a_gpu() -> None:
    assert optimizers.find("adagrad").traits == ("fused-cpu",)
    assert FUSED["fused-cpu"] == ("cpu",)


@pytest.mark.parametrize(("path", "error"), [("no.such:Class", ImportError), ("torch.optim:Adamm", AttributeError)])
def test_a_path_that_leads_nowhere_is_an_error(path: str, error: type[Exception]) -> None:
    assert at("torch.optim:Adam") is torch.optim.Adam
    with pytest.raises(error):
        at(path)


def rates(
    name: str, settings: Mapping[str, Any], epochs: int, steps: int, warmup: float = 0.0, losses: Sequence[float] = ()
) -> list[list[float]]:
    """The learning rates of two groups, given 1 and 0.5, at every step of a training; `losses` are those of epochs."""
    weights = [nn.Parameter(torch.zeros(1)) for _ in range(2)]
    optimizer = torch.optim.SGD([{"params": [weights[0]]}, {"params": [weights[1]], "lr": 0.5}], lr=1.0)
    row = SCHEDULES[name]
    built = build_schedules(
        ScheduleSettings(name=name, settings=row.arguments(settings), warmup=warmup), optimizer, epochs, steps
    )
    told = []
    for epoch in range(epochs):
        for _ in range(steps):
            told.append([group["lr"] for group in optimizer.param_groups])
            optimizer.step()
            for each in built:
                if each.per_step:
                    each.scheduler.step()
        for each in built:
            if not each.per_step:
                each.scheduler.step(*([losses[epoch]] if each.observes else []))  # type: ignore[arg-type]
    return told


def one_cycle(step: int, total: int, share: float) -> float:
    """Up from 1/25 along half a cosine, then down to a 10,000th of that."""
    low, lowest, top = 1 / 25, 1 / 250_000, share * total - 1

    def between(start: float, end: float, part: float) -> float:
        return end + (start - end) / 2 * (1 + cos(pi * part))

    return between(low, 1.0, step / top) if step <= top else between(1.0, lowest, (step - top) / (total - 1 - top))


EPOCHS, STEPS = 4, 5
TOTAL = EPOCHS * STEPS
CURVES: Mapping[str, tuple[str, Mapping[str, Any], Callable[[int], float]]] = {
    "constant": ("constant", {}, lambda step: 1.0),
    "step": ("step", {"step_size": 2, "gamma": 0.3}, lambda step: 0.3 ** (step // STEPS // 2)),
    "multistep": (
        "multistep",
        {"milestone1": 3, "milestone2": 1, "gamma": 0.2},
        lambda step: 0.2 ** ((step // STEPS >= 1) + (step // STEPS >= 3)),
    ),
    "multistep, both at once": (
        "multistep",
        {"milestone1": 2, "milestone2": 2, "gamma": 0.2},
        lambda step: 0.2 ** (2 * (step // STEPS >= 2)),
    ),
    "exponential": ("exponential", {"gamma": 0.6}, lambda step: 0.6 ** (step // STEPS)),
    "cosine": ("cosine", {"T_max": EPOCHS}, lambda step: (1 + cos(pi * step / TOTAL)) / 2),
    "linear": ("linear", {"total_iters": EPOCHS}, lambda step: 1 - step / TOTAL),
    "linear, over at half": ("linear", {"total_iters": 2}, lambda step: max(0.0, 1 - 2 * step / TOTAL)),
    "polynomial": ("polynomial", {"total_iters": EPOCHS, "power": 2.0}, lambda step: (1 - step / TOTAL) ** 2),
    "one-cycle": ("one-cycle", {"total_steps": EPOCHS, "pct_start": 0.3}, lambda step: one_cycle(step, TOTAL, 0.3)),
    # the loss of the second epoch is no better, nor is the third's: one epoch of patience is over after the third
    "reduce-on-plateau": (
        "reduce-on-plateau",
        {"factor": 0.25, "patience": 1},
        lambda step: 0.25 if step // STEPS >= 3 else 1.0,
    ),
}
LOSSES = [1.0, 1.5, 1.2, 0.5]

every_curve = pytest.mark.parametrize("curve", CURVES)


@every_curve
def test_the_lr_of_every_step_is_that_of_the_formula(curve: str) -> None:
    name, settings, formula = CURVES[curve]
    expected = [[formula(step), 0.5 * formula(step)] for step in range(TOTAL)]
    for told, right in zip(rates(name, settings, EPOCHS, STEPS, losses=LOSSES), expected, strict=True):
        assert told == pytest.approx(right, rel=1e-6, abs=1e-12)


def test_every_schedule_is_among_the_formulas() -> None:
    assert {name for name, _, _ in CURVES.values()} == set(SCHEDULES)


def test_a_warm_up_rises_step_by_step_and_is_over_then() -> None:
    told = rates("constant", {}, epochs=2, steps=5, warmup=0.4)
    assert [lr for lr, _ in told] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    assert [lr for _, lr in told] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5])


@pytest.mark.parametrize("warmup", [0.2, 0.5])
@pytest.mark.parametrize("curve", [name for name, (row, _, _) in CURVES.items() if not SCHEDULES[row].warms_up])
def test_a_warm_up_multiplies_whatever_the_schedule_says(curve: str, warmup: float) -> None:
    name, settings, formula = CURVES[curve]
    ramp = round(warmup * TOTAL)
    for step, told in enumerate(rates(name, settings, EPOCHS, STEPS, warmup, LOSSES)):
        rise = min(1.0, (step + 1) / (ramp + 1))
        assert told == pytest.approx([rise * formula(step), 0.5 * rise * formula(step)], rel=1e-6, abs=1e-12)


@pytest.mark.parametrize(
    ("warmup", "epochs", "steps", "ramp"), [(0.0, 5, 100, 0), (0.1, 5, 100, 50), (0.1, 1, 4, 0), (0.3, 1, 4, 1)]
)
def test_the_length_of_a_warm_up_is_a_share_of_all_steps(warmup: float, epochs: int, steps: int, ramp: int) -> None:
    settings = ScheduleSettings(name="constant", settings={}, warmup=warmup)
    assert warmup_steps(settings, epochs, steps) == ramp
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    assert len(build_schedules(settings, optimizer, epochs, steps)) == (ramp > 0)


@given(epochs=st.integers(1, 4), steps=st.integers(1, 12), share=st.floats(0.01, 0.99))
def test_one_cycle_ends_where_the_training_does(epochs: int, steps: int, share: float) -> None:
    """At every length, those included at which the rise is a single step."""
    told = rates("one-cycle", {"total_steps": epochs, "pct_start": share}, epochs, steps)
    assert len(told) == epochs * steps
    assert all(0 < lr <= 1 for lr, _ in told)


@pytest.mark.parametrize(("share", "steps"), [(0.1, 10), (0.5, 2), (0.25, 4), (0.2, 5)])
def test_one_cycle_may_rise_in_a_single_step(share: float, steps: int) -> None:
    assert len(rates("one-cycle", {"total_steps": 1, "pct_start": share}, 1, steps)) == steps


def test_a_constant_lr_needs_no_scheduler() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    assert not build_schedules(ScheduleSettings(name="constant", settings={}), optimizer, 3, 4)
    assert schedules.find("constant").path == ""


def test_a_penalty_adds_the_sign_of_every_weight() -> None:
    weight, without = nn.Parameter(torch.tensor([2.0, -3.0, 0.0])), nn.Parameter(torch.ones(2))
    weight.grad = torch.tensor([1.0, 1.0, 1.0])
    penalise([weight, without], 0.25)
    assert isinstance(weight.grad, Tensor)
    assert weight.grad.tolist() == [1.25, 0.75, 1.0]
    assert without.grad is None
