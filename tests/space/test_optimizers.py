"""What every optimizer of the registry must do; a new row inherits all of it."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import optuna
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from trainings import weights

from optitune.errors import UsageError
from optitune.sampling.parameters import known_good_parameters, suggest
from optitune.space import optimizers
from optitune.space.configuration import Configuration, OptimizerSettings, TrainingSettings
from optitune.space.optimizers import DEFAULT_OPTIMIZERS, JOINED, LIMITS, LR_FACTOR, OPTIMIZERS, ROWS, Optimizer
from optitune.space.ranges import Choice, Fixed, Float, around
from optitune.study.best_config import BestConfig
from optitune.study.settings import StudySettings
from optitune.tasks import metrics
from optitune.tasks.data import Examples
from optitune.tasks.models import Mlp
from optitune.tasks.task import Task
from optitune.training import preflight
from optitune.training.build import FUSED, at, build_optimizer
from optitune.training.engine import Training
from optitune.training.export_code import python
from optitune.training.plan import Plan
from optitune.training.progress import Diverged
from optitune.training.sparse_adam import SparseAndDenseAdam

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


every_further = pytest.mark.parametrize(
    ("row", "name"), [pytest.param(row, name, id=f"{row.name}-{name}") for row in ROWS for name in row.also]
)


def planned(configuration: Configuration, epochs: int) -> Plan:
    return Plan(configuration, functional.cross_entropy, metrics.find("accuracy"), epochs, seed=0, precision="fp32")


def settings_of(row: Optimizer, values: Mapping[str, Any]) -> OptimizerSettings:
    return OptimizerSettings(name=row.name, settings=row.arguments(values))


@every_known_good
def test_a_known_good_setting_reaches_torch_unchanged(row: Optimizer, variant: int, network: Network) -> None:
    settings = settings_of(row, row.known_good[variant])
    optimizer = build_optimizer(settings, network(0), TrainingSettings())
    assert type(optimizer) is at(row.path)
    group = optimizer.param_groups[0]
    for argument, value in settings.settings.items():
        told = list(group[argument]) if isinstance(value, list) else group[argument]
        assert told == value, argument


@every_known_good
def test_a_known_good_setting_lowers_the_loss(
    row: Optimizer, variant: int, images: Examples, configured: Configured
) -> None:
    torch.manual_seed(0)
    plan = planned(configured(row.name, variant=variant, training={"batch_size": 10}), epochs=20)
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
    row: Optimizer, values: Mapping[str, Any], network: Network, images: Examples
) -> None:
    model = network(0)
    before = weights(model)
    configuration = Configuration.model_validate(
        {
            "optimizer": settings_of(row, values).model_dump(),
            "schedule": {"name": "constant", "settings": {}},
            "training": {"batch_size": 30},
        }
    )
    with suppress(Diverged):
        list(Training(model, planned(configuration, epochs=1), images).run())
    assert not torch.equal(before, weights(model))


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
    assert lr == replace(around(row.lr, LR_FACTOR, lr.source), usual=True)


@every_row
def test_every_number_has_a_limit_that_its_range_and_known_good_values_keep(row: Optimizer) -> None:
    for name, space in row.ranges.items():
        if isinstance(space, Choice):
            continue
        _, allows = LIMITS[name]
        for value in (*space.ends(), *(good[name] for good in row.known_good)):
            assert allows(value), (name, value)
    for name, value in row.also.items():
        assert isinstance(value, bool) or LIMITS[name][1](value), name


def test_no_limit_is_left_from_a_row_that_is_gone() -> None:
    assert set(LIMITS) <= {name for row in ROWS for name in (*row.ranges, *row.also)}


@every_row
def test_what_a_hyperparameter_hangs_on_is_one_of_the_rows_own(row: Optimizer) -> None:
    names = {*row.ranges, *row.also}
    assert {*row.needs, *row.needs.values(), *row.unless, *row.unless.values()} <= names


@every_row
def test_the_arguments_are_those_of_the_constructor(row: Optimizer) -> None:
    taken = inspect.signature(at(row.path)).parameters
    usual = row.arguments({**row.known_good[0], **row.also})
    assert set(usual) <= set(taken)
    assert not {"fused", "foreach", "capturable", "maximize", "differentiable"} & set(usual)


@every_further
def test_a_further_argument_is_by_itself_what_the_constructor_has_it(row: Optimizer, name: str) -> None:
    assert inspect.signature(at(row.path)).parameters[name].default == row.also[name]


@every_further
def test_a_further_argument_reaches_torch(row: Optimizer, name: str, network: Network) -> None:
    usual = row.also[name]
    other = not usual if isinstance(usual, bool) else type(usual)(usual * 2 or 1)
    settings = settings_of(row, {**row.known_good[0], name: other})
    optimizer = build_optimizer(settings, network(0), TrainingSettings())
    assert optimizer.param_groups[0][name] == other
    # and without it, torch has the value it has anyway
    plain = build_optimizer(settings_of(row, row.known_good[0]), network(0), TrainingSettings())
    assert plain.param_groups[0][name] == usual


@every_row
def test_a_row_is_fused_exactly_where_torch_has_a_kernel_for_the_cpu(row: Optimizer, network: Network) -> None:
    settings = settings_of(row, row.known_good[0])
    try:
        optimizer = at(row.path)(list(network(0).parameters()), **settings.settings, fused=True)
        works = bool(optimizer.param_groups[0]["fused"])
    except (TypeError, RuntimeError):
        works = False
    assert any(trait in row.traits for trait in FUSED) == works
    built = build_optimizer(settings, network(0), TrainingSettings())
    assert bool(built.param_groups[0].get("fused")) == works


@every_row
def test_the_traits_of_a_row_are_those_of_its_class(row: Optimizer, network: Network) -> None:
    class_ = at(row.path)
    closure = inspect.signature(class_.step).parameters["closure"]
    assert ("closure" in row.traits) == (closure.default is inspect.Parameter.empty)
    assert ("modes" in row.traits) == (hasattr(class_, "train") and hasattr(class_, "eval"))
    groups = [{"params": [parameter]} for parameter in network(0).parameters()]
    arguments = row.arguments(row.known_good[0])
    if "one-group" in row.traits:
        with pytest.raises(ValueError, match="parameter options"):
            class_(groups, **arguments)
    else:
        assert len(class_(groups, **arguments).param_groups) == 8
    assert ("matrices" in row.traits) == ("matrix" in class_(network(0).parameters(), **arguments).param_groups[0])


def test_every_optimizer_of_torch_is_there_or_has_a_reason_not_to_be() -> None:
    classes = {
        name.lower()
        for name, each in vars(torch.optim).items()
        if isinstance(each, type) and issubclass(each, torch.optim.Optimizer) and each is not torch.optim.Optimizer
    }
    assert classes <= OPTIMIZERS.keys()


def test_sparseadam_is_sparse_adam_for_sparse_gradients_and_adam_for_dense_ones() -> None:
    """Against torch's two, one for each part; the same words again and again, which one batch must add up."""

    def trained(build: Callable[[nn.Sequential], list[torch.optim.Optimizer]]) -> Tensor:
        torch.manual_seed(0)
        model = nn.Sequential(nn.EmbeddingBag(9, 4, sparse=True), nn.Linear(4, 2))
        built = build(model)
        for _ in range(5):
            model.zero_grad()
            functional.cross_entropy(model(torch.randint(0, 7, (8, 3))), torch.arange(8) % 2).backward()
            for each in built:
                each.step()
        return weights(model)

    arguments: dict[str, Any] = {"lr": 0.03, "betas": (0.8, 0.9), "eps": 1e-5}
    mine = trained(lambda model: [SparseAndDenseAdam(model.parameters(), **arguments)])
    sparse = torch.optim.SparseAdam
    torchs = trained(
        lambda model: [sparse(model[0].parameters(), **arguments), torch.optim.Adam(model[1].parameters(), **arguments)]
    )
    torch.testing.assert_close(mine, torchs, rtol=1e-6, atol=1e-7)


def test_arguments_joins_the_betas() -> None:
    values = {"lr": 0.002, "beta1": 0.8, "beta2": 0.99, "eps": 1e-6}
    assert OPTIMIZERS["adam"].arguments(values) == {"lr": 0.002, "eps": 1e-6, "betas": [0.8, 0.99]}
    assert JOINED["betas"] == ("beta1", "beta2")


def test_arguments_leaves_nesterov_out_where_there_is_no_momentum() -> None:
    values = {"lr": 0.1, "momentum": 0.0, "nesterov": True, "weight_decay": 1e-4}
    assert OPTIMIZERS["sgd"].arguments(values) == {"lr": 0.1, "momentum": 0.0, "weight_decay": 1e-4}
    with_momentum = {**values, "momentum": 0.5}
    assert OPTIMIZERS["sgd"].arguments(with_momentum) == with_momentum


def test_arguments_leaves_dampening_out_where_there_is_nesterov() -> None:
    values = {"lr": 0.1, "momentum": 0.5, "nesterov": True, "weight_decay": 1e-4, "dampening": 0.5}
    assert "dampening" not in OPTIMIZERS["sgd"].arguments(values)
    assert OPTIMIZERS["sgd"].arguments({**values, "nesterov": False})["dampening"] == 0.5


LR = Float(0.01, 1.0, "log", "why")


def test_arguments_adds_what_is_always_passed() -> None:
    fixed = {"nesterov": True, "momentum": 0.9}
    row = Optimizer("sgd2", "torch.optim:SGD", ({"lr": 0.1},), {"lr": LR}, "s", "n", fixed=fixed)
    assert row.arguments({"lr": 0.1}) == {"nesterov": True, "momentum": 0.9, "lr": 0.1}


def test_arguments_fills_a_tuple_with_what_its_other_place_is_otherwise() -> None:
    row = Optimizer("a", "torch.optim:Adam", ({"lr": 0.1},), {"lr": LR}, "s", "n", also={"beta1": 0.9, "beta2": 0.99})
    assert row.arguments({"lr": 0.1}) == {"lr": 0.1}
    assert row.arguments({"lr": 0.1, "beta1": 0.5}) == {"lr": 0.1, "betas": [0.5, 0.99]}


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"known_good": ()}, "known_good must be some settings, each with an lr"),
        ({"known_good": ({"momentum": 0.1},)}, "known_good must be some settings, each with an lr"),
        ({"ranges": {"lr": LR, "eps": LR}}, "eps must be in every known_good"),
        (
            {"known_good": ({"lr": 0.1, "eps": 1.0}, {"lr": 0.1, "eps": 2.0})},
            "known_good eps = 2.0 lies outside its ran",
        ),
        ({"known_good": ({"lr": 0.1}, {"lr": 0.1, "eps": 1.0})}, "eps must be in every known_good"),
        ({"known_good": ({"lr": 2.0},)}, "known_good lr = 2.0 lies outside its range, 0.01 to 1, log scale"),
        ({"also": {"lr": 0.1}}, "lr must be either in also, or in ranges or fixed"),
        ({"also": {"eps": 0.1}, "fixed": {"eps": 0.2}}, "eps must be either in also, or in ranges or fixed"),
    ],
)
def test_a_row_that_does_not_fit_itself_is_refused(parts: dict[str, Any], message: str) -> None:
    whole = {"known_good": ({"lr": 0.1},), "ranges": {"lr": LR}, "source": "s", "note": "n", **parts}
    with pytest.raises(ValueError, match=message):
        Optimizer(name="own", path="torch.optim:SGD", **whole)


def test_a_known_good_setting_without_a_range_is_a_constant() -> None:
    row = Optimizer("own", "torch.optim:SGD", ({"lr": 0.1, "momentum": 0.9},), {"lr": LR}, "s", "n")
    assert row.ranges == {"lr": LR, "momentum": Fixed(0.9)}


def test_adam_starts_from_the_settings_of_its_article() -> None:
    assert OPTIMIZERS["adam"].known_good == ({"lr": 0.001, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8},)


def test_the_names_are_distinct_and_the_default_ones_exist() -> None:
    assert len(OPTIMIZERS) == len(ROWS)
    assert len(set(DEFAULT_OPTIMIZERS)) == len(DEFAULT_OPTIMIZERS)
    assert set(DEFAULT_OPTIMIZERS) <= set(OPTIMIZERS)


def test_an_unknown_optimizer_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"'adamn': did you mean 'adam.* \(see 'optitune optimizers'"):
        optimizers.find("adamn")


def test_all_means_every_row_whose_package_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(OPTIMIZERS) - {"sparseadam"} <= set(optimizers.available())
    absent = Optimizer("absent", "no_such_package.of:Mine", ({"lr": 0.1},), {"lr": LR}, "s", "n")
    extra = Optimizer("extra", "no_such_package:Mine", ({"lr": 0.1},), {"lr": LR}, "s", "n", extra="mine")
    monkeypatch.setattr(optimizers, "OPTIMIZERS", {**OPTIMIZERS, "absent": absent, "extra": extra})
    assert not {"absent", "extra"} & set(optimizers.available())
    assert set(StudySettings(optimizers=("all",)).optimizers) == set(optimizers.available())
    for row, remedy in ((absent, "pip install no_such_package"), (extra, r"pip install 'optitune\[mine\]'")):
        with pytest.raises(UsageError, match=f"optimizer '{row.name}' needs the package no_such_package: {remedy}$"):
            optimizers.check_installed(row)
        with pytest.raises(ValueError, match=f"optimizer '{row.name}' needs the package no_such_package"):
            StudySettings(optimizers=("adam", row.name))
    for row in ROWS:
        optimizers.check_installed(row)


class Signs(torch.optim.Optimizer):
    """Steps along the sign of the gradient, for a row that no package has."""

    def __init__(self, params: Any, lr: float, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.mul_(1 - group["lr"] * group["weight_decay"]).sub_(parameter.grad.sign(), alpha=group["lr"])


@pytest.fixture
def signs(monkeypatch: pytest.MonkeyPatch) -> Optimizer:
    """An optimizer that is no more than a row."""
    row = Optimizer(
        name="signs",
        path=f"{__name__}:Signs",
        known_good=({"lr": 1e-3, "weight_decay": 0.1},),
        ranges={"lr": around(1e-3, LR_FACTOR, "a factor"), "weight_decay": Fixed(0.1)},
        source="a test",
        note="Steps by sign.",
    )
    monkeypatch.setattr(optimizers, "OPTIMIZERS", MappingProxyType({**OPTIMIZERS, row.name: row}))
    return row


def test_an_optimizer_that_was_added_as_a_row_can_be_searched_and_configured(
    signs: Optimizer, configured: Configured, images: Examples
) -> None:
    settings = StudySettings(optimizers=("adam", "signs"), signs={"weight_decay": [0.01, 1.0]}, lr=[1e-4, 1e-3])
    preflight.check(Task(model=lambda: Mlp((16, 3)), data=None), images, settings)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.enqueue_trial(known_good_parameters(settings)[1])
    first, *others = [suggest(study.ask(), settings, settings.space()) for _ in range(20)]
    assert first.optimizer.settings == pytest.approx({"lr": 1e-3, "weight_decay": 0.1})
    assert {"adam", "signs"} == {each.optimizer.name for each in others}
    assert "signs" in StudySettings(optimizers=("all",)).optimizers
    with pytest.raises(ValueError, match=r"settings.lr = 0: lr must be above 0"):
        configured("signs", lr=0)


def test_an_optimizer_that_was_added_as_a_row_trains(
    signs: Optimizer, network: Network, images: Examples, configured: Configured
) -> None:
    training = Training(network(0), planned(configured("signs", lr=0.01), epochs=20), images)
    assert type(training.optimizer) is Signs
    assert [group["weight_decay"] for group in training.optimizer.param_groups] == [0.1, 0.0]
    losses = [progress.train_loss for progress in training.run()]
    assert losses[-1] < 0.8 * losses[0]


def test_an_optimizer_that_was_added_as_a_row_is_exported(
    signs: Optimizer, configured: Configured, best_config: Callable[[Configuration], BestConfig]
) -> None:
    text = python(best_config(configured("signs")))
    assert f"import {__name__}\n" in text
    assert f"optimizer = {__name__}.Signs(groups(model), lr=0.001, weight_decay=0.1)" in text


def test_without_its_row_the_optimizer_is_unknown(configured: Configured) -> None:
    with pytest.raises(UsageError, match="unknown optimizer 'signs'"):
        configured("signs")
