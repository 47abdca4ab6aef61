"""Targets of any size: said before a search where they are uncommon, scaled where the task asks for it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import optitune
from optitune import Task
from optitune.errors import UsageError
from optitune.study import best_config
from optitune.tasks.data import Examples
from optitune.tasks.scaling import Scaling, unscaled
from optitune.tasks.splits import remarks, search_data
from optitune.training.build import build
from optitune.training.export_code import export

GENERATOR = torch.Generator().manual_seed(0)
INPUTS = torch.randn(300, 3, generator=GENERATOR)
PRICES = 5_000 + 3_000 * INPUTS[:, 0] - 1_500 * INPUTS[:, 1] + 100 * torch.randn(300, generator=GENERATOR)


def prices(**fields: Any) -> Task:
    """A price in the thousands, linear in three numbers."""
    given: dict[str, Any] = {"data": (INPUTS, PRICES), "loss": "mse", "metric": "mae", "name": "prices", **fields}
    return Task(model=lambda: nn.Sequential(nn.Linear(3, 1)), **given)


@pytest.mark.parametrize(
    ("mean", "sd", "said"),
    [(0, 1, False), (1.5, 0.8, False), (4, 4, False), (0, 0.1, False), (0, 1e-3, True), (20, 1, True), (0, 50, True)],
)
def test_targets_far_from_0_and_1_are_named_with_the_way_out(mean: float, sd: float, said: bool) -> None:
    targets = torch.randn(400, generator=torch.Generator().manual_seed(1)) * sd + mean
    mine = prices(data=(torch.rand(400, 3), targets))
    lines = remarks(mine, search_data(mine, None))
    assert [f"{search_data(mine, None).train.targets.double().std(correction=0):.4g}" in each for each in lines] == (
        [True] * said
    )
    assert all("Task(scale_targets=True)" in each for each in lines)
    scaled = prices(data=(torch.rand(400, 3), targets), scale_targets=True)
    assert remarks(scaled, search_data(scaled, None)) == []


def test_the_output_that_is_uncommon_is_named_and_classes_are_never() -> None:
    numbers = torch.randn(200, 2) * torch.tensor([1.0, 1000.0])
    assert "the targets of output 2 have mean" in unscaled(Examples(torch.rand(200, 3), numbers))
    assert unscaled(Examples(torch.rand(200, 3), torch.arange(200) * 100)) == ""


def test_every_output_is_scaled_by_itself_and_brought_back() -> None:
    numbers = torch.randn(500, 3, generator=GENERATOR) * torch.tensor([1.0, 1000.0, 0.0]) + torch.tensor(
        [0.0, 7.0, 3.0]
    )
    scaling = Scaling.of(Examples(torch.rand(500, 1), numbers))
    made = scaling.scaled(numbers)
    assert torch.allclose(made.mean(0), torch.zeros(3), atol=1e-5)
    # an output that never changes has no deviation to divide by
    assert torch.allclose(made.std(0, correction=0), torch.tensor([1.0, 1.0, 0.0]), atol=1e-5)
    assert torch.allclose(scaling.back(made), numbers, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("shape", [(300,), (300, 1)])
def test_outputs_of_either_shape_come_back(shape: tuple[int, ...]) -> None:
    scaling = Scaling.of(Examples(INPUTS, PRICES.reshape(shape)))
    outputs = scaling.scaled(PRICES)[:, None] if shape == (300,) else scaling.scaled(PRICES.reshape(shape))
    assert torch.allclose(scaling.back(outputs).flatten(), PRICES, rtol=1e-4)
    with pytest.raises(UsageError, match="the network gives"):
        scaling.back(torch.rand(300, 2))


def test_classes_are_not_scaled() -> None:
    with pytest.raises(UsageError, match="the targets are whole numbers"):
        Scaling.of(Examples(INPUTS, torch.arange(300)))


def mean_absolute(model: nn.Module, scaling: dict[str, float], inputs: Tensor, targets: Tensor) -> float:
    with torch.no_grad():
        return float((model(inputs).squeeze(1) * scaling["sd"] + scaling["mean"] - targets).abs().mean())


def test_search_comparison_full_training_and_exported_code_are_in_the_targets_own_unit(tmp_path: Path) -> None:
    mine = prices(scale_targets=True, test=(INPUTS[:50], PRICES[:50]))
    words: dict[str, Any] = {"study": "prices", "studies_dir": tmp_path, "device": "cpu", "progress": False}
    found = optitune.search(mine, trials=2, epochs=20, optimizers="sgd,adam", pruner="none", **words)
    values = {row.optimizer: row.value for row in found.records}
    # the noise alone is 80; answering the mean is about 2,700 away
    assert 60 < values["sgd"] < 200
    compared = optitune.compare(mine, max_runs=2, sensitivity=0, **words)
    assert {run.key.optimizer: run.value for run in compared.comparison.runs}["sgd"] == pytest.approx(80, abs=60)
    full = optitune.retrain(mine, seeds=1, **words)
    document = json.loads((full.folder / "metrics.json").read_text())
    scaling = document["scaling"]
    assert scaling["mean"] == pytest.approx(float(PRICES.mean()), rel=1e-4)
    assert scaling["sd"] == pytest.approx(float(PRICES.std(correction=0)), rel=1e-4)
    model = build(mine, 0, torch.device("cpu"))
    model.load_state_dict(load_file(full.folder / "model.safetensors"))
    error = mean_absolute(model, scaling, INPUTS[:50], PRICES[:50])
    assert error == pytest.approx(full.test_value.mean, rel=1e-3)
    assert error < 200
    config = best_config.load(tmp_path / "prices" / "best.toml", "")
    made: dict[str, Any] = {}
    exec(export(config, "python"), made)  # noqa: S102
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(INPUTS, PRICES), config.configuration.training.batch_size, shuffle=True
    )
    torch.manual_seed(0)
    plain = mine.model()
    made["train"](plain, loader)
    own = {"mean": float(made["target_mean"]), "sd": float(made["target_sd"])}
    assert own == pytest.approx(scaling, rel=0.1)
    assert mean_absolute(plain, own, INPUTS, PRICES) < 200
    for call in (optitune.compare, optitune.retrain):
        with pytest.raises(UsageError, match="has scale_targets=False, but the study was made with True"):
            call(prices(test=(INPUTS[:50], PRICES[:50])), **words)
    with pytest.raises(UsageError, match=r"was made with other data:\n  scaling"):
        optitune.search(prices(test=(INPUTS[:50], PRICES[:50])), trials=3, epochs=20, optimizers="sgd,adam",
                        pruner="none", **words)  # fmt: skip
