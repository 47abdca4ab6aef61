"""A search, a comparison and a full training that are killed or stopped on the way, on digits."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from commands_under_way import SEARCH, TRIALS, begin, training, trials, wait_until
from optuna.trial import FrozenTrial, TrialState
from real_commands import HANG_S

from optitune.cli.main import run
from optitune.common import checkpoint
from optitune.comparing.kept_runs import load_runs, run_paths
from optitune.searching.trial_checkpoint import path_of

pytestmark = pytest.mark.wide


# enough for a signal to reach it in the midst, on a busy machine, too
EPOCHS = 50
ONE = f"search --task digits --epochs {EPOCHS} --optimizers sgd --trials 1 --pruner none --workers 1".split()

WAITING_TASK = """
import multiprocessing
import time
from dataclasses import replace
from pathlib import Path

from torch import nn

from optitune.tasks.builtin import TASKS

DIGITS = TASKS["digits"].task(Path())


def wait():
    Path(__file__).with_name("waits").touch()
    time.sleep(3600)


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.network = DIGITS.model()

    def forward(self, inputs):
        if multiprocessing.current_process().name.startswith("optitune-worker"):
            wait()
        return self.network(inputs)


def in_training():
    return replace(DIGITS, model=Network)


def in_reading():
    return replace(DIGITS, data=wait)
"""


def test_a_search_killed_on_the_way_ends_with_all_its_trials_once_each(tmp_path: Path) -> None:
    process = begin(SEARCH, tmp_path)
    wait_until(training(tmp_path), process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    left = trials(tmp_path)
    assert any(trial.state == TrialState.RUNNING for trial in left)
    assert run([*SEARCH, "--studies-dir", str(tmp_path), "--quiet"]) == 0
    ended = trials(tmp_path)
    assert [trial.number for trial in ended] == list(range(TRIALS))
    assert {trial.state for trial in ended} == {TrialState.COMPLETE}
    for before in left:
        assert before.params.items() <= ended[before.number].params.items()
        assert before.intermediate_values.items() <= ended[before.number].intermediate_values.items()


def test_ctrl_c_gives_the_trials_back_and_says_how_to_go_on(tmp_path: Path) -> None:
    process = begin(SEARCH, tmp_path)
    wait_until(training(tmp_path), process)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=HANG_S)
    assert process.returncode == 130
    assert "nothing lost; run the same command again to go on" in err
    assert "Traceback" not in err
    assert TrialState.RUNNING not in {trial.state for trial in trials(tmp_path)}


@pytest.fixture(scope="module")
def unstopped(tmp_path_factory: pytest.TempPathFactory) -> FrozenTrial:
    """The trial of `ONE` where nobody stops it."""
    folder = tmp_path_factory.mktemp("unstopped")
    assert run([*ONE, "--studies-dir", str(folder), "--quiet"]) == 0
    return trials(folder)[0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("send", [os.kill, os.killpg], ids=["the search", "its group"])
def test_other_signals_that_ask_for_an_end_do_as_ctrl_c_does_and_the_trial_goes_on_where_it_was(
    tmp_path: Path, unstopped: FrozenTrial, number: signal.Signals, send: Callable[[int, int], None]
) -> None:
    process = begin(ONE, tmp_path)
    wait_until(training(tmp_path), process)
    send(process.pid, number)
    _, err = process.communicate(timeout=HANG_S)
    assert process.returncode == 130
    assert err.splitlines()[-1] == (
        "stopped with 0 of 1 trials finished, nothing lost; run the same command again to go on"
    )
    assert "Traceback" not in err
    assert "died" not in err
    (stopped,) = trials(tmp_path)
    assert stopped.state == TrialState.WAITING
    kept = checkpoint.load(path_of(tmp_path / "digits", 0))["progress"][-1]
    assert kept["validation"]["value"] == stopped.intermediate_values[stopped.last_step]
    assert 0 < kept["epoch"] < EPOCHS
    assert run([*ONE, "--studies-dir", str(tmp_path), "--quiet"]) == 0
    (ended,) = trials(tmp_path)
    assert ended.state == TrialState.COMPLETE
    assert ended.value == unstopped.value
    assert ended.intermediate_values == unstopped.intermediate_values


def test_the_second_ctrl_c_ends_a_search_whose_task_hangs(tmp_path: Path) -> None:
    (tmp_path / "waiting.py").write_text(WAITING_TASK)
    process = begin([*ONE[:1], "--task", f"{tmp_path / 'waiting.py'}:in_training", *ONE[3:]], tmp_path)
    wait_until((tmp_path / "waits").exists, process)
    os.killpg(process.pid, signal.SIGINT)
    # two that come at the same moment are one
    time.sleep(2)
    assert process.poll() is None
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=HANG_S)
    assert process.returncode == 130
    assert "nothing lost; run the same command again to go on" in err
    assert "Traceback" not in err


def test_a_signal_before_anything_trains_is_told_in_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "waiting.py").write_text(WAITING_TASK)
    studies = tmp_path / "studies"
    process = begin([*ONE[:1], "--task", f"{tmp_path / 'waiting.py'}:in_reading", *ONE[3:]], studies)
    wait_until((tmp_path / "waits").exists, process)
    os.killpg(process.pid, signal.SIGTERM)
    _, err = process.communicate(timeout=HANG_S)
    assert process.returncode == 130
    assert err.split() == ["interrupted"]
    assert not studies.exists()


def test_what_was_begun_with_nohup_goes_on_when_the_terminal_is_closed(tmp_path: Path) -> None:
    process = begin(SEARCH, tmp_path, before=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN) and None)
    wait_until(training(tmp_path), process)
    os.killpg(process.pid, signal.SIGHUP)
    _, err = process.communicate(timeout=HANG_S)
    assert process.returncode == 0, err
    assert [trial.state for trial in trials(tmp_path)] == [TrialState.COMPLETE] * TRIALS


def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    process = begin(SEARCH, tmp_path)
    wait_until(training(tmp_path, reports=1), process)
    process.kill()
    process.wait()
    for stream in (process.stdout, process.stderr):
        assert stream is not None
        stream.close()
    limit = time.monotonic() + 30
    while time.monotonic() < limit:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            break
        time.sleep(0.1)
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_full_training_stopped_half_way_goes_on_to_the_same_result(tmp_path: Path, number: signal.Signals) -> None:
    assert (
        run(["search", "--task", "digits", "--epochs", "1", "--trials", "1", "--studies-dir", str(tmp_path), "-q"]) == 0
    )
    words = ["retrain", "best", "--study", "digits", "--epochs", "30", "--seeds", "1", "--json"]
    process = begin(words, tmp_path)
    partial = tmp_path / "digits" / "retrain" / "partial"
    wait_until(lambda: bool(list(partial.glob("best-*/seed-0.safetensors"))), process)
    os.killpg(process.pid, number)
    out, err = process.communicate(timeout=HANG_S)
    if number != signal.SIGKILL:
        assert process.returncode == 130
        told = {"error": "stopped; the epochs done are kept, run the same command again to go on"}
        assert json.loads(out) == told
    assert "Traceback" not in err
    assert not list(partial.glob("best-*/seed-0.json"))
    metrics = []
    for fresh in (False, True):
        assert run([*words, "--studies-dir", str(tmp_path)]) == 0
        metrics.append(json.loads((tmp_path / "digits" / "retrain" / "best" / "metrics.json").read_text()))
        if not fresh:
            (tmp_path / "digits" / "retrain" / "best").rename(tmp_path / "set-aside")
    assert metrics[0]["test_loss"] == metrics[1]["test_loss"]
    assert metrics[0]["runs"][0]["epochs"] == metrics[1]["runs"][0]["epochs"]
    assert len(metrics[0]["runs"][0]["epochs"]) == 30


def test_a_comparison_stopped_and_killed_on_the_way_goes_on_to_the_same_result(tmp_path: Path) -> None:
    few = ["search", "--task", "digits", "--epochs", "8", "--trials", "2", "--optimizers", "sgd,adam", "-q"]
    assert run([*few, "--studies-dir", str(tmp_path)]) == 0
    words = ["compare", "digits", "--max-runs", "12", "--sensitivity", "0"]
    folder = tmp_path / "digits" / "compare"

    def after(runs: int) -> Callable[[], bool]:
        return lambda: len(run_paths(folder)) >= runs

    process = begin(words, tmp_path)
    wait_until(after(1), process)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=HANG_S)
    assert process.returncode == 130
    assert "finished runs are kept, run the same command again to go on after them" in err
    assert "Traceback" not in err
    assert not (folder / "data.safetensors").exists()
    stopped = len(run_paths(folder))
    process = begin(words, tmp_path)
    wait_until(after(stopped + 1), process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (folder / "verdict.json").exists()
    (folder / "runs" / ".03-sgd-0a1b2c3d.safetensors").write_bytes(b"half")
    results = []
    for fresh in (False, True):
        assert run([*words, "--studies-dir", str(tmp_path), "-q"]) == 0
        results.append([(each.key, each.value, each.loss) for each in load_runs(folder)])
        if not fresh:
            assert not list(folder.rglob(".*.safetensors"))
            folder.rename(tmp_path / "set-aside")
    assert results[0] == results[1]
    # three rounds of both at least, and no more than were asked for
    assert 6 <= len(results[0]) <= 12
