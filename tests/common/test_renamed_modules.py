"""Studies that were made when all modules were in one folder."""

from importlib import import_module
from pathlib import Path

import pytest
import torch

from optitune import load
from optitune.common.renamed_modules import RENAMED, current_path
from optitune.space.configuration import OptimizerSettings
from optitune.training.build import at
from optitune.training.muon import MuonWithAdamW
from optitune.training.sparse_adam import SparseAndDenseAdam
from optitune.training.task_code import changes

REFERENCE = Path(__file__).parents[2] / "studies"


@pytest.mark.parametrize("module", RENAMED)
def test_each_module_is_where_the_table_says(module: str) -> None:
    assert import_module(RENAMED[module]).__name__ == current_path(f"{module}:x").partition(":")[0]


@pytest.mark.parametrize(
    "path", ["torch.optim:SGD", "optitune.muonic:X", "mine:Own", "optitune.training.muon:MuonWithAdamW"]
)
def test_other_paths_stay(path: str) -> None:
    assert current_path(path) == path


def test_an_optimizer_is_found_by_the_path_that_an_old_study_holds() -> None:
    assert at("optitune.muon:MuonWithAdamW") is MuonWithAdamW
    assert at("optitune.sparse_adam:SparseAndDenseAdam") is SparseAndDenseAdam
    stored = {"name": "mine", "path": "optitune.muon:MuonWithAdamW", "traits": ["matrices"], "settings": {"lr": 0.01}}
    settings = OptimizerSettings.model_validate(stored)
    assert settings.how == ("optitune.training.muon:MuonWithAdamW", ("matrices",))
    # what is stored is left as it was written
    assert settings.path == "optitune.muon:MuonWithAdamW"


def test_a_function_of_ours_that_has_moved_is_no_change_of_a_tasks_code() -> None:
    def recorded(name: str) -> dict[str, object]:
        return {"torch": torch.__version__, "python": "cpython-311", "network": [], "parts": {name: "library"}}

    assert changes(recorded("optitune.models.mnist_cnn"), recorded("optitune.tasks.models.mnist_cnn")) == []
    assert changes(recorded("optitune.models.mnist_cnn"), recorded("optitune.tasks.models.mnist_mlp")) != []


def test_the_reference_study_is_shown() -> None:
    result = load("mnist-cnn-reference", studies_dir=REFERENCE)
    assert {row["optimizer"] for _, row in result.trials.iterrows()} >= {"muon", "adamw", "sgd"}
