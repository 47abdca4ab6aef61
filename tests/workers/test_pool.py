import multiprocessing
import multiprocessing.forkserver
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from optitune.errors import Interrupted, OptituneError, UsageError
from optitune.workers.child_process import Printed, start
from optitune.workers.events import Event, Retired
from optitune.workers.pool import Channel, Pool, auto
from optitune.workers.supervisor import DEATHS_IN_A_ROW


@dataclass(frozen=True)
class Began(Event):
    number: int = 0


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


@dataclass(frozen=True)
class Ended(Event):
    body: Any = None


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


def leave_a_thread(channel: Channel) -> None:
    threading.Thread(target=time.sleep, args=(3600,)).start()
    channel.send(Ended(channel.worker, 1))


def die_always(channel: Channel) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def complain(channel: Channel) -> None:
    raise OptituneError("the disk is full")


def blunder(channel: Channel) -> None:
    raise KeyError("x")


def until_stopped(channel: Channel, folder: Path) -> None:
    channel.send(Began(channel.worker))
    while not channel.stopping():
        time.sleep(0.02)
    (folder / f"left-{channel.worker}").touch()


def deaf(channel: Channel) -> None:
    channel.send(Began(channel.worker))
    time.sleep(600)


def run(target: Callable[..., None], jobs: list[tuple], on_event: Callable[[Event], None] = lambda _: None) -> list:
    events: list[Event] = []

    def handle(event: Event) -> None:
        events.append(event)
        on_event(event)

    Pool(target, jobs, handle, lambda: None).run()
    return events


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


HERE = str(Path(__file__))


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


def double(number: int) -> int:
    print("a child's")
    return 2 * number


def with_processes(channel: Channel) -> None:
    with multiprocessing.Pool(2) as pool:
        doubled = pool.map(double, range(4))
    # left open, as one that a module keeps
    left = ProcessPoolExecutor(1)
    doubled.append(left.submit(double, 4).result())
    channel.send(Ended(channel.worker, (doubled, [each.pid for each in multiprocessing.active_children()])))


def sleep_in_child(folder: Path) -> None:
    (folder / str(os.getpid())).touch()
    time.sleep(600)


def with_child(channel: Channel, folder: Path) -> None:
    child = multiprocessing.Process(target=sleep_in_child, args=(folder,))
    child.start()
    while not (folder / str(child.pid)).exists():
        time.sleep(0.01)
    channel.send(Ended(channel.worker))
    time.sleep(600)


def is_running(pid: int) -> bool:
    state = Path(f"/proc/{pid}/stat")
    try:
        return state.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def has_gone(pid: int) -> bool:
    return any(not is_running(pid) or time.sleep(0.05) for _ in range(600))


def test_a_worker_may_make_processes_and_none_of_them_is_left() -> None:
    (event,) = run(with_processes, [()])
    doubled, kept = event.body
    assert doubled == [0, 2, 4, 6, 8]
    assert all(has_gone(pid) for pid in kept)


def test_the_processes_of_a_worker_that_is_killed_end_with_it(tmp_path: Path) -> None:
    def kill(event: Event) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted):
        run(with_child, [(tmp_path,)], kill)
    (child,) = tmp_path.iterdir()
    assert has_gone(int(child.name))


def choose_a_method(channel: Channel) -> None:
    assert multiprocessing.get_start_method(allow_none=True) is None
    multiprocessing.set_start_method("spawn")
    channel.send(Ended(channel.worker, multiprocessing.get_start_method()))


def test_a_task_may_choose_how_its_processes_start() -> None:
    assert run(choose_a_method, [()])[0].body == "spawn"


def chatter(channel: Channel) -> None:
    print("by Python", end=" ")
    print("in two parts")
    sys.stdout.buffer.write(b"bytes\n")
    sys.stderr.write("\r 10 %\r 100 %\n")
    print("no end", end="", flush=True)
    subprocess.run([sys.executable, "-c", "print('by a process')"], stdout=sys.stdout, check=True)
    os.write(1, b"by C\n")
    channel.send(Ended(channel.worker))


def test_what_workers_print_goes_to_standard_error_in_whole_lines(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(chatter, [()]) == [Ended(0)]
    printed = capfd.readouterr()
    assert printed.out == ""
    assert {"by Python in two parts", "bytes", " 100 %", "no end"} <= set(printed.err.splitlines())


def test_a_line_without_end_is_sent_in_pieces() -> None:
    lines: list[str] = []
    printed = Printed(lines.append)
    for _ in range(3):
        printed.write(b"x" * 9_000)
    printed.end()
    assert [len(line) for line in lines] == [10_000, 9_000]


def test_a_file_named_as_pythons_own_is_not_imported_by_processes_that_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "random.py").write_text("raise ImportError('this is my own random.py')\n")
    code = (
        "from optitune.workers.pool import Pool\n"
        "from tests.workers.test_pool import path\n"
        "events = []\n"
        "Pool(path, [()], events.append, lambda: None).run()\n"
        "print(events[0].body)\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("None\n", "")


def path(channel: Channel) -> None:
    channel.send(Ended(channel.worker, os.environ.get("PYTHONSAFEPATH")))


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


def test_a_fork_server_that_was_killed_is_started_anew(tmp_path: Path) -> None:
    def kill_both(event: Event) -> None:
        if isinstance(event, Began) and not killed:
            killed.append(multiprocessing.forkserver._forkserver._forkserver_pid)
            os.kill(killed[0], signal.SIGKILL)
            pool.kill(0)
        elif isinstance(event, Began):
            os.kill(os.getpid(), signal.SIGTERM)

    killed: list[int] = []
    pool = Pool(until_stopped, [(tmp_path,)], kill_both, lambda: None)
    with pytest.raises(Interrupted):
        pool.run()
    assert (tmp_path / "left-0").exists()


class Starting:
    """A process that begins at the third try, as where a fork server that was killed has not ended yet."""

    tries = 0

    def start(self) -> None:
        self.tries += 1
        if self.tries < 3:
            raise ConnectionRefusedError


def test_a_fork_server_that_is_ending_is_waited_for() -> None:
    process = Starting()
    start(process)
    assert process.tries == 3


def test_a_worker_whose_task_leaves_a_thread_behind_ends_all_the_same() -> None:
    found: list[Event] = []
    Pool(leave_a_thread, [()], found.append, lambda: None).run()
    assert found == [Ended(0, 1)]
