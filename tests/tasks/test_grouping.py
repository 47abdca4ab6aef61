"""Splits by groups and by time: no group on two sides, nothing trained on that is later than what is judged."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numbered_data import Pairs, never, numbered, task, who
from torch import Tensor

from optitune.errors import UsageError
from optitune.tasks.dividing import Share, parts_of
from optitune.tasks.grouping import Fold, group_codes, places_of, split_groups
from optitune.tasks.split_checks import split_change
from optitune.tasks.splits import full_data, load_test, opened, remarks, save, search_data


def groups_at(places: list[int], ids: Any) -> set[Any]:
    return {ids[place] for place in places}


@given(st.lists(st.integers(0, 30), min_size=30, max_size=200), st.sampled_from([None, 3]), st.integers(1, 60))
def test_no_group_is_on_two_sides_of_a_split(ids: list[int], classes: int | None, held_out: int) -> None:
    ids = [*ids, 31, 32]
    codes = group_codes(ids, len(ids), "Task")
    labels = None if classes is None else torch.arange(len(ids)) % classes
    train, held = split_groups(codes, labels, held_out, seed=1)
    assert sorted([*train.tolist(), *held.tolist()]) == list(range(len(ids)))
    assert 0 < len(held) <= len(ids) / 2
    assert not groups_at(train.tolist(), ids) & groups_at(held.tolist(), ids)


def test_as_many_are_held_out_as_asked_for_and_of_every_class_its_share() -> None:
    codes = torch.arange(1000) // 5
    classes = (codes % 10 == 0).long()
    _, held = split_groups(codes, classes, 200, seed=0)
    assert len(held) == 200
    assert classes[held].sum() == 20


@pytest.mark.parametrize("in_memory", [None, False])
@pytest.mark.parametrize("test", [None, never])
def test_a_task_keeps_groups_together_in_every_part(test: Any, in_memory: bool | None) -> None:
    ids = [f"patient {number % 40}" for number in range(200)]
    mine = task(Pairs(*numbered(200)), groups=ids, test=test, in_memory=in_memory)
    found = search_data(mine, None)
    parts = [who(found.train), who(found.validation)]
    if test is None:
        parts.append(who(load_test(mine)))
        assert len(parts[2]) == 40
    assert sorted(each for part in parts for each in part) == list(range(200))
    of_groups = [groups_at(part, ids) for part in parts]
    assert sum(map(len, of_groups)) == 40
    assert len(set.union(*of_groups)) == 40
    few = search_data(mine, 17)
    assert who(few.train) == parts[0][:17]
    assert who(few.validation) == parts[1]


@pytest.mark.parametrize(
    "given_ids",
    [
        np.arange(60) // 3,
        torch.arange(60) // 3,
        [f"user {number // 3}" for number in range(60)],
        [(number // 3, "left") for number in range(60)],
        list(torch.arange(60) // 3),
        pd.Series([f"{number // 3}" for number in range(60)], index=range(60, 0, -1)),
        pd.DataFrame({"user": np.arange(60) // 3}),
        lambda: np.arange(60) // 3,
    ],
)
def test_ids_of_any_kind_are_groups(given_ids: Any) -> None:
    assert group_codes(given_ids, 60, "Task").tolist() == [number // 3 for number in range(60)]


@pytest.mark.parametrize(
    ("ids", "says"),
    [
        ([1, 2], "has 2 ids for 60 examples"),
        ([None] * 3 + [1] * 57, "3 of 60 ids are missing"),
        ([7] * 60, "all 60 examples have one id"),
        (np.zeros((60, 2)), "is of shape (60, 2)"),
        (3, "is of type int"),
        ([1] * 30 + [2] * 30, "too few groups"),
    ],
)
def test_ids_that_are_none_are_one_message(ids: Any, says: str) -> None:
    with pytest.raises(UsageError, match="task 'mine'") as error:
        search_data(task(numbered(60), groups=ids), None)
    assert says in str(error.value)


def test_one_way_of_splitting_is_asked_for() -> None:
    with pytest.raises(UsageError, match="give one of them"):
        task(numbered(60), groups=range(60), split="time")
    with pytest.raises(UsageError, match="must be 'random' or 'time'"):
        task(numbered(60), split="date")
    with pytest.raises(UsageError, match=r"run\.split\(split='date'\)"):
        parts_of(100, 0.2, None, Share(), None, "date")  # type: ignore[arg-type]


def test_by_time_what_is_judged_is_later_than_what_is_trained_on() -> None:
    mine = task(numbered(100), split="time")
    found = search_data(mine, None)
    assert who(found.train) == list(range(64))
    assert sorted(who(found.validation)) == list(range(64, 80))
    assert who(found.validation)[:2] != [64, 65]
    assert who(load_test(mine)) == list(range(80, 100))
    assert who(full_data(mine).train) == list(range(80))
    assert who(search_data(mine, 10).train) == list(range(54, 64))
    own = task(numbered(100), split="time", validation=numbered(7), test=never)
    assert who(search_data(own, 10).train) == list(range(90, 100))


def test_rounds_by_time_judge_later_blocks_than_they_train_on() -> None:
    rounds = [places_of(100, Fold(48, 4, number, 13), "time") for number in range(13)]
    judged: list[int] = []
    for train, held in rounds:
        assert len(train) == 48
        assert int(train.max()) + 1 == int(held.min())
        judged = held.tolist() + judged
    assert judged == list(range(48, 100))
    assert rounds[-1][0][0] == 0


def test_rounds_by_groups_hold_out_every_group_once() -> None:
    codes = torch.cat([torch.arange(40) // 2, torch.full((9,), 20)])[torch.randperm(49)]
    held_in_all: list[int] = []
    for number in range(5):
        train, held = places_of(49, Fold(38, 9, number, 5), "groups", codes)
        assert len(train) == 38
        assert not groups_at(train.tolist(), codes.tolist()) & groups_at(held.tolist(), codes.tolist())
        held_in_all += held.tolist()
    assert sorted(held_in_all) == list(range(49))


def test_a_loop_divides_as_a_task_does() -> None:
    ids = np.arange(100) % 25
    for how, fields in (((ids, "random"), {"groups": ids}), ((None, "time"), {"split": "time"})):
        mine = task(numbered(100), **fields)
        found = search_data(mine, None)
        parts = parts_of((*numbered(100),), 0.2, None, Share(), *how)
        assert parts.train[0].flatten().tolist() == who(found.train)
        assert sorted(parts.judged[0].flatten().tolist()) == sorted(who(found.validation))
        assert parts.division.digests == found.digests
        full = parts_of((*numbered(100),), 0.2, None, Share("retrain", test=True), *how)
        assert full.judged[0].flatten().tolist() == who(load_test(mine))


def test_a_loop_that_groups_otherwise_at_each_call_is_refused() -> None:
    first = parts_of(100, 0.2, None, Share(), np.arange(100) // 4)
    with pytest.raises(UsageError, match="differ from reading to reading"):
        parts_of(100, 0.2, None, Share(checksum=first.checksum), np.arange(100) // 5)


def test_other_groups_are_noticed() -> None:
    def of(**fields: Any) -> dict[str, Any]:
        found = search_data(task(numbered(100), validation=numbered(8), test=never, **fields), None)
        return {"checksum": found.checksum, **found.digests}

    plain, grouped, named = of(), of(groups=np.arange(100) // 4), of(groups=[f"{n // 4}" for n in range(100)])
    assert split_change(plain, plain) == split_change(grouped, named) == ""
    for one, other in ((plain, grouped), (grouped, plain), (grouped, of(groups=range(100))), (plain, of(split="time"))):
        assert "split by other groups" in split_change(one, other)


def test_groups_go_to_worker_processes(tmp_path: Any) -> None:
    for in_memory in (None, False):
        mine = task(Pairs(*numbered(60)), groups=np.arange(60) // 3, in_memory=in_memory)
        found = search_data(mine, None)
        save(found, tmp_path / "shared")
        there = opened(tmp_path / "shared", mine)[0]["train"]
        assert isinstance(found.train.groups, Tensor)
        assert there.groups is not None
        assert there.groups.equal(found.train.groups)


def test_examples_of_both_sides_that_are_equal_are_counted_and_one_way_to_part_them_is_groups() -> None:
    inputs = torch.arange(50.0).repeat(2)[:, None]
    targets = torch.arange(100) % 50 % 3
    mine = task((inputs, targets), test=never, validation=20)
    (line,) = remarks(mine, search_data(mine, None))
    held, trained = who(search_data(mine, None).validation), set(who(search_data(mine, None).train))
    assert line.startswith(f"{sum(each in trained for each in held)} of 20 validation examples are among those trained")
    apart = task((inputs, targets), test=never, validation=20, groups=inputs[:, 0])
    assert remarks(apart, search_data(apart, None)) == []
    other_labels = task((inputs, torch.arange(100) // 50), test=never, validation=20)
    assert remarks(other_labels, search_data(other_labels, None)) == []
