"""What exported text says: the settings to their last digit, what to expect, and the same in TOML and JSON."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import tomli_w
from torch import nn
from trainings import GROUPS, pasted

from optitune.errors import UsageError
from optitune.space.configuration import Configuration
from optitune.space.optimizers import OPTIMIZERS
from optitune.study.best_config import BestConfig, dumps
from optitune.training.export_code import FORMATS, export, python

Configured = Callable[..., Configuration]
Network = Callable[[int], nn.Module]
Config = Callable[[Configuration], BestConfig]


def test_python_says_what_to_expect_and_trains(configured: Configured, best_config: Config) -> None:
    configuration = configured("adam", "cosine", epochs=3)
    assert python(best_config(configuration)).splitlines() == [
        "import torch",
        "from torch.nn import functional",
        "",
        "# digits: validation accuracy 97.21 % after 3 epochs of batches of 16 (trial 7, one run)",
        "",
        "",
        "def train(model, loader, epochs=3):",
        '    """Train `model` on the batches of 16 (inputs, targets) of `loader`; the mean loss of every epoch."""',
        "    optimizer = torch.optim.Adam(model.parameters(), lr=0.001, eps=1e-08, betas=(0.9, 0.999))",
        "    # a last batch of a single example is left out",
        "    batches = len(loader) - (len(getattr(loader, 'dataset', ())) == 16 * len(loader) - 15)",
        "    steps = batches",
        "    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs * steps)",
        "    losses = []",
        "    for _ in range(epochs):",
        "        model.train()",
        "        total = seen = 0",
        "        for inputs, targets in loader:",
        "            size = len(targets)",
        "            if size == 1:  # batch norm cannot take it, so the search left it out too",
        "                continue",
        "            optimizer.zero_grad()",
        "            loss = functional.cross_entropy(model(inputs), targets)",
        "            loss.backward()",
        "            loss_met = loss.detach()",
        "            optimizer.step()",
        "            total, seen = total + loss_met.item() * size, seen + size",
        "            scheduler.step()",
        "        losses.append(total / seen)",
        "    return losses",
    ]


@pytest.mark.parametrize("row", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
def test_python_needs_torch_alone_or_the_optimizers_package(
    row: Any, configured: Configured, best_config: Config
) -> None:
    text = python(best_config(configured(row.name, "cosine", warmup=0.1, training={"groups": GROUPS, "loss": "mse"})))
    imported = {line.split()[1].partition(".")[0] for line in text.splitlines() if line.startswith(("import", "from"))}
    package = row.path.partition(":")[0].partition(".")[0]
    assert imported - {"copy"} == {"fnmatch", "torch"} | ({package} - {"optitune"})
    assert "optitune" not in text


def test_numbers_are_written_to_their_last_digit(configured: Configured, best_config: Config) -> None:
    lr, factor, norm = 0.1 + 0.2, 0.7 + 0.1, 0.1 * 3
    training = {"groups": {"fc*": factor}, "clip_norm": norm, "l1": norm, "label_smoothing": norm}
    text = python(best_config(configured("adam", lr=lr, warmup=norm, training=training)))
    assert f"lr={lr!r}" in text
    assert f"{{'fc*': {lr * factor!r}}}" in text
    for line in (
        "clip_grad_norm_(model.parameters(), {})",
        "penalty = {} *",
        "label_smoothing={}",
        "round({} * epochs",
    ):
        assert line.format(repr(norm)) in text


def test_patterns_are_quoted_as_python_needs(configured: Configured, best_config: Config, network: Network) -> None:
    patterns = {"fc'1\"\\.*": 2.0, "*": 3.0}
    names = pasted(python(best_config(configured("sgd", training={"groups": patterns, "decay_biases": True}))))
    (group,) = names["groups"](network(0))
    assert group["lr"] == pytest.approx(0.15)


def test_toml_is_a_best_toml(configured: Configured, best_config: Config) -> None:
    config = best_config(configured("adam", "step", training={"groups": {"fc*": 2.0}}))
    assert export(config, "toml") == dumps(config).rstrip()
    document = {key: value for key, value in config.model_dump().items() if value != {}}
    # a single run, the direction of a metric and the place of a built-in optimizer go without saying
    assert document.pop("runs") == 1
    assert document.pop("direction") == ""
    del document["configuration"]["optimizer"]["path"], document["configuration"]["optimizer"]["traits"]
    assert export(config, "toml").endswith(tomli_w.dumps(document).rstrip())


def test_json_is_the_same_document(configured: Configured, best_config: Config) -> None:
    config = best_config(configured("adam", "step"))
    assert BestConfig.model_validate(json.loads(export(config, "json"))) == config


@pytest.mark.parametrize("form", FORMATS)
def test_no_format_ends_in_a_newline(form: str, configured: Configured, best_config: Config) -> None:
    assert export(best_config(configured("adam", "step")), form)[-1] not in "\n "


def test_python_is_what_is_exported_as_python(configured: Configured, best_config: Config) -> None:
    config = best_config(configured("sgd"))
    assert export(config, "python") == python(config)


def test_code_for_no_epochs_is_refused(configured: Configured, best_config: Config) -> None:
    with pytest.raises(UsageError, match="epochs = 0: must be at least 1"):
        python(best_config(configured("adam")), 0)
