"""The process of a worker: what it starts ends with it, what it prints is whole lines, and how it is started."""

import multiprocessing
import multiprocessing.forkserver
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from worker_runs import Began, Ended, run, until_stopped

from optitune.errors import Interrupted
from optitune.workers.child_process import Printed, start
from optitune.workers.events import Event
from optitune.workers.pool import Channel, Pool


def leave_a_thread(channel: Channel) -> None:
    threading.Thread(target=time.sleep, args=(3600,)).start()
    channel.send(Ended(channel.worker, 1))


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
        "from tests.workers.test_worker_processes import path\n"
        "events = []\n"
        "Pool(path, [()], events.append, lambda: None).run()\n"
        "print(events[0].body)\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("None\n", "")


def path(channel: Channel) -> None:
    channel.send(Ended(channel.worker, os.environ.get("PYTHONSAFEPATH")))


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
