"""What every optimizer of the registry must do; a new row inherits all of it."""

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from optitune import optimizers
from optitune.best import BestConfig
from optitune.configuration import Configuration, OptimizerSettings
from optitune.data import Images
from optitune.engine import Plan, Training, build_optimizer
from optitune.errors import UsageError
from optitune.export import python
from optitune.models import Mlp
from optitune.optimizers import DEFAULT_OPTIMIZERS, JOINED, LIMITS, LR_FACTOR, OPTIMIZERS, ROWS, Optimizer
from optitune.settings import StudySettings
from optitune.space import Choice, around

Configured = Callable[..., Configuration]
Network = Callable[[int], nn.Module]

every_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
every_known_good = pytest.mark.parametrize(
    ("row", "variant"),
    [pytest.param(row, number, id=f"{row.name}-{number}") for row in ROWS for number in range(len(row.known_good))],
)


def corners(row: Optimizer) -> Iterator[Any]:
    """Every end of every range with the others at known-good, then all low and all high."""
    good = row.known_good[0]
    for name, space in row.ranges.items():
        for end in space.ends():
            yield pytest.param(row, {**good, name: end}, id=f"{row.name}-{name}={end:g}")
    for number, word in ((0, "low"), (-1, "high")):
        values = {name: space.ends()[number] for name, space in row.ranges.items()}
        yield pytest.param(row, values, id=f"{row.name}-all-{word}")


every_corner = pytest.mark.parametrize(("row", "values"), [case for row in ROWS for case in corners(row)])


def step(model: nn.Module, optimizer: torch.optim.Optimizer, images: Images) -> None:
    optimizer.zero_grad()
    pixels, labels = images.batch(slice(None))
    functional.cross_entropy(model(pixels), labels).backward()
    optimizer.step()


def settings_of(row: Optimizer, values: Mapping[str, Any]) -> OptimizerSettings:
    return OptimizerSettings(name=row.name, settings=row.arguments(values))


@every_known_good
def test_a_known_good_setting_reaches_torch_unchanged(row: Optimizer, variant: int, network: Network) -> None:
    settings = settings_of(row, row.known_good[variant])
    optimizer = build_optimizer(settings, list(network(0).parameters()))
    module, name = row.path.split(":")
    assert type(optimizer) is getattr(import_module(module), name)
    (group,) = optimizer.param_groups
    for argument, value in settings.settings.items():
        told = list(group[argument]) if isinstance(value, list) else group[argument]
        assert told == value, argument


@every_known_good
def test_a_known_good_setting_lowers_the_loss(
    row: Optimizer, variant: int, images: Images, configured: Configured
) -> None:
    torch.manual_seed(0)
    plan = Plan(configured(row.name, variant=variant), functional.cross_entropy, 20, 10, seed=0, precision="fp32")
    losses = [progress.train_loss for progress in Training(Mlp((16, 128, 3)), plan, images).run()]
    assert losses[-1] < 0.5 * losses[0]


@every_known_good
def test_a_known_good_setting_lies_in_the_ranges(row: Optimizer, variant: int) -> None:
    values = row.known_good[variant]
    assert values.keys() == row.ranges.keys()
    for name, space in row.ranges.items():
        assert space.contains(values[name]), name


@every_corner
def test_a_corner_of_the_ranges_is_allowed_and_takes_steps(
    row: Optimizer, values: Mapping[str, Any], network: Network, images: Images
) -> None:
    model = network(0)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    optimizer = build_optimizer(settings_of(row, values), list(model.parameters()))
    for _ in range(3):
        step(model, optimizer, images)
    assert any(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))


@every_row
def test_every_range_has_a_source_and_the_row_its_words(row: Optimizer) -> None:
    assert all(space.source for space in row.ranges.values())
    assert row.source
    assert row.note.endswith(".")
    assert OPTIMIZERS[row.name] is row


@every_row
def test_the_learning_rate_is_looked_for_one_factor_around_its_known_good_value(row: Optimizer) -> None:
    assert row.lr == row.known_good[0]["lr"]
    lr = row.ranges["lr"]
    assert lr == around(row.lr, LR_FACTOR, lr.source)


@every_row
def test_every_number_has_a_limit_that_its_range_and_known_good_values_keep(row: Optimizer) -> None:
    for name, space in row.ranges.items():
        if isinstance(space, Choice):
            continue
        _, allows = LIMITS[name]
        for value in (*space.ends(), *(good[name] for good in row.known_good)):
            assert allows(value), (name, value)


def test_no_limit_is_left_from_a_row_that_is_gone() -> None:
    assert set(LIMITS) <= {name for row in ROWS for name in row.ranges}


@every_row
def test_a_needed_hyperparameter_is_one_of_the_rows_own(row: Optimizer) -> None:
    assert set(row.needs) | set(row.needs.values()) <= set(row.ranges)


@every_row
def test_a_row_is_fused_exactly_where_torch_has_a_kernel_for_the_cpu(row: Optimizer, network: Network) -> None:
    module, name = row.path.split(":")
    parameters = list(network(0).parameters())
    arguments = row.arguments(row.known_good[0])
    try:
        optimizer = getattr(import_module(module), name)(parameters, **arguments, fused=True)
        works = bool(optimizer.param_groups[0]["fused"])
    except (TypeError, RuntimeError):
        works = False
    assert row.fused == works
    assert bool(build_optimizer(settings_of(row, row.known_good[0]), parameters).param_groups[0].get("fused")) == works


def test_arguments_joins_the_betas() -> None:
    values = {"lr": 0.002, "beta1": 0.8, "beta2": 0.99, "eps": 1e-6}
    assert OPTIMIZERS["adam"].arguments(values) == {"lr": 0.002, "eps": 1e-6, "betas": [0.8, 0.99]}
    assert JOINED["betas"] == ("beta1", "beta2")


def test_arguments_leaves_nesterov_out_where_there_is_no_momentum() -> None:
    values = {"lr": 0.1, "momentum": 0.0, "nesterov": True, "weight_decay": 1e-4}
    assert OPTIMIZERS["sgd"].arguments(values) == {"lr": 0.1, "momentum": 0.0, "weight_decay": 1e-4}
    with_momentum = {**values, "momentum": 0.5}
    assert OPTIMIZERS["sgd"].arguments(with_momentum) == with_momentum


def test_arguments_adds_what_is_always_passed() -> None:
    row = Optimizer("sgd2", "torch.optim:SGD", ({"lr": 0.1},), {}, "s", "n", fixed={"nesterov": True, "momentum": 0.9})
    assert row.arguments({"lr": 0.1}) == {"nesterov": True, "momentum": 0.9, "lr": 0.1}


def test_adam_starts_from_the_settings_of_its_article() -> None:
    assert OPTIMIZERS["adam"].known_good == ({"lr": 0.001, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8},)


def test_the_names_are_distinct_and_the_default_ones_exist() -> None:
    assert len(OPTIMIZERS) == len(ROWS)
    assert len(set(DEFAULT_OPTIMIZERS)) == len(DEFAULT_OPTIMIZERS)
    assert set(DEFAULT_OPTIMIZERS) <= set(OPTIMIZERS)


def test_an_unknown_optimizer_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"'adamn': did you mean 'adam.* \(see 'optitune optimizers'"):
        optimizers.find("adamn")


@pytest.fixture
def rprop(monkeypatch: pytest.MonkeyPatch) -> Optimizer:
    """An optimizer that is no more than a row."""
    row = Optimizer(
        name="rprop",
        path="torch.optim:Rprop",
        known_good=({"lr": 1e-3},),
        ranges={"lr": around(1e-3, LR_FACTOR, "a factor")},
        source="Riedmiller & Braun 1993",
        note="Steps by sign.",
        fixed={"etas": [0.5, 1.2]},
    )
    monkeypatch.setattr(optimizers, "OPTIMIZERS", MappingProxyType({**OPTIMIZERS, row.name: row}))
    return row


def test_an_optimizer_that_was_added_as_a_row_can_be_searched_and_configured(
    rprop: Optimizer, configured: Configured
) -> None:
    assert StudySettings(optimizers=("adam", "rprop")).optimizers == ("adam", "rprop")
    assert configured("rprop").optimizer.settings == {"lr": 1e-3, "etas": [0.5, 1.2]}
    with pytest.raises(ValueError, match=r"settings.lr = 0: lr must be above 0"):
        configured("rprop", lr=0)
    with pytest.raises(ValueError, match=r"settings.etas = \[0.5\]: must be 2 numbers"):
        configured("rprop", etas=[0.5])


def test_an_optimizer_that_was_added_as_a_row_trains(
    rprop: Optimizer, network: Network, images: Images, configured: Configured
) -> None:
    plan = Plan(configured("rprop"), functional.cross_entropy, 20, 90, seed=0, precision="fp32")
    training = Training(network(0), plan, images)
    assert type(training.optimizer) is torch.optim.Rprop
    losses = [progress.train_loss for progress in training.run()]
    assert losses[-1] < 0.8 * losses[0]


def test_an_optimizer_that_was_added_as_a_row_is_exported(
    rprop: Optimizer, configured: Configured, best_config: Callable[[Configuration], BestConfig]
) -> None:
    text = python(best_config(configured("rprop")))
    assert "optimizer = torch.optim.Rprop(model.parameters(), etas=(0.5, 1.2), lr=0.001)" in text


def test_without_its_row_the_optimizer_is_unknown(configured: Configured) -> None:
    with pytest.raises(UsageError, match="unknown optimizer 'rprop'"):
        configured("rprop")
