"""What is exported can be pasted: the Python builds what was found, and TOML and JSON say it."""

import json
from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
import tomli_w
from torch import nn
from torch.nn import functional

from optitune.best import BestConfig, dumps
from optitune.configuration import Configuration
from optitune.data import Images
from optitune.engine import Plan, Training
from optitune.export import FORMATS, export, python
from optitune.optimizers import OPTIMIZERS
from optitune.schedules import SCHEDULES

Configured = Callable[..., Configuration]
Network = Callable[[int], nn.Module]
Config = Callable[[Configuration], BestConfig]

every_pair = pytest.mark.parametrize(
    ("optimizer", "variant", "schedule"),
    [
        pytest.param(row.name, variant, schedule, id=f"{row.name}-{variant}-{schedule}")
        for row in OPTIMIZERS.values()
        for variant in range(len(row.known_good))
        for schedule in SCHEDULES
    ],
)


def pasted(text: str, model: nn.Module) -> dict[str, Any]:
    """The names that exported Python leaves behind."""
    names: dict[str, Any] = {"model": model}
    exec(text, names)  # noqa: S102
    return names


def class_at(path: str) -> Any:
    module, name = path.split(":")
    return getattr(import_module(module), name)


@every_pair
def test_pasted_python_builds_exactly_what_was_found(
    optimizer: str, variant: int, schedule: str, configured: Configured, best_config: Config, network: Network
) -> None:
    configuration = configured(optimizer, schedule, epochs=3, variant=variant)
    names = pasted(python(best_config(configuration)), network(0))
    assert type(names["optimizer"]) is class_at(OPTIMIZERS[optimizer].path)
    (group,) = names["optimizer"].param_groups
    for name, value in configuration.optimizer.settings.items():
        # a scheduler that is built may have changed lr already; what was given is kept beside it
        given = group.get(f"initial_{name}", group[name])
        assert given == (tuple(value) if isinstance(value, list) else value), name
    if not SCHEDULES[schedule].path:
        assert "scheduler" not in names
        return
    assert type(names["scheduler"]) is class_at(SCHEDULES[schedule].path)
    assert {name: getattr(names["scheduler"], name) for name in configuration.schedule.settings} == (
        configuration.schedule.settings
    )


@every_pair
def test_pasted_python_trains_as_the_search_did(
    optimizer: str,
    variant: int,
    schedule: str,
    configured: Configured,
    best_config: Config,
    network: Network,
    images: Images,
    plain_training: Callable[..., Any],
) -> None:
    configuration, model = configured(optimizer, schedule, epochs=3, variant=variant), network(0)
    names = pasted(python(best_config(configuration)), model)
    plain = plain_training(model, names["optimizer"], names.get("scheduler"), images, epochs=3, batch_size=16, seed=5)
    plan = Plan(configuration, functional.cross_entropy, epochs=3, batch_size=16, seed=5, precision="fp32")
    searched = [row.train_loss for row in Training(network(0), plan, images).run()]
    assert list(plain) == pytest.approx(searched, rel=1e-4)


def test_python_says_what_to_expect_and_how_to_use_the_scheduler(configured: Configured, best_config: Config) -> None:
    configuration = configured("adam", "cosine", epochs=3)
    assert python(best_config(configuration)).splitlines() == [
        "import torch",
        "",
        "# digits: validation accuracy 0.9721 after 3 epochs of batches of 16 (trial 7, one run)",
        "optimizer = torch.optim.Adam(model.parameters(), lr=0.001, eps=1e-08, betas=(0.9, 0.999))",
        "scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=3)",
        "# after every epoch: scheduler.step()",
    ]


def test_python_needs_torch_alone(configured: Configured, best_config: Config) -> None:
    text = python(best_config(configured("sgd", "step")))
    assert [line for line in text.splitlines() if "import" in line] == ["import torch"]


def test_numbers_are_written_to_their_last_digit(configured: Configured, best_config: Config, network: Network) -> None:
    lr = 0.1 + 0.2
    names = pasted(python(best_config(configured("adam", lr=lr))), network(0))
    assert names["optimizer"].param_groups[0]["lr"] == lr


def test_toml_is_a_best_toml(configured: Configured, best_config: Config) -> None:
    config = best_config(configured("adam", "step"))
    assert export(config, "toml") == dumps(config).rstrip()
    assert export(config, "toml").endswith(tomli_w.dumps(config.model_dump()).rstrip())


def test_json_is_the_same_document(configured: Configured, best_config: Config) -> None:
    config = best_config(configured("adam", "step"))
    assert BestConfig.model_validate(json.loads(export(config, "json"))) == config


@pytest.mark.parametrize("form", FORMATS)
def test_no_format_ends_in_a_newline(form: str, configured: Configured, best_config: Config) -> None:
    assert export(best_config(configured("adam", "step")), form)[-1] not in "\n "


def test_python_is_what_is_exported_as_python(configured: Configured, best_config: Config) -> None:
    config = best_config(configured("sgd"))
    assert export(config, "python") == python(config)
