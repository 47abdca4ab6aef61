"""A user's data: what is sealed away, what is judged on, and what is transformed."""

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
from numbered_data import Pairs, Told, Turned, never, numbered, task, who
from torch import Tensor, nn

import optitune
from optitune import Task
from optitune.errors import UsageError
from optitune.tasks.splits import full_data, load, load_test, remarks, save, search_data

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


@pytest.mark.parametrize("in_memory", [None, False])
def test_validation_data_of_their_own_are_never_augmented_by_the_transform_of_the_training(
    in_memory: bool | None, tmp_path: Path
) -> None:
    inputs, targets = numbered(40)
    mine = task(
        Pairs(inputs, targets),
        validation=Pairs(inputs + 100, targets),
        test=Pairs(inputs + 200, targets),
        transform=lambda each: each - 1000,
        in_memory=in_memory,
    )
    save(search_data(mine, None), tmp_path / "shared")
    for data in (search_data(mine, None), load(tmp_path / "shared", mine)):
        assert sorted(who(data.validation)) == list(range(100, 140))
        batches = [data.validation.batch(item)[0] for item in data.validation.items(torch.arange(40), 8)]
        assert torch.cat(batches).min() == 100
        (batch,) = (data.train.batch(item)[0] for item in data.train.items(torch.arange(40), 40))
        assert sorted(batch.flatten().tolist()) == list(range(-1000, -960))
    assert sorted(who(load_test(mine))) == list(range(200, 240))


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
    # signs have two values, so that each test example is there to train on as well
    assert full.run.remarks[0] == "the validation data are not trained on"
    assert [each.split(",")[0] for each in full.run.remarks[1:]] == [
        "16 of 16 test examples are among those trained on"
    ]
