"""Optimizers that other packages bring: found by their entry point, and all faults of theirs told by name."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from torch import nn
from torch.nn import functional

from optitune.errors import UsageError
from optitune.space import optimizers
from optitune.space.configuration import Configuration
from optitune.space.optimizers import OPTIMIZERS
from optitune.study.best_config import BestConfig
from optitune.study.settings import StudySettings
from optitune.tasks import metrics
from optitune.tasks.data import Examples
from optitune.terminal.study import as_code
from optitune.training.engine import Training
from optitune.training.export_code import python
from optitune.training.plan import Plan

ROW = """
from optitune.space.optimizers import Optimizer
from optitune.space.ranges import Float

def row(name, path="torch.optim:SGD"):
    return Optimizer(
        name=name,
        path=path,
        known_good=({"lr": 0.2},),
        ranges={"lr": Float(0.02, 2.0, "log", "a paper")},
        source="a paper",
        note="Another package's.",
    )
"""

Installed = Callable[[str, str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installed]:
    """Puts a package on the path as if it were installed: what its module says, and its entry point."""

    def put(said: str, name: str = "anything") -> None:
        about = tmp_path / "brought_optimizers-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: brought-optimizers\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text(f"[optitune.optimizers]\n{name} = brought_optimizers:rows\n")
        (tmp_path / "brought_optimizers.py").write_text(ROW + said)
        monkeypatch.syspath_prepend(tmp_path)
        optimizers._brought.cache_clear()

    yield put
    optimizers._brought.cache_clear()
    sys.modules.pop("brought_optimizers", None)


def test_a_row_is_found_listed_and_means_all_too(install: Installed) -> None:
    install("rows = row('brought')")
    assert optimizers.find("brought").lr == 0.2
    assert list(optimizers.known()) == [*OPTIMIZERS, "brought"]
    assert "brought" in optimizers.available()
    assert StudySettings(optimizers=("all",)).optimizers[-1] == "brought"


@pytest.mark.parametrize("rows", ["(row('one'), row('two'))", "[row('one'), row('two')]", "map(row, ('one', 'two'))"])
def test_an_entry_point_may_give_several_rows(rows: str, install: Installed) -> None:
    install(f"rows = {rows}")
    assert list(optimizers.known())[-2:] == ["one", "two"]


def test_a_row_is_searched_trained_and_exported_as_one_of_the_package(
    install: Installed,
    configured: Callable[..., Configuration],
    best_config: Callable[[Configuration], BestConfig],
    network: Callable[[int], nn.Module],
    images: Examples,
) -> None:
    install("import torch\nclass Mine(torch.optim.SGD): pass\nrows = row('brought', 'brought_optimizers:Mine')")
    settings = StudySettings.model_validate({"optimizers": ["adam", "brought"], "brought": {"lr": [0.1, 1.0]}})
    assert [row.name for row in settings.rows()] == ["adam", "brought"]
    configuration = configured("brought")
    plan = Plan(configuration, functional.cross_entropy, metrics.find("accuracy"), 2, seed=0, precision="fp32")
    training = Training(network(0), plan, images)
    assert type(training.optimizer).__name__ == "Mine"
    assert len(list(training.run())) == 2
    text = python(best_config(configuration))
    assert "import brought_optimizers\n" in text
    assert "optimizer = brought_optimizers.Mine(model.parameters(), lr=0.2)" in text


def test_a_row_whose_class_is_of_a_package_that_is_missing_is_no_part_of_all(install: Installed) -> None:
    install("rows = row('brought', 'not_installed_anywhere:Mine')")
    assert "brought" in optimizers.known()
    assert "brought" not in optimizers.available()


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("raise RuntimeError('no licence')", "cannot be loaded: RuntimeError: no licence"),
        ("", "cannot be loaded: AttributeError: "),
        ("import not_installed_anywhere", "cannot be loaded: ModuleNotFoundError: No module named"),
        ("rows = 5", "gives something of type int, no optimizer's row"),
        ("rows = row", "gives something of type function, no optimizer's row"),
        ("rows = [row('one'), 'two']", "gives something of type str, no optimizer's row"),
        ("rows = row('adam')", "brings an optimizer 'adam', but there is one of that name"),
        ("rows = [row('one'), row('one')]", "brings an optimizer 'one', but there is one of that name"),
    ],
)
def test_a_fault_of_an_entry_point_is_told_with_its_package(said: str, message: str, install: Installed) -> None:
    install(said)
    place = "the entry point anything = brought_optimizers:rows of the package brought-optimizers "
    for ask in (optimizers.known, optimizers.available, lambda: optimizers.find("adamm")):
        with pytest.raises(UsageError) as caught:
            ask()
        assert str(caught.value).startswith(place + message)


def test_what_is_built_in_is_found_whatever_other_packages_do(install: Installed) -> None:
    install("raise RuntimeError('no licence')")
    assert optimizers.find("adam") is OPTIMIZERS["adam"]
    assert StudySettings(optimizers=("adam", "sgd")).optimizers == ("adam", "sgd")


def test_a_study_that_names_a_faulty_packages_row_is_refused_with_the_reason(install: Installed) -> None:
    install("rows = 5")
    with pytest.raises((UsageError, ValueError), match="gives something of type int, no optimizer's row"):
        StudySettings(optimizers=("brought",))


def test_a_study_may_say_something_of_a_name_that_stands_nowhere_else(install: Installed) -> None:
    install("rows = row('brought')")
    said: dict[str, Any] = {"optimizers": ["adam"], "brought": {"lr": 0.1}}
    with pytest.raises(ValueError, match="brought: is not among the optimizers and schedules that compete"):
        StudySettings.model_validate(said)


def test_a_trial_of_a_row_is_shown_with_a_path_that_imports(install: Installed, tmp_path: Path) -> None:
    install("rows = row('brought')")
    configuration = Configuration.model_validate(
        {
            "optimizer": {"name": "brought", "settings": {"lr": 0.1}},
            "schedule": {"name": "constant", "settings": {}},
            "training": {"batch_size": 8, "loss": "mse"},
        }
    )
    assert as_code(configuration, 2) == ["optimizer = torch.optim.SGD(model.parameters(), lr=0.1)"]
