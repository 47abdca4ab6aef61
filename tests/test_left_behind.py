"""The check that no test leaves a thread or a process behind sees them."""

import multiprocessing
import subprocess
import sys
import threading

from left_behind import Processes, left, threads


def test_a_thread_that_goes_on_is_seen_until_it_ends() -> None:
    before, end = threads(), threading.Event()
    thread = threading.Thread(target=end.wait, name="endless")
    thread.start()
    assert left(before, threads, 0.0) == ["thread endless"]
    end.set()
    assert left(before, threads) == []


def test_a_process_is_seen_and_one_whose_parent_has_gone_too(processes: Processes) -> None:
    before = processes()
    waits = "import sys; sys.stdin.read(1)"
    parent = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {waits!r}], stdin=0)"
    with subprocess.Popen([sys.executable, "-c", waits], stdin=subprocess.PIPE) as direct:
        assert left(before, processes, 0.0) == [f"own process {sys.executable} -c {waits}"]
        direct.communicate(b"x")
    with subprocess.Popen([sys.executable, "-c", parent], stdin=subprocess.PIPE) as gone:
        gone.wait()
        assert left(before, processes, 0.0) == [f"process {sys.executable} -c {waits}"]
        gone.communicate(b"x")
    assert left(before, processes) == []


def test_a_process_of_the_fork_server_is_seen_and_the_server_itself_is_not(processes: Processes) -> None:
    before = processes()
    context = multiprocessing.get_context("forkserver")
    end = context.Event()
    process = context.Process(target=end.wait)
    process.start()
    try:
        (seen,) = left(before, processes, 0.0)
        assert seen.startswith("process ")
    finally:
        end.set()
        process.join()
    assert left(before, processes) == []
