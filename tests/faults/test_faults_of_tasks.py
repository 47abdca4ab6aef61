"""Tasks that raise, hang, crash or leak while workers train them."""

import subprocess
from pathlib import Path

import pytest
from real_commands import ADAM, command, faulty_task, held, only_error, trainings_begun

pytestmark = pytest.mark.wide

FEW = [
    "--epochs",
    "2",
    "--optimizers",
    "sgd,adam",
    "--schedules",
    "constant",
    "--pruner",
    "none",
    "--precision",
    "fp32",
    # what counts here is the trainings of trials, not those that measure what an epoch costs
    "--budget-in",
    "epochs",
    "--study",
    "x",
    "--trials",
]


def search(folder: Path, task: str, trials: int, *more: object) -> subprocess.CompletedProcess[str]:
    return command("search", "--task", task, *FEW, trials, *more, folder=folder)


def test_a_trial_that_raises_fails_with_its_reason_and_the_study_goes_on(tmp_path: Path) -> None:
    ended = search(tmp_path, faulty_task(tmp_path, ADAM, "raise ValueError('no such pixel')"), 3, "--workers", 1)
    # adam has no trial that ended otherwise
    assert ended.returncode == 1, ended.stderr
    found = held(tmp_path, "x")
    assert [reason.partition(" (")[0] for reason in found.reasons] == ["ValueError: no such pixel"]
    assert found.states == {"COMPLETE": 3, "FAIL": 1}


def test_a_task_that_always_raises_ends_the_search_with_the_reason(tmp_path: Path) -> None:
    task = faulty_task(tmp_path, "rate", "raise ValueError('no such pixel')")
    line = only_error(search(tmp_path, task, 5, "--workers", 1))
    assert "3 trials in a row failed, the last with ValueError: no such pixel (" in line
    assert held(tmp_path, "x").states == {"FAIL": 3}


def test_a_trial_that_hangs_is_given_up_and_its_worker_replaced(tmp_path: Path) -> None:
    task = faulty_task(tmp_path, "rate and once('hung')", "time.sleep(3600)")
    # the first two tries are of one optimizer, which so does not fail as a whole
    ended = search(tmp_path, task, 2, "--workers", 1, "--trial-timeout", "20s", "--optimizers", "sgd")
    assert ended.returncode == 0, ended.stderr
    assert "trial 0 took longer than trial_timeout = 20 s and was given up" in ended.stderr
    found = held(tmp_path, "x")
    assert found.reasons == ["took longer than trial_timeout = 20 s"]
    assert found.states == {"COMPLETE": 2, "FAIL": 1}


def test_a_trial_that_always_kills_its_worker_is_given_up_after_three(tmp_path: Path) -> None:
    ended = search(tmp_path, faulty_task(tmp_path, ADAM, "os.abort()"), 3, "--workers", 2)
    assert ended.returncode == 1, ended.stderr
    assert ended.stderr.count("died (signal 6); its trial") == 2
    found = held(tmp_path, "x")
    assert found.reasons == ["3 workers died at the same place of it, the last of signal 6"]
    assert found.states == {"COMPLETE": 3, "FAIL": 1}


def test_a_task_that_always_kills_its_worker_ends_the_search_with_the_cause(tmp_path: Path) -> None:
    task = faulty_task(tmp_path, "rate", "os.abort()")
    line = only_error(search(tmp_path, task, 3, "--workers", 2))
    assert "3 trials in a row were given up" in line
    assert "signal 6; what was finished is kept" in line
    (tmp_path / "faulty.py").write_text((tmp_path / "faulty.py").read_text().replace("os.abort()", "pass"))
    ended = search(tmp_path, task, 3, "--workers", 1)
    assert ended.returncode == 2
    assert "Faulty.forward was changed" in ended.stderr
    ended = search(tmp_path, task, 3, "--workers", 1, "--accept-changes")
    assert ended.returncode == 0, ended.stderr
    found = held(tmp_path, "x")
    assert found.states.keys() == {"COMPLETE", "FAIL"}
    assert found.finished == 3


def test_a_task_that_leaks_goes_on_in_fresh_processes_and_no_trial_fails(tmp_path: Path) -> None:
    task = faulty_task(tmp_path, "trainings > 2", "raise MemoryError('out of memory')")
    ended = search(tmp_path, task, 5, "--workers", 1)
    assert ended.returncode == 0, ended.stderr
    assert held(tmp_path, "x").states == {"COMPLETE": 5}
    # two workers more, each for a training that the one before it could not do
    assert trainings_begun(tmp_path) == 5 + 2


def test_a_worker_that_the_system_kills_is_replaced_and_its_trial_goes_on(tmp_path: Path) -> None:
    task = faulty_task(tmp_path, "rate and once('killed')", "os.kill(os.getpid(), signal.SIGKILL)")
    ended = search(tmp_path, task, 3, "--workers", 1)
    assert ended.returncode == 0, ended.stderr
    why = "signal 9, perhaps for want of memory: try fewer workers"
    assert f"worker 1 died ({why}); its trial 0 goes on in another" in ended.stderr
    assert held(tmp_path, "x").states == {"COMPLETE": 3}
    assert trainings_begun(tmp_path) == 3 + 1


def test_a_worker_that_is_asked_to_end_is_replaced_and_its_trial_goes_on(tmp_path: Path) -> None:
    task = faulty_task(tmp_path, "rate and once('ended')", "os.kill(os.getpid(), signal.SIGTERM)")
    ended = search(tmp_path, task, 3, "--workers", 1)
    assert ended.returncode == 0, ended.stderr
    assert "worker 1 died (signal 15); its trial 0 goes on in another" in ended.stderr
    assert held(tmp_path, "x").states == {"COMPLETE": 3}


@pytest.mark.parametrize(
    ("consequence", "measured"),
    # a process that died is replaced, and measures again
    [("os.abort()", True), ("time.sleep(3600)", False), ("raise ValueError('no such pixel')", False)],
)
def test_a_fault_while_costs_are_measured_ends_no_search(tmp_path: Path, consequence: str, measured: bool) -> None:
    task = faulty_task(tmp_path, "rate and once('happened')", consequence)
    ended = search(tmp_path, task, 2, "--workers", 1, "--budget-in", "seconds", "--trial-timeout", "5s")
    assert ended.returncode == 0, ended.stderr
    assert ("could not be measured, so that all epochs count the same" not in ended.stderr) is measured
    found = held(tmp_path, "x")
    assert found.states == {"COMPLETE": 2}
