"""Processes that a task's code makes within a worker."""

import subprocess
import sys

ENDED_AT_ONCE = """
import multiprocessing, os, signal, sys, time
from optitune.workers.child_process import let_tasks_have_processes

os.register_at_fork(after_in_child=lambda: time.sleep(0.5))
signal.signal(signal.SIGTERM, lambda number, frame: None)
let_tasks_have_processes()
child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
child.start()
os.kill(child.pid, signal.SIGTERM)
child.join(20)
print(child.exitcode, signal.pthread_sigmask(signal.SIG_BLOCK, []))
child.kill()
"""


def test_a_process_that_is_ended_before_it_has_begun_ends() -> None:
    done = subprocess.run([sys.executable, "-c", ENDED_AT_ONCE], capture_output=True, text=True, check=True)
    assert done.stdout == "-15 set()\n"
