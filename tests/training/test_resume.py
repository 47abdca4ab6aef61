"""A training that is taken up again from a file goes on to the last bit, whatever it is made of."""

import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset
from trainings import without_clock

from optitune.common import checkpoint
from optitune.common.randomness import seed_everything
from optitune.space.configuration import Configuration, Precision
from optitune.space.optimizers import OPTIMIZERS
from optitune.space.schedules import SCHEDULES
from optitune.tasks import data as data_module
from optitune.tasks import metrics
from optitune.tasks.data import Examples, Part, Streamed
from optitune.training.engine import Training
from optitune.training.plan import Plan
from optitune.training.progress import Progress

pytestmark = pytest.mark.wide

Configured = Callable[..., Configuration]
Network = Callable[[int], nn.Module]


def planned(configuration: Configuration, precision: Precision = "fp32", evaluations: int = 2) -> Plan:
    accuracy = metrics.find("accuracy")
    return Plan(configuration, functional.cross_entropy, accuracy, 3, 5, precision, evaluations=evaluations)


def dropping() -> nn.Module:
    """A network whose training draws random numbers."""
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 32), nn.BatchNorm1d(32), nn.Dropout(0.5), nn.Linear(32, 3))


def weights(model: nn.Module) -> Tensor:
    """Of all layers, what batch normalisation has counted included."""
    return torch.cat([each.detach().flatten().double() for each in model.state_dict().values()])


class Askew:
    """A file of tensors that are handed out where no allocator of torch's would put them: an element further on."""

    def __init__(self, path: Path, framework: str) -> None:
        self._opened = safe_open(path, framework=framework)

    def __enter__(self) -> "Askew":
        self._file = self._opened.__enter__()
        return self

    def __exit__(self, *about: Any) -> None:
        self._opened.__exit__(*about)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def get_tensor(self, name: str) -> Tensor:
        given = self._file.get_tensor(name)
        room = torch.empty(given.numel() + 1, dtype=given.dtype)
        return room[1:].view(given.shape).copy_(given)


@pytest.fixture
def askew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files lie in memory as they come, as safetensors has it on some machines: MKL then sums in another order."""
    monkeypatch.setattr(checkpoint, "safe_open", Askew)
    monkeypatch.setattr(data_module, "safe_open", Askew)


def aligned(state: Any) -> bool:
    """Whether every tensor lies where torch's allocator puts them."""
    if isinstance(state, Tensor):
        return state.data_ptr() % 64 == 0
    parts = state.values() if isinstance(state, dict) else state if isinstance(state, list | tuple) else ()
    return all(map(aligned, parts))


def straight_and_resumed(
    plan: Plan, build: Callable[[], nn.Module], data: Part, path: Path
) -> Iterator[tuple[Tensor, list[tuple[object, ...]]]]:
    """Weights and progress of a training, then of one that was taken up from a file after each evaluation."""
    straight = Training(build(), plan, data, data)
    progress = list(straight.run())
    yield weights(straight.model), without_clock(progress)
    reached: list[Progress] = []
    for point in range(len(progress)):
        # what another process has drawn by then
        seed_everything(point)
        training = Training(build(), plan, data, data)
        if point:
            training.load_state_dict(checkpoint.load(path))
        reached.append(next(training.run()))
        checkpoint.save(training.state_dict(), path)
    yield weights(training.model), without_clock(reached)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_training_taken_up_again_goes_on_to_the_last_bit(
    optimizer: str, schedule: str, configured: Configured, network: Network, images: Examples, tmp_path: Path
) -> None:
    plan = planned(configured(optimizer, schedule))
    straight, resumed = straight_and_resumed(plan, lambda: network(0), images, tmp_path / "state.safetensors")
    assert torch.equal(straight[0], resumed[0])
    assert straight[1] == resumed[1]
    assert len(resumed[1]) == 6


@pytest.mark.parametrize("optimizer", ["lbfgs", "adamw", "muon", "adamw-schedulefree"])
def test_so_does_one_whose_file_lies_askew_in_memory(
    optimizer: str, configured: Configured, network: Network, images: Examples, tmp_path: Path, askew: None
) -> None:
    plan = planned(configured(optimizer))
    straight, resumed = straight_and_resumed(plan, lambda: network(0), images, tmp_path / "state.safetensors")
    assert torch.equal(straight[0], resumed[0])
    assert straight[1] == resumed[1]
    state = checkpoint.load(tmp_path / "state.safetensors")
    assert any(isinstance(each, dict) and each for each in state["optimizer"]["state"].values())
    assert aligned(state)


@pytest.mark.parametrize("max_pixel", [None, 255.0])
def test_mapped_examples_are_computed_with_where_torch_would_put_them(
    max_pixel: float | None, images: Examples, tmp_path: Path, askew: None
) -> None:
    kept = Examples(images.inputs if max_pixel else images.inputs.float(), images.targets.float(), max_pixel)
    data_module.share({"all": kept}, tmp_path / "data.safetensors")
    mapped = data_module.shared(tmp_path / "data.safetensors")[0]["all"]
    assert isinstance(mapped, Examples)
    assert not aligned([mapped.inputs, mapped.targets])
    ordered = mapped.items(torch.arange(len(kept)), 7)
    for given in ([*mapped.in_turn(7)], [*mapped.take(slice(3, 40)).in_turn(7)], [*map(mapped.batch, ordered)]):
        assert aligned(given)
    assert torch.equal(torch.cat([inputs for inputs, _ in mapped.in_turn(7)]), kept.batch(slice(0, None))[0])


def bags() -> nn.Module:
    """A bag of words with an embedding whose gradients are sparse."""
    torch.manual_seed(1)
    return nn.Sequential(nn.EmbeddingBag(50, 4, sparse=True), nn.Linear(4, 2))


WORDS = Examples(torch.arange(320).mul(7).remainder(50).reshape(80, 4), torch.arange(80) % 2)


@pytest.mark.parametrize("optimizer", ["sgd", "adagrad", "sparseadam", "lbfgs"])
def test_sparse_gradients_train_and_are_taken_up_again_to_the_last_bit(
    optimizer: str, configured: Configured, tmp_path: Path
) -> None:
    plan = planned(configured(optimizer, training={"clip_norm": 0.5, "l1": 0.01}))
    straight, resumed = straight_and_resumed(plan, bags, WORDS, tmp_path / "state.safetensors")
    assert torch.equal(straight[0], resumed[0])
    assert straight[1] == resumed[1]
    assert not torch.equal(straight[0], weights(bags()))


def test_a_sparse_gradient_is_clipped_as_a_dense_one_is(configured: Configured) -> None:
    plan = planned(configured("adagrad", training={"clip_norm": 0.01}))
    dense = bags()
    dense[0] = nn.EmbeddingBag.from_pretrained(dense[0].weight.detach().clone(), freeze=False)
    ended = []
    for model in (bags(), dense):
        list(Training(model, plan, WORDS).run())
        ended.append(weights(model))
    torch.testing.assert_close(ended[0], ended[1])


SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "warm-up": {"schedule": "cosine", "warmup": 0.5},
    "warm-up and a plateau": {"schedule": "reduce-on-plateau", "warmup": 0.5},
    "groups": {"training": {"groups": {"conv1.*": 3.0, "fc*": 0.3}}},
    "accumulation, clipping and a penalty": {"training": {"accumulation": 4, "clip_norm": 0.5, "l1": 0.01}},
}


@pytest.mark.parametrize("said", SETTINGS.values(), ids=SETTINGS.keys())
@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon", "lbfgs", "adamw-schedulefree"])
def test_so_does_one_with_other_training_settings(
    optimizer: str,
    said: Mapping[str, Any],
    configured: Configured,
    network: Network,
    images: Examples,
    tmp_path: Path,
) -> None:
    if "one-group" in OPTIMIZERS[optimizer].traits and "groups" in said.get("training", {}):
        said = {"training": {"groups": {"*": 0.3}}}
    plan = planned(configured(optimizer, **said))
    straight, resumed = straight_and_resumed(plan, lambda: network(0), images, tmp_path / "state.safetensors")
    assert torch.equal(straight[0], resumed[0])
    assert straight[1] == resumed[1]


@pytest.mark.parametrize("optimizer", ["adam", "sgd-schedulefree"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_training_with_dropout_is_taken_up_again_to_the_last_bit(
    precision: Precision, optimizer: str, configured: Configured, images: Examples, tmp_path: Path
) -> None:
    plan = planned(configured(optimizer), precision, evaluations=4)
    straight, resumed = straight_and_resumed(plan, dropping, images, tmp_path / "state.safetensors")
    assert torch.equal(straight[0], resumed[0])
    assert straight[1] == resumed[1]


class Shaken(Dataset[tuple[Tensor, Tensor]]):
    """Images that are another at every reading, by every generator there is."""

    def __init__(self, images: Examples) -> None:
        self.images = images

    def __getitem__(self, place: int) -> tuple[Tensor, Tensor]:
        noise = torch.rand(1, 4, 4) + random.random() + float(np.random.rand())  # noqa: S311
        return self.images.inputs[place] / 255 + noise, self.images.targets[place]


def test_a_training_on_images_cut_at_random_is_taken_up_again_to_the_last_bit(
    configured: Configured, images: Examples, tmp_path: Path
) -> None:
    data = Streamed(Shaken(images), torch.arange(len(images)))
    plan = planned(configured(training={"accumulation": 2}), evaluations=3)
    straight, resumed = straight_and_resumed(plan, dropping, data, tmp_path / "state.safetensors")
    assert torch.equal(straight[0], resumed[0])
    assert straight[1] == resumed[1]


def test_the_clock_goes_on_where_a_training_is_taken_up(
    configured: Configured, network: Network, images: Examples
) -> None:
    training = Training(network(0), planned(configured()), images)
    training.load_state_dict({**training.state_dict(), "epoch": 2, "seconds": 1000.0})
    last = list(training.run())[-1]
    assert last.seconds > 1000
    assert training.seconds == last.seconds
