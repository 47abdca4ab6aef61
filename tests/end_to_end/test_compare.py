"""`optitune compare`, and what follows from its verdict, on digits and on a task that is an object."""

import json
import os
import shutil
import signal
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from local_task import local_task
from optuna_dashboard import get_note

import optitune
from optitune.cli.main import run
from optitune.common import checkpoint
from optitune.comparing import run as comparing
from optitune.comparing import worker as comparison_worker
from optitune.comparing.events import RunProgress
from optitune.comparing.kept_runs import load_run, load_runs, run_path
from optitune.comparing.plan import practical
from optitune.comparing.results import load_plan, load_verdict, save_plan, taken
from optitune.dashboard.artifacts import attached, system_attrs
from optitune.errors import OptituneError, UsageError
from optitune.statistics.runs import HALF, KNOWN_GOOD, TUNED, TWICE, Plan, Point, Run, RunId
from optitune.storage import studies, trials
from optitune.storage.artifacts import FOLDER as ARTIFACTS
from optitune.storage.urls import open_storage, sqlite_url
from optitune.tasks import datasets, loading, splits
from optitune.tasks.data import rotated, share
from optitune.tasks.metrics import METRICS, Metric
from optitune.training.engine import Training
from optitune.workers.events import Event
from optitune.workers.pool import Channel

SEARCH = ("search", "--task", "digits", "--epochs", "2", "--trials", "4", "--optimizers", "sgd,adam", "--quiet")
SHORT = ("--max-runs", "10", "--sensitivity", "1")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A studies folder with a study and its comparison, to be looked at and not changed."""
    place = tmp_path_factory.mktemp("made") / "studies"
    assert run([*SEARCH, "--studies-dir", str(place)]) == 0
    assert run(["compare", *SHORT, "--studies-dir", str(place), "--quiet"]) == 0
    return place


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy of it that may be changed."""
    return Path(shutil.copytree(made, tmp_path / "studies"))


def compared(folder: Path) -> Path:
    return folder / "digits" / "compare"


def plan_of(folder: Path) -> Plan:
    plan = load_plan(compared(folder))
    assert plan is not None
    return plan


def told(runs: list[Run]) -> list[Any]:
    """What of runs has to be the same again."""
    return [(r.key, r.value, r.loss, [(p.epoch, p.value, p.loss) for p in r.curve], r.each.tolist()) for r in runs]  # type: ignore[union-attr]


def test_rounds_hold_out_every_example_once_and_train_on_none_of_them() -> None:
    held: list[int] = []
    for number in range(20):
        training, out = rotated(1150, 1093, 57, number)
        assert (len(training), len(out)) == (1093, 57)
        assert not set(training.tolist()) & set(out.tolist())
        held += out.tolist()
    assert sorted(held) == list(range(1140))


def test_a_round_trains_on_a_subset_where_the_search_did() -> None:
    training, out = rotated(1000, 100, 50, 19)
    assert out.tolist() == list(range(950, 1000))
    assert training.tolist() == list(range(100))


def test_neither_validation_nor_test_examples_are_met(made: Path) -> None:
    data = splits.search_data(loading.find("digits", Path()), None)
    plan = plan_of(made)
    assert plan.train_examples + plan.held_out <= len(data.train)
    assert plan.rounds * plan.held_out <= len(data.train)
    assert len(data.train) + len(data.validation) == len(datasets.load_train("digits", Path()))
    assert plan.data_checksum == data.checksum


def test_the_dashboard_has_the_code_of_what_retrain_trains(made: Path, run_command: Any) -> None:
    home = studies.location(made, "digits", None)
    opened = home.open()
    files = attached(system_attrs(opened))
    code = (home.folder / ARTIFACTS / files["train.py"]).read_text()
    assert code == run_command("export", "best", "--study", "digits", "--studies-dir", str(made))[1]
    number = load_verdict(compared(made))["trial"]  # type: ignore[index]
    assert f"(trial {number}, one run)" in code
    assert f"To take, by now: {trials.record(opened, number).optimizer}, trial {number}." in get_note(opened)
    assert optitune.load("digits", studies_dir=made).code() + "\n" == code


def test_runs_are_kept_with_what_each_example_came_to(made: Path) -> None:
    runs, plan = load_runs(compared(made)), plan_of(made)
    itself = [run.key for run in runs if run.key.variant == TUNED]
    assert itself == [RunId(number, name) for number in range(5) for name in ("adam", "sgd")]
    for each in runs:
        assert each.each is not None
        assert each.each.shape == (plan.held_out,)
        assert set(np.unique(each.each)) <= {0.0, 1.0}
        assert each.each.mean() == pytest.approx(each.value)
        assert each.curve[-1].epoch == plan.epochs
        assert each.curve[-1].value == each.value
        assert each.state_bytes == pytest.approx(
            {"sgd": 1, "adam": 2}[each.key.optimizer] * each.weight_bytes, rel=0.01
        )
        assert load_run(run_path(compared(made), each.key)).key == each.key


def test_other_settings_are_trained_in_the_same_rounds(made: Path) -> None:
    runs, plan = load_runs(compared(made)), plan_of(made)
    others = {run.key for run in runs if run.key.variant != TUNED}
    expected = {
        RunId(0, each.optimizer, variant)
        for each in plan.finalists
        for variant in (HALF, TWICE, KNOWN_GOOD)
        if variant != KNOWN_GOOD or each.configuration != each.known_good
    }
    assert others == expected


def test_a_round_is_the_same_for_all_and_the_same_again(command: Any, folder: Path, tmp_path: Path) -> None:
    before = load_runs(compared(folder))
    shutil.rmtree(compared(folder))
    assert command("compare", *SHORT, "--quiet", "--workers", "1")[0] == 0
    assert told(load_runs(compared(folder))) == told(before)


def test_a_comparison_that_is_done_trains_nothing_and_more_runs_go_on(command: Any, folder: Path) -> None:
    before = told(load_runs(compared(folder)))
    code, out, _ = command("compare", *SHORT)
    assert code == 0
    assert "nothing was trained" in out
    assert told(load_runs(compared(folder))) == before
    code, out, _ = command("compare", "--max-runs", "14", "--sensitivity", "0")
    assert code == 0
    verdict = load_verdict(compared(folder))
    assert verdict is not None
    assert verdict["runs"] == 14 or verdict["status"] != "undecided"
    assert [each for each in told(load_runs(compared(folder))) if each in before] == before


def test_runs_that_a_kill_left_out_are_made_up_for(command: Any, folder: Path) -> None:
    before = told(load_runs(compared(folder)))
    run_path(compared(folder), RunId(2, "sgd")).unlink()
    (compared(folder) / "verdict.json").unlink()
    assert command("compare", *SHORT, "--quiet")[0] == 0
    assert told(load_runs(compared(folder))) == before


def test_json_is_one_object_and_what_the_file_has(command: Any, folder: Path) -> None:
    code, out, err = command("compare", *SHORT, "--json")
    assert (code, err) == (0, "")
    document = json.loads(out)
    kept = load_verdict(compared(folder))
    assert kept is not None
    assert {"sentence", "advice", "status", "leader", "recommended", "trial", "places", "differences"} <= set(kept)
    assert {key: document[key] for key in kept if key != "versions"} == {
        key: value for key, value in kept.items() if key != "versions"
    }
    assert document["study"] == document["task"] == "digits"
    assert document["ending"] == "runs"
    assert sum(place["best"] for place in document["places"]) == pytest.approx(1)


def test_a_study_is_shown_with_what_its_comparison_says(command: Any, folder: Path) -> None:
    kept = load_verdict(compared(folder))
    assert kept is not None
    assert f"the comparison says: {kept['sentence']}" in command("show", "digits")[1]
    assert json.loads(command("show", "digits", "--json")[1])["verdict"] == kept
    shutil.rmtree(compared(folder))
    assert "comparison" not in command("show", "digits")[1]
    assert json.loads(command("show", "digits", "--json")[1])["verdict"] is None


def test_lines_tell_runs_and_what_they_say_so_far(command: Any, folder: Path) -> None:
    shutil.rmtree(compared(folder))
    code, out, err = command("compare", "--max-runs", "8", "--sensitivity", "0")
    assert code == 0
    assert sum(line.startswith("round ") for line in err.splitlines()) == 8
    assert "after 8 runs" in err
    for words in (
        "Take ",
        "with 95 % confidence",
        "--max-runs is spent",
        "optitune retrain best --study digits",
    ):
        assert words in out


def test_a_better_trial_since_sets_the_comparison_aside_and_keeps_the_runs_that_hold(
    folder: Path, command: Any
) -> None:
    plan, before = plan_of(folder), load_runs(compared(folder))
    old = plan.finalists[1]
    save_plan(
        compared(folder),
        plan.model_copy(update={"finalists": (plan.finalists[0], old.model_copy(update={"trial": 99}))}),
    )
    code, out, _ = command("compare", *SHORT)
    assert code == 0
    assert "compare-before-1" in out
    assert plan_of(folder) == plan
    assert told(load_runs(compared(folder))) == told(before)
    kept = load_plan(folder / "digits" / "compare-before-1")
    assert kept is not None
    assert kept.finalists[1].trial == 99


def test_other_epochs_are_another_comparison(command: Any, folder: Path) -> None:
    assert command("compare", "--epochs", "1", "--max-runs", "8", "--sensitivity", "0", "--quiet")[0] == 0
    assert plan_of(folder).epochs == 1
    assert {run.curve[-1].epoch for run in load_runs(compared(folder))} == {1.0}
    assert (folder / "digits" / "compare-before-1" / "runs").is_dir()


@pytest.mark.parametrize("status", ["clear", "undecided"])
def test_a_full_training_takes_what_the_verdict_says(status: str, command: Any, folder: Path) -> None:
    luckiest = tomllib.loads((folder / "digits" / "best.toml").read_text())
    other = next(
        each for each in plan_of(folder).finalists if each.optimizer != luckiest["configuration"]["optimizer"]["name"]
    )
    decide(folder, status=status, recommended=other.optimizer, trial=other.trial)
    code, _, err = command("retrain", "best", "--seeds", "1", "--epochs", "1")
    assert code == 0
    assert f"best is what the comparison says to take: {other.optimizer}, trial {other.trial}" in err
    metrics = json.loads((folder / "digits" / "retrain" / "best" / "metrics.json").read_text())
    assert metrics["plan"]["configuration"]["optimizer"]["name"] == other.optimizer
    assert metrics["trial"] == other.trial


def test_an_outdated_verdict_is_not_taken(folder: Path) -> None:
    plan = plan_of(folder)
    trials = {each.optimizer: each.trial for each in plan.finalists}
    leader = plan.finalists[0]
    decide(folder, status="clear", recommended=leader.optimizer, trial=leader.trial)
    assert taken(compared(folder), trials) == leader.trial
    assert taken(compared(folder), {**trials, plan.finalists[1].optimizer: 99}) is None
    decide(folder, trial=99)
    assert taken(compared(folder), trials) is None
    (compared(folder) / "verdict.json").write_text("{")
    assert taken(compared(folder), trials) is None


def decide(folder: Path, **said: Any) -> None:
    path = compared(folder) / "verdict.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **said}))


def test_a_best_that_was_edited_comes_before_the_verdict(command: Any, folder: Path) -> None:
    leader = plan_of(folder).finalists[0]
    decide(folder, status="clear", recommended=leader.optimizer, trial=leader.trial)
    path = folder / "digits" / "best.toml"
    path.write_text(path.read_text().replace("batch_size = 64", "batch_size = 65"))
    code, out, err = command("export", "best", "--format", "json")
    assert code == 0
    assert "was edited" in err
    assert json.loads(out)["configuration"]["training"]["batch_size"] == 65


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--optimizers", "sgd,adm"), 2, "unknown optimizer of this study 'adm': did you mean 'adam'"),
        (("--optimizers", "sgd"), 1, "nothing to compare: only sgd has a complete trial"),
        (("--epsilon", "-1"), 2, "epsilon = -1.0: must be a number of at least 0"),
        (("--until", "soon"), 2, "'soon' is not one of 'good-enough', 'clear'"),
        (("--epsilon", "nan"), 2, "epsilon = nan: must be a number of at least 0"),
        (("--target", "inf"), 2, "target = inf: must be a finite number"),
        (("--seed", "1", "--max-runs", "1"), 2, "max_runs = 1: a first round of all finalists takes 2; give more"),
        (("--seed", "1", "--timeout", "0.01s"), 1, "the time was over before the first run ended"),
        (("nothing",), 2, "unknown study 'nothing'"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    words: tuple[str, ...], code: int, message: str, command: Any, folder: Path
) -> None:
    found, _, err = command("compare", *words)
    assert found == code
    assert message in err
    assert len(err.splitlines()) <= 2


def test_a_search_may_go_on_to_compare(run_command: Any, tmp_path: Path) -> None:
    code, out, err = run_command(
        *("search", "--task", "digits", "--epochs", "1", "--trials", "2", "--optimizers", "sgd,adam"),
        *("--then-compare", "--json", "--studies-dir", str(tmp_path)),
    )
    document = json.loads(out)
    assert (code, err) == (0, "")
    assert document["best"]["optimizer"] in ("sgd", "adam")
    assert document["comparison"]["study"] == "digits"
    assert (tmp_path / "digits" / "compare" / "verdict.json").exists()


# a task that is an object, whose metric is no mean over examples


def test_a_task_of_ones_own_is_compared_and_what_diverges_is_out(tmp_path: Path) -> None:
    places: dict[str, Any] = {"study": "mine", "studies_dir": tmp_path, "progress": False, "device": "cpu"}
    optitune.search(local_task(), optimizers=("sgd", "adam"), epochs=1, trials=2, batch_size=16, **places)
    found = optitune.compare(local_task(), max_runs=8, sensitivity=0, epsilon=0.5, **places)
    assert f"(trial {found.trial}, one run)" in found.code()
    runs = load_runs(tmp_path / "mine" / "compare")
    # good enough after the first rounds
    assert len(runs) == 6
    assert found.loss <= 0.5
    assert found.sentence.startswith(f"Take {found.recommended}. ")
    assert found.status != "undecided"
    assert all(each.each is None for each in runs)
    assert found.comparison.plan.metric == "share"
    assert found.comparison.verdict.epsilon == 0.5
    with pytest.raises(UsageError, match="study 'mine' trains 'python:mine'"):
        optitune.compare("digits", **places)
    for options in ({"until": "soon"}, {"prefer": "price"}):
        with pytest.raises(UsageError, match="must be one of"):
            optitune.compare(local_task(), **options, **places)


class Line:
    """A worker's line to nobody."""

    worker = 0

    def __init__(self, stop_after: int = 1_000) -> None:
        self.told: list[Event] = []
        self._stop_after = stop_after

    def send(self, event: Event) -> None:
        self.told.append(event)

    def stopping(self) -> bool:
        return len(self.told) >= self._stop_after


def worked(folder: Path, plan: Plan, keys: list[RunId], line: Line) -> None:
    data = splits.search_data(loading.find("digits", Path()), None)
    share({"train": data.train}, folder / comparison_worker.DATA)
    comparison_worker.work(line, plan, keys, folder, "digits", Path(), "cpu", None)  # type: ignore[arg-type]


def test_a_run_that_was_stopped_goes_on_to_the_last_bit(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, key = plan_of(made), RunId(1, "adam")
    monkeypatch.setattr(comparison_worker, "CHECKPOINT_S", 0)
    worked(tmp_path, plan, [key], Line(stop_after=plan.evaluations))
    assert not run_path(tmp_path, key).exists()
    assert (tmp_path / "partial" / run_path(tmp_path, key).name).exists()
    begun: list[int] = []
    taken_up = Training.load_state_dict
    monkeypatch.setattr(
        Training, "load_state_dict", lambda self, state: (begun.append(state["epoch"]), taken_up(self, state))[1]
    )
    worked(tmp_path, plan, [key], Line())
    assert begun == [1]
    assert told([load_run(run_path(tmp_path, key))]) == told([load_run(run_path(compared(made), key))])
    assert not list((tmp_path / "partial").glob("*"))


def test_a_run_of_the_first_version_is_read(tmp_path: Path) -> None:
    key = {"round": 3, "optimizer": "adam", "variant": "itself"}
    sizes = {"seconds": 2.5, "state_bytes": 80, "weight_bytes": 40}
    curve, each = [[0.5, 1.0, 0.25, 1.5], [1.0, 2.5, 0.5, float("nan")]], torch.tensor([0.0, 1.0])
    state = {"key": key, "diverged": "", "value": 0.5, "loss": 0.75, **sizes, "curve": curve, "each": each}
    path = tmp_path / "runs" / "03-adam.safetensors"
    checkpoint.save(state, path)
    run = load_run(path)
    assert (run.key, run.curve[0], run.seconds) == (RunId(3, "adam", TUNED), Point(0.5, 1.0, 0.25, 1.5), 2.5)
    assert run.each is not None
    assert run.each.tolist() == [0.0, 1.0]
    checkpoint.save({**state, "value": float("nan"), "each": torch.ones(2, 2)}, path)
    with pytest.raises(OptituneError, match=r"no run of a comparison .*value = nan.*each = .*must be some numbers"):
        load_run(path)


def test_a_run_that_diverges_says_so(made: Path, tmp_path: Path) -> None:
    plan = plan_of(made)
    wild = [each.model_copy(update={"configuration": each.configuration.with_lr(1e30)}) for each in plan.finalists]
    key = RunId(0, "sgd")
    worked(tmp_path, plan.model_copy(update={"finalists": tuple(wild)}), [key], Line())
    found = load_run(run_path(tmp_path, key))
    assert "diverged at step" in found.diverged
    assert found.each is None


def test_finalists_are_the_best_of_each_and_their_known_good_settings(made: Path) -> None:
    opened = studies.find(open_storage(sqlite_url(made / "digits" / "study.db"), create=False), "digits")
    records = trials.records(opened)
    for each in plan_of(made).finalists:
        own = [row for row in records if row.optimizer == each.optimizer]
        assert each.value == max(row.value for row in own if row.value is not None)
        assert each.configuration == own[[row.number for row in own].index(each.trial)].configuration
        # the first of each is its known-good one
        assert each.known_good == own[0].configuration


@pytest.mark.parametrize(
    ("metric", "expected"), [("accuracy", 0.001), ("r2", 0.001), ("loss", 0.002), ("mse", 0.002), ("mae", 0.002)]
)
def test_what_does_not_matter_hangs_on_the_metric(metric: str, expected: float, made: Path) -> None:
    who = [
        each.model_copy(update={"value": value})
        for each, value in zip(plan_of(made).finalists, (0.2, 0.5), strict=True)
    ]
    assert practical(METRICS[metric], who).value == pytest.approx(expected)


@pytest.mark.parametrize("name", ["accuracy", "r2"])
def test_what_does_not_matter_of_a_metric_that_bears_a_built_in_name_is_a_share_of_its_best(
    name: str, made: Path
) -> None:
    who = [
        each.model_copy(update={"value": value})
        for each, value in zip(plan_of(made).finalists, (95.0, 50.0), strict=True)
    ]
    own = Metric(name, "maximize", lambda outputs, targets: 95.0, lowest=0.0, highest=100.0)
    assert practical(own, who).value == pytest.approx(0.95)


def test_a_damaged_run_is_named(command: Any, folder: Path) -> None:
    path = run_path(compared(folder), RunId(0, "adam"))
    path.write_bytes(path.read_bytes()[:100])
    code, _, err = command("compare", *SHORT)
    assert code == 1
    assert str(path) in err
    assert "delete it and run the same command again" in err


def test_every_finalist_diverging_is_told(made: Path) -> None:
    from made_up_runs import DIVERGED, made_up

    from optitune.comparing.results import conclude

    runs = [made_up(0, name, DIVERGED) for name in ("adam", "sgd")]
    with pytest.raises(OptituneError, match="all 2 finalists diverged on a fresh seed"):
        conclude(plan_of(made), runs, [], METRICS["accuracy"], 0.001)
    assert conclude(plan_of(made), [], [], METRICS["accuracy"], 0.001) is None


def test_what_is_not_of_the_comparison_is_left_where_it_lies(
    folder: Path, command: Callable[..., tuple[int, str, str]]
) -> None:
    place = compared(folder)
    users = [
        ".ipynb_checkpoints/verdict-checkpoint.json",
        "runs/.ipynb_checkpoints/notes-checkpoint.txt",
        "runs/.notes",
        "partial/mine.txt",
        ".notes",
        ".verdict-notes.json",
    ]
    left = [".verdict-abcdefgh.json", "runs/.00-sgd-abcdefgh.safetensors", "partial/.00-sgd-abcdefgh.safetensors"]
    left += ["data.safetensors", ".data-abcdefgh.safetensors", ".tmpAb3dEf", "partial/00-sgd.safetensors"]
    for name in (*users, *left):
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).write_text("of great worth")
    code, _, err = command("compare", *SHORT)
    assert code == 0, err
    assert [name for name in users if not (place / name).exists()] == []
    assert [name for name in left if (place / name).exists()] == []


def killed_at_every_checkpoint(channel: Channel, *arguments: Any) -> None:
    """A worker that the system kills whenever it has kept where it is."""
    save = checkpoint.save

    def save_and_die(*given: Any) -> None:
        save(*given)
        os.kill(os.getpid(), signal.SIGKILL)

    comparison_worker.CHECKPOINT_S = 0  # type: ignore[misc]
    checkpoint.save = save_and_die
    comparison_worker.work(channel, *arguments)


def killed_before_the_first_checkpoint(channel: Channel, *arguments: Any) -> None:
    """A worker that always dies at the same place, after some evaluations."""
    send = channel.send

    def send_and_die(event: Event) -> None:
        send(event)
        if isinstance(event, RunProgress) and event.epoch >= 1:
            os.kill(os.getpid(), signal.SIGKILL)

    channel.send = send_and_die  # type: ignore[method-assign]
    comparison_worker.work(channel, *arguments)


def test_a_run_whose_workers_die_goes_on_as_long_as_it_gets_further(
    folder: Path, command: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("compare", "--epochs", "5", "--max-runs", "2", "--sensitivity", "0", "--workers", "1")
    monkeypatch.setattr(comparing, "work", killed_before_the_first_checkpoint)
    code, _, err = command(*words)
    assert code == 1
    assert "workers died 3 times in a row (signal 9" in err
    monkeypatch.setattr(comparing, "work", killed_at_every_checkpoint)
    code, _, err = command(*words)
    assert code == 0, err
    assert len(load_runs(compared(folder))) == 2
