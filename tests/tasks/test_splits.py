"""A user's data: what is sealed away, what is read once and what is streamed, and how workers find it."""

import multiprocessing
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

import optitune
from optitune import Task
from optitune.errors import UsageError
from optitune.tasks.data import Examples, Part, Streamed, share, shared
from optitune.tasks.given_data import LOOKED_AT, part_of
from optitune.tasks.splits import full_data, load, load_test, opened, remarks, save, search_data, without_data


def never() -> Any:
    raise AssertionError("the test set was asked for")


def task(data: Any, **fields: Any) -> Task:
    """A task of these data, whose network nobody builds."""
    return Task(model=lambda: nn.Linear(1, 2), data=data, name="mine", **fields)


def numbered(total: int, classes: int = 3) -> tuple[Tensor, Tensor]:
    """Examples that each say in their input who they are."""
    return torch.arange(total, dtype=torch.float32).reshape(total, 1), torch.arange(total) % classes


def who(part: Part) -> list[int]:
    """The numbers of the examples of a part of `numbered`, in its own order."""
    return [int(number) for inputs, _ in part.in_turn(50) for number in inputs.flatten()]


class Pairs(Dataset[tuple[Any, Any]]):
    """Pairs as they stand, and how often each was read."""

    def __init__(self, inputs: Any, targets: Any) -> None:
        self.inputs, self.labels = inputs, targets
        self.read = [0] * len(targets)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, place: int) -> tuple[Any, Any]:
        self.read[place] += 1
        return self.inputs[place], self.labels[place]


class Turned(Pairs):
    """Every other reading turns an example round, by chance."""

    def __init__(self, inputs: Any, targets: Any, coin: Callable[[], float]) -> None:
        super().__init__(inputs, targets)
        self.coin = coin

    def __getitem__(self, place: int) -> tuple[Any, Any]:
        given = super().__getitem__(place)
        return (given[0].flip(0), given[1]) if self.coin() < 0.5 else given


class Told(Pairs):
    """Tells its targets without being read, as torchvision's data sets do."""

    @property
    def targets(self) -> Any:
        return self.labels


# what is sealed away


@given(st.integers(10, 400), st.integers(1, 12))
def test_a_fifth_is_sealed_away_and_the_rest_is_all_that_a_search_sees(total: int, classes: int) -> None:
    mine = task(numbered(total, classes), validation=2)
    searched, sealed, rest = search_data(mine, None), who(load_test(mine)), who(full_data(mine).train)
    seen = who(searched.train) + who(searched.validation)
    assert len(sealed) == round(total / 5)
    assert sorted(seen) == sorted(rest)
    assert sorted(seen + sealed) == list(range(total))


@given(st.lists(st.integers(0, 3), min_size=60, max_size=300))
def test_every_part_has_its_share_of_every_class(labels: list[int]) -> None:
    # one of each at least, so that the sealing has two of each class to divide
    targets = torch.tensor([*labels, *[0, 1, 2, 3] * 8])
    mine = task((torch.zeros(len(targets), 1), targets))
    sealed, rest = load_test(mine), full_data(mine).train
    searched = search_data(mine, None)
    for part, whole in ((sealed, targets), (searched.validation, rest.targets)):
        expected = torch.bincount(whole, minlength=4) * len(part) / len(whole)
        assert ((torch.bincount(part.targets, minlength=4) - expected).abs() <= 1).all()


def test_the_same_are_sealed_away_every_time_whatever_was_drawn_before() -> None:
    mine = task(numbered(100))
    first = who(load_test(mine))
    torch.manual_seed(7)
    np.random.seed(7)
    assert who(load_test(task(numbered(100)))) == first
    assert first[:5] == [80, 68, 26, 4, 52]


def test_what_is_sealed_away_is_no_run_of_neighbours() -> None:
    sealed = who(load_test(task(numbered(200))))
    assert sealed != sorted(sealed)
    assert max(sealed) - min(sealed) > 150


def test_the_sealed_fifth_is_the_same_in_memory_and_streamed() -> None:
    inputs, targets = numbered(90)
    streamed = task(Told(inputs, targets), in_memory=False)
    assert who(load_test(streamed)) == who(load_test(task((inputs, targets))))
    assert who(full_data(streamed).train) == who(full_data(task((inputs, targets))).train)


def test_with_a_test_set_of_its_own_a_task_keeps_all_of_its_data() -> None:
    mine = task(numbered(60), test=(torch.full((7, 1), -1.0), torch.zeros(7)))
    assert who(full_data(mine).train) == list(range(60))
    assert who(load_test(mine)) == [-1] * 7


def test_a_search_never_asks_for_a_test_set_of_the_tasks_own() -> None:
    assert len(search_data(task(numbered(60), test=never), None).validation) == 12
    assert len(full_data(task(numbered(60), test=never)).train) == 60
    with pytest.raises(UsageError, match=r"task 'mine': test\(\) fails: AssertionError: the test set was asked for"):
        load_test(task(numbered(60), test=never))


class Diary(nn.Module):
    """A network that writes down which examples it meets in a worker, and whether to train on them.

    Before, in the process that leads, it is tried on examples of the training in both ways.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.layer = nn.Linear(2, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        if multiprocessing.parent_process() is not None:
            with self.path.open("a") as file:
                file.writelines(f"{'train' if self.training else 'judge'} {int(number)}\n" for number in inputs[:, 0])
        return self.layer(inputs / 100)

    @staticmethod
    def met(path: Path, how: str) -> set[int]:
        return {int(line.split()[1]) for line in path.read_text().splitlines() if line.startswith(how)}


class Fickle(Pairs):
    """Examples that are of chance in the process that made them, and the same at every reading in all others."""

    def __init__(self, inputs: Tensor, targets: Tensor) -> None:
        super().__init__(inputs, targets)
        self.home = os.getpid()
        self.coin = np.random.default_rng(0)

    def __getitem__(self, place: int) -> tuple[Any, Any]:
        number, target = super().__getitem__(place)
        noise = torch.tensor([self.coin.random() if os.getpid() == self.home else 0.0])
        return torch.cat([number, noise.float()]), target


def doubled() -> tuple[Tensor, Tensor]:
    inputs, targets = numbered(100)
    return inputs.expand(100, 2), targets


@pytest.mark.parametrize("data", [doubled, lambda: Fickle(*numbered(100))], ids=["a pair", "now and then of chance"])
def test_whoever_trains_meets_what_is_sealed_away_in_the_one_evaluation_of_a_full_training_alone(
    data: Callable[[], Any], tmp_path: Path
) -> None:
    # 80 examples after the seal, 64 of them to train on: batches of 16 leave none out
    path = tmp_path / "diary"
    watched = Task(model=lambda: Diary(path), data=data(), name="mine")
    where: dict[str, Any] = {"study": "mine", "studies_dir": tmp_path, "device": "cpu", "progress": False}
    optitune.search(watched, trials=2, epochs=1, optimizers="sgd,adam", batch_size=16, pruner="none", **where)
    searched = Diary.met(path, "train") | Diary.met(path, "judge")
    assert len(searched) == 80
    assert not Diary.met(path, "train") & Diary.met(path, "judge")
    path.unlink()
    optitune.retrain(watched, seeds=1, epochs=2, **where)
    assert Diary.met(path, "train") == searched
    assert Diary.met(path, "judge") == set(range(100)) - searched


@pytest.mark.parametrize(("validation", "held"), [(0.2, 16), (0.25, 20), (5, 5), (1, 1), (40, 40), (0.001, 1)])
def test_what_is_held_out_is_a_share_or_a_number(validation: float, held: int) -> None:
    data = search_data(task(numbered(100, classes=1), validation=validation), None)
    assert (len(data.train), len(data.validation)) == (80 - held, held)


# what is read once, and what is streamed


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


# how workers find it


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


# validation data of one's own, and a transform for training alone


def plus_thousand(inputs: Tensor) -> Tensor:
    return inputs + 1_000


@pytest.mark.parametrize("in_memory", [True, False])
def test_validation_data_of_ones_own_are_judged_on_and_all_the_others_trained_on(in_memory: bool) -> None:
    inputs, targets = numbered(100)
    own = Pairs(inputs[:30] - 500, targets[:30])
    mine = task(Pairs(inputs, targets), validation=own, in_memory=in_memory)
    data = search_data(mine, None)
    assert sorted(who(data.validation)) == list(range(-500, -470))
    assert sorted(who(data.train) + who(load_test(mine))) == list(range(100))
    assert who(data.validation) == who(search_data(mine, None).validation)
    tested = task(Pairs(inputs, targets), validation=lambda: (inputs[:9] - 500, targets[:9]), test=never)
    assert sorted(who(search_data(tested, None).train)) == list(range(100))
    assert len(search_data(tested, 40).train) == 40
    other = search_data(task((inputs, targets), validation=(inputs[:30] - 501, targets[:30])), None)
    assert other.digests["validation"] != data.digests["validation"]


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_transform_is_for_training_alone(in_memory: bool, tmp_path: Path) -> None:
    mine = task(Pairs(*numbered(100)), transform=plus_thousand, in_memory=in_memory)
    data = search_data(mine, None)
    save(data, tmp_path / "shared")
    for part in (data.train, load(tmp_path / "shared", mine).train, full_data(mine).train):
        met = [part.batch(item) for item in part.items(torch.arange(len(part)), 16)]
        assert min(float(inputs.min()) for inputs, _ in met) >= 1_000
        assert max(who(part)) < 100
    for judged in (data.validation, load(tmp_path / "shared", mine).validation, load_test(mine)):
        met = [judged.batch(item) for item in judged.items(torch.arange(len(judged)), 16)]
        assert max(float(inputs.max()) for inputs, _ in met) < 100


def test_validation_data_that_do_not_fit_are_refused_in_a_line() -> None:
    inputs, targets = numbered(40)
    for validation, message in (
        ((inputs[:5].repeat(1, 1, 1), targets[:5]), "validation has inputs of shape"),
        ((inputs[:5], targets[:5].float()), "give both in one form"),
        ((inputs[:5] * float("nan"), targets[:5]), "the inputs of validation hold nan"),
        (lambda: 3, "validation is of type int"),
    ):
        with pytest.raises(UsageError, match=message):
            search_data(task((inputs, targets), validation=validation), None)
    with pytest.raises(UsageError, match=r"transform\(\) gives \(2,\) for an input of shape \(1,\)"):
        search_data(task((inputs, targets), transform=lambda each: each.repeat(2)), None)
    with pytest.raises(UsageError, match=r"transform=...\): is of type int"):
        task((inputs, targets), transform=3)


def test_what_is_augmented_and_judged_is_said_with_both_ways_out() -> None:
    inputs, targets = numbered(80)
    moody = Turned(torch.cat([inputs, -inputs], 1), targets, random.random)
    still = Pairs(torch.cat([inputs, -inputs], 1), targets)
    (line,) = remarks(mine := task(moody), search_data(mine, None))
    assert "validation and test examples are augmented" in line
    assert "validation=" in line
    assert "transform=" in line
    (line,) = remarks(mine := task(moody, test=never), search_data(mine, None))
    assert "validation examples are augmented" in line
    (line,) = remarks(mine := task(still, validation=moody), search_data(mine, None))
    assert "the validation data differ at every reading" in line
    for quiet in (task(still), task(still, in_memory=False), task(moody, validation=still)):
        assert remarks(quiet, search_data(quiet, None)) == []


@pytest.mark.parametrize(("field", "way"), [("data", "Task(transform=...)"), ("validation", ""), ("test", "")])
def test_one_reading_of_augmenting_data_is_not_kept_for_all_epochs(field: str, way: str) -> None:
    inputs, targets = numbered(80)
    pairs = torch.cat([inputs, -inputs], 1)
    given = {"data": Pairs(pairs, targets), field: Turned(pairs, targets, random.random)}
    mine = task(given.pop("data"), in_memory=True, **given)
    with pytest.raises(
        UsageError, match=f"{field} gives other examples at every reading, of which in_memory=True"
    ) as e:
        search_data(mine, None) if field != "test" else load_test(mine)
    assert ("transform=" in str(e.value)) == bool(way)


def test_validation_examples_that_are_trained_on_are_counted() -> None:
    inputs, targets = numbered(50)
    mine = task((inputs, targets), validation=(torch.cat([inputs[:6], inputs[:6] - 90]), targets[:12]), test=never)
    (line,) = remarks(mine, search_data(mine, None))
    assert line.startswith("6 of 12 validation examples are among those trained on")


class Blurred(nn.Module):
    """A network that is sure of a class by the sign of its input."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.cat([-inputs, inputs], 1) * self.weight


def flipped(inputs: Tensor) -> Tensor:
    return inputs * (1 - 2 * torch.randint(2, ()))


def test_search_comparison_and_full_training_judge_without_the_transform(tmp_path: Path) -> None:
    """The transform turns half of the signs that the class is read from: judged, every answer is right without it."""
    signs = torch.tensor([[-1.0], [1.0]]).repeat(40, 1)
    mine = Task(
        model=Blurred,
        data=(signs, torch.arange(80) % 2),
        validation=(signs[:20] * 2, torch.arange(20) % 2),
        transform=flipped,
        name="mine",
    )
    words: dict[str, Any] = {"study": "mine", "studies_dir": tmp_path, "device": "cpu", "progress": False}
    fields: dict[str, Any] = {"optimizers": "sgd,adam", "lr": 1e-9, "pruner": "none", "epochs": 2}
    found = optitune.search(mine, trials=2, sampler="random", **fields, **words)
    assert [row.value for row in found.records] == [1.0, 1.0]
    compared = optitune.compare(mine, max_runs=4, sensitivity=0, **words)
    assert compared.comparison.plan.held_out == 20
    assert compared.comparison.plan.train_examples == 64
    assert {run.value for run in compared.comparison.runs} == {1.0}
    full = optitune.retrain(mine, seeds=1, **words)
    assert full.test_value.mean == 1.0
    assert 0.2 < full.seeds["test_value"].min() <= 1
    assert full.run.remarks == ("the validation data are not trained on",)
