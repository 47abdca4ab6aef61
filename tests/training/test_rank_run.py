"""A training by several ranks, in threads: what they report becomes one, and all end alike."""

import threading
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import Subset, TensorDataset

from optitune.errors import UsageError
from optitune.space.configuration import Configuration
from optitune.tasks.loop_task import LoopTask
from optitune.training.evaluation import Evaluation
from optitune.training.plan import Plan, training_plan
from optitune.training.progress import Diverged, Progress
from optitune.training.rank_run import RankRun
from optitune.training.ranks import RankReport, combined

RANKS = 2


class Threads:
    """Ranks that are threads of this process."""

    def __init__(self, rank: int, up: Queue, down: Queue) -> None:
        self.rank, self.ranks = rank, RANKS
        self._up, self._down = up, down

    def gather(self, value: Any) -> list[Any]:
        if self.rank == 0:
            return [value, self._up.get(timeout=10)]
        self._up.put(value)
        return []

    def share(self, value: Any) -> Any:
        if self.rank:
            return self._down.get(timeout=10)
        self._down.put(value)
        return value

    def group(self) -> Any:
        return nullcontext()


@pytest.fixture
def plan(configured: Callable[..., Configuration]) -> Plan:
    return training_plan(configured("sgd"), LoopTask(train=print).judged_by("accuracy"), 3, 5, "fp32")


def ran(
    loop: Callable[[RankRun], None], plan: Plan, end_after: int = 1_000, path: Path | None = None
) -> tuple[list[RankRun], list[BaseException | None]]:
    """A loop on both ranks, and what each raised."""
    up: Queue = Queue()
    down: Queue = Queue()
    runs: list[RankRun] = []
    raised: list[BaseException | None] = [None] * RANKS

    class Looped:
        def drive(self, run: RankRun) -> None:
            loop(run)
            run.finish()

    def rank_of(rank: int) -> None:
        run = RankRun(
            plan, lambda history, new: len(history) >= end_after, lambda: False, path, 1, peers=Threads(rank, up, down)
        )
        run._thread = threading.get_ident()
        runs.append(run)
        try:
            run.run(Looped())
        except BaseException as error:
            raised[rank] = error

    threads = [threading.Thread(target=rank_of, args=(rank,)) for rank in range(RANKS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(runs, key=lambda run: run.rank), raised


def test_a_rank_gets_its_shards_or_what_all_get(plan: Plan) -> None:
    data = TensorDataset(torch.arange(103))
    whole: dict[int, Any] = {}
    shards: dict[int, Any] = {}

    def loop(run: RankRun) -> None:
        into = whole if run.rank in shards else shards
        into[run.rank] = run.split(data, shards=into is shards)
        for _ in run.epochs():
            run.report(0.5)

    for _ in range(2):
        assert ran(loop, plan)[1] == [None, None]
    (train, judged), again = whole[0], whole[1]
    assert isinstance(train, Subset)
    assert [train.indices, judged.indices] == [again[0].indices, again[1].indices]
    parts = [[int(each[0]) for each in shards[rank][0]] for rank in range(RANKS)]
    assert len(parts[0]) == len(parts[1]) == len(train) // 2
    assert {*parts[0], *parts[1]} <= {int(each[0]) for each in train}
    assert not {*parts[0]} & {*parts[1]}
    assert sorted(int(each[0]) for rank in range(RANKS) for each in shards[rank][1]) == sorted(
        int(each[0]) for each in judged
    )


def test_what_ranks_report_is_one_row_for_all(plan: Plan) -> None:
    def loop(run: RankRun) -> None:
        _, judged = run.split(list(range(100)), shards=True)
        each = torch.tensor(judged) % 2
        for _ in run.epochs():
            run.report(each.double().mean(), loss=1.0 + run.rank, each=each)

    (first, second), raised = ran(loop, plan)
    assert raised == [None, None]
    rows = [(row.validation.value, row.train_loss) for row in first.history if row.validation]
    assert rows == [(row.validation.value, row.train_loss) for row in second.history if row.validation]
    assert [loss for _, loss in rows] == [1.5] * 3
    last = first.history[-1].validation
    assert last is not None
    assert last.each is not None
    order: list[list[int]] = []

    def alone(run: RankRun) -> None:
        order.append(run.split(list(range(100)))[1])
        for _ in run.epochs():
            run.report(0.5)

    ran(alone, plan)
    assert last.each.tolist() == [number % 2 for number in order[0]]


def test_all_ranks_are_pruned_where_the_first_one_is(plan: Plan) -> None:
    def loop(run: RankRun) -> None:
        for _ in run.epochs():
            run.report(0.5 + run.rank / 4)

    runs, raised = ran(loop, plan, end_after=2)
    assert raised == [None, None]
    assert [len(run.history) for run in runs] == [2, 2]
    assert all(run.ended for run in runs)


def test_a_training_that_diverges_on_one_rank_ends_on_all(plan: Plan) -> None:
    def loop(run: RankRun) -> None:
        for _ in run.epochs():
            run.report(0.5, loss=float("nan") if run.rank else 0.5)

    runs, (first, second) = ran(loop, plan)
    assert isinstance(first, Diverged)
    assert second is None
    assert runs[1].ended


def test_a_wrong_report_of_one_rank_names_it(plan: Plan) -> None:
    def loop(run: RankRun) -> None:
        for _ in run.epochs():
            run.report("good" if run.rank else 0.5)

    first, _ = ran(loop, plan)[1]
    assert isinstance(first, UsageError)
    assert "rank 1: run.report: value = 'good'" in str(first)


def test_ranks_go_on_from_one_checkpoint(plan: Plan, tmp_path: Path) -> None:
    def loop(run: RankRun) -> None:
        model = torch.nn.Linear(1, 1)
        run.keep(model=model)
        for epoch in run.epochs():
            seen[run.rank].append((epoch, model.weight.item()))
            with torch.no_grad():
                model.weight.fill_(epoch + 1.0)
            run.report(0.5)

    seen: list[list[tuple[int, float]]] = [[], []]
    ran(loop, plan, end_after=2, path=tmp_path / "t.safetensors")
    # the end is not kept
    runs, raised = ran(loop, plan, path=tmp_path / "t.safetensors")
    assert raised == [None, None]
    assert [len(run.history) for run in runs] == [3, 3]
    for rank in range(RANKS):
        assert seen[rank][-1] == (2, 2.0)


def row(value: float, each: Tensor | None = None, judged: int = 0) -> RankReport:
    return RankReport(Progress(1, 1, 0.1, 1.0, None, Evaluation(float("nan"), value, judged, None, each), 1.0), judged)


def test_values_are_weighted_by_what_each_rank_judged() -> None:
    found = combined([row(0.5, judged=3), row(1.0, judged=1)], 4).validation
    assert found is not None
    assert found.value == 0.625
    found = combined([row(0.5), row(1.0)], 0).validation
    assert found is not None
    assert found.value == 0.75


def test_padding_of_a_sampler_counts_once() -> None:
    # five examples, of which DistributedSampler gives the first one to the second rank as well
    first, second = torch.tensor([0.0, 2.0, 4.0]), torch.tensor([1.0, 3.0, 0.0])
    found = combined([row(2.0, first), row(4 / 3, second)], 5).validation
    assert found is not None
    assert found.each is not None
    assert found.each.tolist() == [0, 1, 2, 3, 4]
    assert found.value == 2.0


def test_parts_that_are_no_whole_are_refused() -> None:
    with pytest.raises(UsageError, match="judge every example on every rank, or each on one"):
        combined([row(0.5, torch.ones(3)), row(0.5, torch.ones(9))], 20)
    with pytest.raises(UsageError, match="each was given by 1 of 2 ranks"):
        combined([row(0.5, torch.ones(3)), row(0.5)], 6)
