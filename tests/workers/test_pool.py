import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from worker_runs import Began, Ended, run, until_stopped

from optitune.errors import Interrupted, OptituneError, UsageError
from optitune.workers.events import Event, Retired
from optitune.workers.pool import Channel, Pool, auto
from optitune.workers.supervisor import DEATHS_IN_A_ROW


@dataclass(frozen=True)
class Left(Event):
    number: int


@dataclass(frozen=True)
class Epoch(Event):
    seed: int
    epoch: int

    @property
    def place(self) -> tuple[int, float]:
        return self.seed, self.epoch


def count(channel: Channel, start: int) -> None:
    for number in range(start, start + 3):
        channel.send(Ended(channel.worker, number))


def die_once(channel: Channel, folder: Path) -> None:
    mark = folder / "died"
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    channel.send(Ended(channel.worker, 1))


def retire_thrice(channel: Channel, folder: Path) -> None:
    pid = folder / str(os.getpid())
    assert not pid.exists(), "the same process again"
    pid.touch()
    if len(list(folder.iterdir())) <= 2 * DEATHS_IN_A_ROW:
        channel.send(Retired(channel.worker))
    else:
        channel.send(Ended(channel.worker, 1))


def die_always(channel: Channel) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def complain(channel: Channel) -> None:
    raise OptituneError("the disk is full")


def blunder(channel: Channel) -> None:
    raise KeyError("x")


def deaf(channel: Channel) -> None:
    channel.send(Began(channel.worker))
    time.sleep(600)


def test_events_of_all_workers_arrive_in_their_order() -> None:
    events = run(count, [(0,), (10,)])
    by_worker = {worker: [e.body for e in events if e.worker == worker] for worker in (0, 1)}
    assert by_worker == {0: [0, 1, 2], 1: [10, 11, 12]}


def test_a_worker_that_dies_is_replaced(tmp_path: Path) -> None:
    assert run(die_once, [(tmp_path,)]) == [Ended(0, 1)]


def test_workers_that_keep_dying_end_the_run_with_the_cause() -> None:
    with pytest.raises(
        OptituneError, match=rf"workers died {DEATHS_IN_A_ROW} times in a row \(signal 9, perhaps for want"
    ):
        run(die_always, [()])


def test_a_workers_error_is_the_runs_error() -> None:
    with pytest.raises(OptituneError, match=r"^the disk is full$"):
        run(complain, [()])


def test_a_workers_bug_is_named_and_its_place_kept() -> None:
    with pytest.raises(OptituneError, match="KeyError: 'x'") as error:
        run(blunder, [()])
    assert "in blunder" in str(error.value.__cause__)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_lets_workers_leave_in_order(number: int, tmp_path: Path) -> None:
    before = signal.getsignal(number)
    started: list[Event] = []

    def stop_when_both_are_there(event: Event) -> None:
        started.append(event)
        if len(started) == 2:
            os.kill(os.getpid(), number)

    with pytest.raises(Interrupted):
        run(until_stopped, [(tmp_path,), (tmp_path,)], stop_when_both_are_there)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["left-0", "left-1"]
    assert signal.getsignal(number) is before


def test_the_second_signal_ends_workers_at_once() -> None:
    def insist(event: Event) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()

    with pytest.raises(Interrupted):
        run(deaf, [()], insist)


def test_auto_starts_a_worker_per_core_and_none_without_a_job() -> None:
    cores = len(os.sched_getaffinity(0))
    assert auto(None, 0, 100) == min(cores, 16)
    assert auto(None, 0, 1) == 1
    assert auto(5, 0, 100) == 5
    assert auto(5, 0, 3) == 3


def test_auto_starts_several_workers_per_gpu_as_far_as_there_are_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(6)))
    assert auto(None, 1, 100) == 4
    assert auto(None, 2, 100) == 6
    assert auto(None, 2, 3) == 3
    assert auto(9, 1, 100) == 9


def usage(channel: Channel) -> None:
    raise UsageError("wrong")


def test_an_error_keeps_its_exit_code() -> None:
    with pytest.raises(OptituneError) as error:
        run(usage, [()])
    assert error.value.exit_code == 2


def test_a_worker_that_retires_is_replaced_by_a_fresh_process_as_often_as_it_likes(tmp_path: Path) -> None:
    events = run(retire_thrice, [(tmp_path,)])
    assert events == [Retired(0)] * 2 * DEATHS_IN_A_ROW + [Ended(0, 1)]
    assert len(list(tmp_path.iterdir())) == 2 * DEATHS_IN_A_ROW + 1


def test_deaths_that_are_dealt_with_do_not_end_it() -> None:
    told: list[tuple[int, str]] = []

    def deal_with(worker: int, cause: str) -> bool:
        told.append((worker, cause))
        if len(told) > 2 * DEATHS_IN_A_ROW:
            raise OptituneError("enough")
        return True

    with pytest.raises(OptituneError, match="enough"):
        Pool(die_always, [()], lambda _: None, lambda: None, deal_with).run()
    assert {worker for worker, _ in told} == {0}
    assert told[0][1].startswith("signal 9, perhaps for want of memory")


def test_a_worker_that_is_killed_on_purpose_is_replaced(tmp_path: Path) -> None:
    def handle(event: Event) -> None:
        if isinstance(event, Began) and not killed:
            killed.append(event.worker)
            pool.kill(event.worker)
        elif isinstance(event, Began):
            os.kill(os.getpid(), signal.SIGTERM)

    killed: list[int] = []
    pool = Pool(until_stopped, [(tmp_path,)], handle, lambda: None, lambda worker, cause: True)
    with pytest.raises(Interrupted):
        pool.run()
    assert killed == [0]
    assert (tmp_path / "left-0").exists()


class Unfit(Exception):
    """An error that neither pickles nor says anything."""

    def __init__(self, lock: object, also: object) -> None:
        self.lock = lock

    def __str__(self) -> str:
        raise RuntimeError("no words")


def leave(channel: Channel) -> None:
    sys.exit(3)


def unfit(channel: Channel) -> None:
    raise Unfit(threading.Lock(), None)


def group(channel: Channel) -> None:
    raise ExceptionGroup("several", [ValueError("one"), KeyError("two")])


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (leave, r"sys.exit\(3\)"),
        (unfit, r"Unfit: its message cannot be shown \(RuntimeError\)"),
        (group, "ExceptionGroup of 2, the first ValueError: one"),
    ],
)
def test_whatever_a_workers_code_raises_is_one_line_with_its_place(target: Callable[..., None], message: str) -> None:
    with pytest.raises(OptituneError, match=rf"^{message} \(.*test_pool.py, line \d+\)$") as error:
        run(target, [()])
    assert f"in {target.__name__}" in str(error.value.__cause__)


def two_trials(channel: Channel, folder: Path) -> None:
    channel.send(Began(channel.worker, 1))
    wait_for(folder / "go")
    channel.send(Left(channel.worker, 1))
    channel.send(Began(channel.worker, 2))
    (folder / "moved").touch()
    until_stopped(channel, folder)


def wait_for(path: Path) -> None:
    limit = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < limit
        time.sleep(0.005)


@pytest.mark.parametrize("moves", [True, False], ids=["at its next trial", "still at it"])
def test_a_worker_is_killed_for_a_trial_only_if_it_is_still_at_it(tmp_path: Path, moves: bool) -> None:
    at: list[int] = []
    killed: list[str] = []

    def handle(event: Event) -> None:
        if isinstance(event, Began) and event.number:
            at.append(event.number)

    def tick() -> None:
        if at != [1] or killed:
            return
        if moves:
            # it goes on between the decision and the kill, and what it says of that is not read yet
            (tmp_path / "go").touch()
            wait_for(tmp_path / "moved")
        pool.kill_if(0, lambda: at == [1])
        os.kill(os.getpid(), signal.SIGTERM)

    pool = Pool(two_trials, [(tmp_path,)], handle, tick, lambda worker, cause: not killed.append(cause))
    with pytest.raises(Interrupted):
        pool.run()
    assert at == ([1, 2] if moves else [1])
    assert (tmp_path / "left-0").exists() == moves


def test_a_stop_that_comes_while_a_worker_is_started_reaches_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = Pool(until_stopped, [(tmp_path,)] * 3, lambda _: None, lambda: None)
    begin = pool._context.Process.start

    def start(process: Any) -> None:
        begin(process)
        if process.name.endswith("-1"):
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(pool._context.Process, "start", start)
    with pytest.raises(Interrupted):
        pool.run()


def die_after_two_epochs(channel: Channel, folder: Path) -> None:
    mark = folder / f"epoch-{channel.worker}"
    done = int(mark.read_text()) if mark.exists() else 0
    for epoch in (done + 1, done + 2):
        channel.send(Epoch(channel.worker, channel.worker, epoch))
        mark.write_text(str(epoch))
    if done + 2 < 2 * DEATHS_IN_A_ROW + 4:
        os.kill(os.getpid(), signal.SIGKILL)
    channel.send(Ended(channel.worker))


def die_at_the_second_epoch(channel: Channel) -> None:
    if channel.worker == 0:
        epoch = 0
        while not channel.stopping():
            epoch += 1
            channel.send(Epoch(0, 0, epoch))
            time.sleep(0.005)
    else:
        channel.send(Epoch(1, 1, 1))
        os.kill(os.getpid(), signal.SIGKILL)


def test_workers_that_get_further_each_time_may_die_as_often_as_they_like(tmp_path: Path) -> None:
    events = run(die_after_two_epochs, [(tmp_path,)] * 2)
    assert sum(isinstance(event, Ended) for event in events) == 2


def test_one_that_dies_at_the_same_place_is_given_up_whatever_others_do(tmp_path: Path) -> None:
    told: list[Event] = []
    pool = Pool(die_at_the_second_epoch, [(), ()], told.append, lambda: None)
    with pytest.raises(OptituneError, match=rf"workers died {DEATHS_IN_A_ROW} times in a row"):
        pool.run()
    assert [event for event in told if event.worker == 1] == [Epoch(1, 1, 1)] * DEATHS_IN_A_ROW
