"""A user's data: what is read once and what is streamed, and how workers find it."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numbered_data import Pairs, Told, Turned, never, numbered, task, who
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from optitune import Task
from optitune.tasks.data import Examples, Streamed, share, shared
from optitune.tasks.given_data import LOOKED_AT, part_of
from optitune.tasks.splits import full_data, load, opened, save, search_data, without_data


@pytest.mark.parametrize("wrapped", [TensorDataset, Pairs])
def test_a_data_set_that_stays_the_same_is_read_into_memory(wrapped: Callable[..., Any]) -> None:
    inputs, targets = torch.rand(40, 3), torch.arange(40) % 4
    whole = full_data(task(wrapped(inputs, targets), test=never)).train
    assert isinstance(whole, Examples)
    assert torch.equal(whole.inputs, inputs)
    assert torch.equal(whole.targets, targets)


def test_a_list_of_pairs_is_a_data_set() -> None:
    pairs = [(torch.tensor([float(number)]), number % 2) for number in range(12)]
    whole = full_data(task(pairs, test=never)).train
    assert isinstance(whole, Examples)
    assert who(whole) == list(range(12))
    assert whole.targets.tolist() == [0, 1] * 6


COINS = {
    "torch": lambda: float(torch.rand(())),
    "numpy": lambda: float(np.random.rand()),
    "random": random.random,
    "numpy's own generator": np.random.default_rng(3).random,
}


@pytest.mark.parametrize("coin", COINS.values(), ids=COINS)
def test_a_data_set_of_chance_is_streamed_whatever_it_draws_from(coin: Callable[[], float]) -> None:
    inputs, targets = torch.rand(80, 2), torch.arange(80) % 2
    for seed in range(50):
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        whole = full_data(task(Turned(inputs, targets, coin), test=never)).train
        assert isinstance(whole, Streamed)


def test_a_data_set_of_chance_is_read_anew_in_every_epoch() -> None:
    inputs, targets = torch.arange(160.0).reshape(80, 2), torch.arange(80) % 2
    train = search_data(task(Turned(inputs, targets, random.random), test=never), None).train
    random.seed(0)
    epochs = [torch.cat([batch for batch, _ in train.in_turn(16)]) for _ in range(2)]
    assert not torch.equal(*epochs)
    # turned round or not, an example is itself
    assert torch.equal(*(epoch.sort(1).values for epoch in epochs))


@pytest.mark.parametrize("in_memory", [True, False])
def test_what_the_task_says_of_memory_holds_whatever_the_data(in_memory: bool) -> None:
    inputs, targets = torch.rand(80, 2), torch.arange(80) % 2
    turned = [] if in_memory else [Turned(inputs, targets, random.random)]
    for data in (Pairs(inputs, targets), *turned):
        whole = full_data(task(data, test=never, in_memory=in_memory)).train
        assert isinstance(whole, Examples if in_memory else Streamed)


def test_what_is_too_large_for_memory_is_streamed_and_hardly_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optitune.tasks.given_data.IN_MEMORY", 1_000)
    data = Told(torch.rand(500, 4), torch.arange(500) % 5)
    whole = part_of(task(data), data, "data")
    assert isinstance(whole, Streamed)
    # the first one, and those whose targets are compared with the attribute `targets`
    assert sum(data.read) <= 2 + LOOKED_AT + 1
    assert whole.targets is not None
    assert torch.equal(whole.targets, data.labels)


@pytest.mark.parametrize("told", [None, "cat", torch.zeros(500, 2), torch.zeros(3), [("a", 1)]])
def test_targets_that_do_not_say_one_class_each_are_not_taken_for_them(told: Any) -> None:
    data = Pairs(torch.rand(500, 4), torch.arange(500) % 5)
    data.targets = told  # type: ignore[attr-defined]
    whole = full_data(task(data, test=never, in_memory=False)).train
    assert isinstance(whole, Streamed)
    assert whole.targets is None


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_streamed_batches_are_those_of_the_same_data_in_memory(batch_size: int) -> None:
    inputs, targets = torch.rand(40, 3), torch.arange(40) % 4
    parts = [full_data(task(Pairs(inputs, targets), test=never, in_memory=each)).train for each in (False, True)]
    order = torch.randperm(40)
    streamed, whole = ([part.batch(item) for item in part.items(order, batch_size)] for part in parts)
    assert len(streamed) == len(whole) == -(-40 // batch_size)
    for one, other in zip(streamed, whole, strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])


def test_reading_a_stream_draws_nothing_from_torchs_generator() -> None:
    stream = full_data(task(Pairs(*numbered(50)), in_memory=False)).train
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    list(stream.in_turn(8))
    assert torch.equal(torch.rand(4), expected)


def test_one_other_target_is_another_checksum_streamed_or_not() -> None:
    inputs, targets = numbered(50)
    other = targets.clone()
    other[full_data(task((inputs, targets))).train.inputs[0].long()] += 1  # type: ignore[union-attr]
    for in_memory in (True, False):
        one, same, changed = (
            search_data(task(Pairs(inputs, each), in_memory=in_memory, validation=5), None).checksum
            for each in (targets, targets.clone(), other)
        )
        assert one == same != changed


def test_what_is_shared_is_found_as_it_was(tmp_path: Path) -> None:
    parts = {
        "bytes": Examples(torch.randint(0, 256, (9, 1, 4, 4), dtype=torch.uint8), torch.arange(9), max_pixel=255.0),
        "numbers": Examples(torch.rand(2, 9, 3).transpose(0, 1), torch.rand(9, 2)),
        "whole": Examples(torch.arange(18).reshape(9, 2), torch.arange(18).reshape(9, 2)),
    }
    share(parts, tmp_path / "shared", {"checksum": "abc"})
    found, about = shared(tmp_path / "shared")
    assert set(found) == set(parts)
    assert about["checksum"] == "abc"
    for name, part in parts.items():
        back = found[name]
        assert isinstance(back, Examples)
        assert torch.equal(back.inputs, part.inputs)
        assert torch.equal(back.targets, part.targets)
        assert (back.inputs.dtype, back.max_pixel) == (part.inputs.dtype, part.max_pixel)


def test_inputs_that_are_their_own_targets_can_be_shared(tmp_path: Path) -> None:
    pixels = torch.rand(20, 6)
    data = search_data(task((pixels, pixels), loss="mse", metric="mse"), None)
    save(data, tmp_path / "shared")
    found = load(tmp_path / "shared", task(None))
    assert isinstance(found.train, Examples)
    assert torch.equal(found.train.inputs, data.train.inputs)  # type: ignore[union-attr]
    assert torch.equal(found.train.targets, found.train.inputs)
    assert found.checksum == data.checksum


@pytest.mark.parametrize("shape", ["shifted", "halves", "expanded", "transposed", "numpy"])
def test_tensors_that_lie_in_one_memory_are_written_and_read_back(shape: str, tmp_path: Path) -> None:
    """As in the prediction of the next step of a series, which is what is trained on in full without any split."""
    series = torch.rand(41)
    shared_by_numpy = series.numpy()
    inputs, targets = {
        "shifted": (series[:-1], series[1:]),
        "halves": (series[:20], series[20:40]),
        "expanded": (series[:1].expand(9, 4), series[:9]),
        "transposed": (series[:40].reshape(4, 10).T, series[:10]),
        "numpy": (torch.from_numpy(shared_by_numpy[:-1]), torch.from_numpy(shared_by_numpy[1:])),
    }[shape]
    share({"train": Examples(inputs, targets), "test": Examples(inputs, targets)}, tmp_path / "shared")
    found = shared(tmp_path / "shared")[0]
    for part in found.values():
        assert isinstance(part, Examples)
        assert torch.equal(part.inputs, inputs)
        assert torch.equal(part.targets, targets)


def test_of_streamed_data_workers_find_the_places_and_bring_the_data_set(tmp_path: Path) -> None:
    mine = task(Told(*numbered(100)), in_memory=False)
    data = search_data(mine, 30)
    save(data, tmp_path / "shared")
    found = load(tmp_path / "shared", mine)
    assert isinstance(found.train, Streamed)
    assert (tmp_path / "shared").stat().st_size < 2_000
    assert who(found.train) == who(data.train)
    assert who(found.validation) == who(data.validation)
    assert torch.equal(found.validation.targets, data.validation.targets)


def test_what_was_found_to_be_streamed_stays_so_at_the_workers(tmp_path: Path) -> None:
    inputs, targets = torch.rand(80, 2), torch.arange(80) % 2
    coins = iter([1.0, 0.0])
    moody = task(Turned(inputs, targets, lambda: next(coins, 1.0)), test=never)
    whole = full_data(moody).train
    assert isinstance(whole, Streamed)
    share({"train": whole}, tmp_path / "shared")
    # its coin has fallen on both sides, and now falls on one side only
    assert isinstance(full_data(moody).train, Examples)
    assert isinstance(opened(tmp_path / "shared", moody)[0]["train"], Streamed)


def test_a_task_goes_to_workers_without_its_data_unless_they_are_streamed() -> None:
    inputs, targets = numbered(50)
    whole = task((inputs, targets), test=never)
    light = without_data(whole, search_data(whole, None).train)
    assert (light.data, light.test) == (None, None)
    stream = task(Pairs(inputs, targets), test=never, in_memory=False)
    light = without_data(stream, search_data(stream, None).train)
    assert light.data is stream.data
    assert light.test is None


def test_targets_that_the_data_set_does_not_give_are_not_believed() -> None:
    """As with a transform of the targets, which torchvision's `targets` know nothing of."""

    class Transformed(Dataset[Any]):
        targets = torch.arange(100) % 10

        def __len__(self) -> int:
            return 100

        def __getitem__(self, place: int) -> tuple[Tensor, int]:
            return torch.zeros(3), int(self.targets[place]) % 2

    whole = full_data(
        Task(model=lambda: nn.Linear(3, 2), data=Transformed(), test=Transformed(), in_memory=False)
    ).train
    assert isinstance(whole, Streamed)
    assert whole.targets is None
