"""Networks with lazy layers, which take their shapes from a first batch: built, trained, resumed, exported."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils.data import DataLoader, TensorDataset

from optitune import Task
from optitune.errors import UsageError
from optitune.space.configuration import Configuration
from optitune.study.best_config import BestConfig
from optitune.study.settings import StudySettings
from optitune.tasks.data import Examples
from optitune.tasks.metrics import find
from optitune.training.build import build, initialise, lazy
from optitune.training.engine import Training
from optitune.training.export_code import python
from optitune.training.plan import Plan
from optitune.training.preflight import check

pytestmark = pytest.mark.wide

FILE = """
import torch
from torch import nn
from optitune import Task


def network():
    return nn.Sequential(
        nn.BatchNorm2d(1), nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.ReLU(), nn.Flatten(), nn.Dropout(0.1),
        nn.LazyLinear(8), nn.LazyBatchNorm1d(), nn.ReLU(), nn.LazyLinear(2),
    )


X = torch.randn(120, 1, 4, 4, generator=torch.Generator().manual_seed(0)) + 3


def make_task():
    return Task(model=network, data=(X, (X[:, 0, 0, 0] > 3).long()))
"""

CPU = torch.device("cpu")
NAMES: dict[str, object] = {}
exec(FILE, NAMES)  # noqa: S102
network: Callable[[], nn.Sequential] = NAMES["network"]  # type: ignore[assignment]
INPUTS: Tensor = NAMES["X"]  # type: ignore[assignment]
DATA = Examples(INPUTS, (INPUTS[:, 0, 0, 0] > 3).long())


def task() -> Task:
    made: Task = NAMES["make_task"]()  # type: ignore[operator]
    return made


def test_weights_are_those_of_torch_and_statistics_stay_as_they_were() -> None:
    torch.manual_seed(3)
    plain = network()
    with torch.no_grad():
        plain.eval()(INPUTS[:2])
    expected = {name: value.clone() for name, value in plain.state_dict().items()}

    def drawing() -> Tensor:
        torch.rand(7)
        return INPUTS[:2]

    torch.manual_seed(3)
    model = network()
    initialise(model, drawing)
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())
    assert all(each.training for each in model.modules())
    for norm in (model[0], model[2], model[7]):
        assert norm.running_mean.eq(0).all()
        assert norm.running_var.eq(1).all()
        assert norm.num_batches_tracked == 0


class Auxiliary(nn.Module):
    """A network that uses one of its heads in training alone."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.BatchNorm2d(1)
        self.head = nn.LazyLinear(2)
        self.norm = nn.LazyBatchNorm1d()

    def forward(self, inputs: Tensor) -> Tensor:
        row = self.scale(inputs).flatten(1)
        return self.head(self.norm(row)) if self.training else self.head(row)


def test_a_layer_that_is_used_in_training_alone_leaves_no_trace_of_the_batch_either() -> None:
    model = Auxiliary()
    initialise(model, lambda: INPUTS[:4])
    assert lazy(model) == []
    for norm in (model.scale, model.norm):
        assert norm.running_mean.eq(0).all()  # type: ignore[union-attr]
        assert norm.running_var.eq(1).all()  # type: ignore[union-attr]
        assert norm.num_batches_tracked == 0


def test_a_network_without_lazy_layers_is_not_called() -> None:
    initialise(nn.Sequential(nn.Linear(2, 2)), lambda: pytest.fail("a batch was read"))


def test_a_layer_that_is_never_used_is_named() -> None:
    class Unused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.spare = nn.LazyLinear(2), nn.LazyLinear(3)

        def forward(self, inputs: Tensor) -> Tensor:
            return self.used(inputs.flatten(1))

    with pytest.raises(UsageError, match=r"does not use 'spare.weight', so that its shape stays unknown"):
        check(Task(model=Unused, data=None), DATA, StudySettings(task="x.py:y", optimizers=("adam",)))


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "lbfgs"])
def test_a_training_repeats_itself_and_goes_on_from_a_checkpoint(
    optimizer: str, configured: Callable[..., Configuration]
) -> None:
    def begun() -> Training:
        plan = Plan(configured(optimizer), nn.functional.cross_entropy, find("accuracy"), 2, 5, "fp32")
        return Training(build(task(), 5, CPU), plan, DATA)

    def losses(training: Training) -> list[float]:
        return [each.train_loss for each in training.run()]

    expected = losses(begun())
    half = begun()
    first = next(iter(half.run())).train_loss
    rest = begun()
    rest.load_state_dict(half.state_dict())
    assert [first, *losses(rest)] == losses(begun()) == expected


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "muon", "lbfgs"])
def test_exported_code_trains_a_lazy_network(
    optimizer: str, configured: Callable[..., Configuration], best_config: Callable[[Configuration], BestConfig]
) -> None:
    scope: dict[str, object] = {}
    text = python(best_config(configured(optimizer, training={"l1": 1e-6 * (optimizer == "lbfgs")})))
    exec(text, scope)  # noqa: S102
    model = network()
    loader = DataLoader(TensorDataset(INPUTS, DATA.targets), 16)
    assert len(scope["train"](model, loader, epochs=1)) == 1  # type: ignore[operator]
    assert not any(map(is_lazy, model.parameters()))


def test_a_search_and_a_full_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_command: Callable[..., tuple[int, str, str]]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lazy_task.py").write_text(FILE)
    search = ("search", "--task", "lazy_task.py:make_task", "--study", "lazy", "--optimizers", "adamw,sgd")
    code, out, err = run_command(*search, "--trials", "2", "--epochs", "1", "--workers", "1", "-q")
    assert (code, err) == (0, ""), out + err
    assert "2 trials finished: 2 complete" in out
    code, out, err = run_command("retrain", "best", "--study", "lazy", "--epochs", "1", "--seeds", "1", "-q")
    assert (code, err) == (0, ""), out + err
    model = network()
    model.load_state_dict(load_file(tmp_path / "studies" / "lazy" / "retrain" / "best" / "model.safetensors"))
    assert model.eval()(INPUTS).shape == (120, 2)
