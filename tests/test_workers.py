import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from optitune.errors import Interrupted, OptituneError, UsageError
from optitune.workers import DEATHS_IN_A_ROW, Channel, Event, Pool, auto


def count(channel: Channel, start: int) -> None:
    for number in range(start, start + 3):
        channel.send("finished", number=number)


def die_once(channel: Channel, folder: Path) -> None:
    mark = folder / "died"
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    channel.send("finished", number=1)


def retire_thrice(channel: Channel, folder: Path) -> None:
    pid = folder / str(os.getpid())
    assert not pid.exists(), "the same process again"
    pid.touch()
    if len(list(folder.iterdir())) <= 2 * DEATHS_IN_A_ROW:
        channel.send("retired", number=1)
    else:
        channel.send("finished", number=1)


def die_always(channel: Channel) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def complain(channel: Channel) -> None:
    raise OptituneError("the disk is full")


def blunder(channel: Channel) -> None:
    raise KeyError("x")


def until_stopped(channel: Channel, folder: Path) -> None:
    channel.send("started")
    while not channel.stopping():
        time.sleep(0.02)
    (folder / f"left-{channel.worker}").touch()


def deaf(channel: Channel) -> None:
    channel.send("started")
    time.sleep(600)


def run(target: Callable[..., None], jobs: list[tuple], on_event: Callable[[Event], None] = lambda _: None) -> list:
    events: list[Event] = []

    def heed(event: Event) -> None:
        events.append(event)
        on_event(event)

    Pool(target, jobs, heed, lambda: None).run()
    return events


def test_events_of_all_workers_arrive_in_their_order() -> None:
    events = run(count, [(0,), (10,)])
    by_worker = {worker: [e.body["number"] for e in events if e.worker == worker] for worker in (0, 1)}
    assert by_worker == {0: [0, 1, 2], 1: [10, 11, 12]}


def test_a_worker_that_dies_is_replaced(tmp_path: Path) -> None:
    assert [event.body for event in run(die_once, [(tmp_path,)])] == [{"number": 1}]


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
    assert "in blunder" in error.value.__notes__[0]


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
    assert [event.kind for event in events] == ["retired"] * 2 * DEATHS_IN_A_ROW + ["finished"]
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
    def heed(event: Event) -> None:
        if event.kind == "started" and not killed:
            killed.append(event.worker)
            pool.kill(event.worker)
        elif event.kind == "started":
            os.kill(os.getpid(), signal.SIGTERM)

    killed: list[int] = []
    pool = Pool(until_stopped, [(tmp_path,)], heed, lambda: None, lambda worker, cause: True)
    with pytest.raises(Interrupted):
        pool.run()
    assert killed == [0]
    assert (tmp_path / "left-0").exists()
