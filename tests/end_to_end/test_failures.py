"""Failed trials: counted, named, their tracebacks kept, and an optimizer that always fails left out."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial

import optitune
from optitune.common.text import Unit
from optitune.errors import OptituneError, UsageError
from optitune.report import dataframes
from optitune.report.standings import standings_table
from optitune.sampling.allocation import FAILURES, able, competitors, turn
from optitune.sampling.sampler import FairSampler
from optitune.space.configuration import Configuration
from optitune.study.records import Failing, TrialRecord, counts, failing, standings
from optitune.tasks.user_code import FAILURES as FOLDER
from optitune.tasks.user_code import calling, keeping, kept
from optitune.terminal.search import fitted_standings

TASK = """
import torch
from torch import nn

from optitune import Task

X = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))


class Late(torch.optim.SGD):
    def __init__(self, params, lr=0.05):
        super().__init__(params, lr=lr)
        self.taken = 0

    def step(self, closure=None):
        self.taken += 1
        if self.taken > 3:
            raise RuntimeError("cannot go on")
        return super().step(closure)


def make_task():
    return Task(model=lambda: nn.Linear(4, 2), data=(X, (X[:, 0] > 0).long()))


class Broken(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 2)
        self.calls = 0

    def forward(self, x):
        self.calls += self.training
        if self.calls > WORKS_FOR:
            raise KeyError("x")
        return self.inner(x)


WORKS_FOR = 5


def broken():
    return Task(model=Broken, data=(X, (X[:, 0] > 0).long()))
"""

LATE = """
task = "flaky.py:make_task"
optimizers = ["late", "sgd"]
epochs = 1

[[optimizer]]
name = "late"
path = "flaky:Late"
known_good = [{ lr = 0.05 }]
[optimizer.ranges]
lr = { low = 1e-3, high = 0.5, scale = "log" }
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a task, that one is in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.delitem(sys.modules, "flaky", raising=False)
    (tmp_path / "flaky.py").write_text(TASK)
    yield tmp_path
    sys.modules.pop("flaky", None)


Command = Callable[..., tuple[int, str, str]]


def test_an_optimizer_that_always_fails_is_left_out_and_named_and_the_others_go_on(
    here: Path, run_command: Command
) -> None:
    (here / "studies").mkdir()
    (here / "studies" / "late.toml").write_text(LATE)
    words = ("search", "--study", "late", "--trials", "4", "--batch-size", "8", "--workers", "1")
    code, out, err = run_command(*words)
    reason = "RuntimeError: cannot go on (flaky.py, line 18)"
    assert code == 1
    assert f"late: all {FAILURES} of its trials failed, the last with {reason}; traceback: studies/late/failures" in out
    assert f"4 complete, 0 pruned, 0 diverged, {FAILURES} failed" in out
    assert err.count("it is given no more of them") == 1
    files = sorted((here / "studies" / "late" / "failures").iterdir())
    assert len(files) == FAILURES
    text = files[0].read_text()
    assert reason in text
    assert '"name":"late"' in text
    assert "'torch': " in text
    assert text.rstrip().endswith("RuntimeError: cannot go on")
    code, out, _ = run_command(*words, "--json")
    document = json.loads(out)
    assert code == 1
    assert document["trials"] == {"finished": 4, "complete": 4, "pruned": 0, "diverged": 0, "failed": FAILURES}
    assert document["allocation"]["competing"] == ["sgd"]
    assert [(each["optimizer"], each["failed"]) for each in document["failing"]] == [("late", FAILURES)]
    found = optitune.load("late")
    assert found.standings["failed"].tolist() == [0, FAILURES]
    assert "late: all 3 of its trials failed" in found._repr_html_()


def test_a_search_whose_trials_all_fail_has_the_reason_and_its_cause(here: Path, run_command: Command) -> None:
    code, out, err = run_command(
        "search", "--task", "flaky.py:broken", "--trials", "2", "--epochs", "2", "--batch-size", "8",
        "--optimizers", "sgd", "--workers", "1",
    )  # fmt: skip
    assert (code, out) == (1, "")
    line = err.splitlines()[-1]
    assert (
        "3 trials in a row failed, the last with KeyError: 'x' (flaky.py, line 35); traceback: studies/flaky/" in line
    )
    with pytest.raises(OptituneError, match=r"3 trials in a row failed, the last with KeyError: 'x'") as error:
        optitune.search(
            "flaky.py:broken", study="again", trials=2, epochs=2, batch_size=8, optimizers=("sgd",), progress=False
        )
    assert 'raise KeyError("x")' in str(error.value.__cause__)


def test_compare_and_retrain_name_the_place_and_keep_the_traceback(here: Path, run_command: Command) -> None:
    # it breaks down later than a short trial lasts
    (here / "flaky.py").write_text(TASK.replace("WORKS_FOR = 5", "WORKS_FOR = 12"))
    words = ("--task", "flaky.py:broken", "--epochs", "2", "--batch-size", "8", "--optimizers", "sgd,adam")
    code, _, err = run_command("search", *words, "--trials", "2", "--workers", "1")
    assert code == 0, err
    code, out, err = run_command("compare", "flaky", "--epochs", "9", "--workers", "1")
    assert (code, out) == (1, "")
    place = r"KeyError: 'x' (flaky.py, line 35); traceback: studies/flaky/failures/compare-"
    assert f"of the comparison failed: {place}" in err
    code, out, err = run_command("retrain", "best", "--study", "flaky", "--seeds", "1", "--workers", "1")
    assert (code, out) == (1, "")
    assert f"the full training failed: {place.replace('compare', 'retrain-best')}" in err
    kept = {path.name.partition("-")[0] for path in (here / "studies" / "flaky" / "failures").iterdir()}
    assert kept == {"compare", "retrain"}


def raised(error: BaseException, depth: int = 0) -> BaseException:
    def fail(left: int) -> None:
        if left:
            fail(left - 1)
        raise error

    try:
        fail(depth)
    except BaseException as caught:
        return caught
    raise AssertionError


def test_a_traceback_has_a_bounded_size_and_no_password(tmp_path: Path) -> None:
    error = raised(ValueError("postgresql://me:secret@host/db is away " + "x" * 100_000))
    line = kept(error, tmp_path, "trial-0", {"settings": "lr 0.1"})
    (path,) = (tmp_path / FOLDER).iterdir()
    text = path.read_text()
    assert line.endswith(f"; traceback: {path}")
    assert "secret" not in line + text
    assert "settings: lr 0.1" in text
    assert len(text) < 25_000


@pytest.mark.parametrize("error", [ValueError("\ud800"), SystemExit(3), MemoryError(), RecursionError()])
def test_any_error_can_be_kept(tmp_path: Path, error: BaseException) -> None:
    kept(raised(error), tmp_path, "trial-0", {})
    assert type(error).__name__ in (tmp_path / FOLDER / "trial-0.txt").read_text()


def test_where_nothing_can_be_written_the_reason_remains(tmp_path: Path) -> None:
    (tmp_path / FOLDER).write_text("in the way")
    line = kept(raised(ValueError("why")), tmp_path, "trial-0", {})
    assert line.startswith("ValueError: why (")
    assert "traceback" not in line


def test_what_is_known_to_be_the_tasks_fault_is_kept_as_well(tmp_path: Path) -> None:
    line = r"it fails: KeyError: 1 .*; traceback: .*run.txt$"
    run = keeping(tmp_path, "run", "the run", {})
    with pytest.raises(UsageError, match=line) as error, run, calling("mine", "it"):
        raise KeyError(1)
    assert isinstance(error.value.__cause__, KeyError)
    with pytest.raises(OptituneError, match=r"^the disk is full$"), keeping(tmp_path, "other", "the run", {}):
        raise OptituneError("the disk is full")
    assert [path.name for path in (tmp_path / FOLDER).iterdir()] == ["run.txt"]


def rows(configured: Callable[..., Configuration]) -> list[TrialRecord]:
    done = TrialRecord(0, "complete", configured("sgd"), 0.9, "", ((1, 0.9),), 1.0, epochs=1.0, score=0.9)
    other = TrialRecord(1, "failed", configured("sgd"), None, "KeyError: 1", (), 0.0)
    again = [
        TrialRecord(number, "failed", configured("adam"), None, f"KeyError: {number}", (), 0.0) for number in (2, 3)
    ]
    return [done, other, *again]


def test_failed_trials_stand_in_every_table_where_there_are_any(configured: Callable[..., Configuration]) -> None:
    records, names = rows(configured), ("sgd", "adam", "muon")
    assert counts(records)["failed"] == 3
    assert [(row.optimizer, row.failed) for row in standings(records, names)] == [("sgd", 1), ("adam", 2), ("muon", 0)]
    assert failing(records, names) == [Failing("adam", 2, "KeyError: 3")]
    unit = Unit("accuracy")
    shown: dict[str, Any] = {
        "terminal": [column.heading for column in fitted_standings(records, names, unit).columns],
        "report": standings_table(records, names, unit).headings,
        "frame": list(dataframes.standings(records, names).columns),
    }
    assert all("failed" in heading for heading in shown.values())
    assert "failed" not in standings_table(records[:1], names, unit).headings
    assert standings_table(records, names, unit).rows[1][-2] == "2"


def study_of(outcomes: list[tuple[str, TrialState]]) -> optuna.Study:
    study = optuna.create_study(direction="maximize")
    space = {"optimizer": CategoricalDistribution(("sgd", "late")), "lr": FloatDistribution(0.0, 1.0)}
    for number, (name, state) in enumerate(outcomes):
        study.add_trial(
            create_trial(
                state=state,
                params={"optimizer": name, "lr": number / 100},
                distributions=space,
                value=0.5 if state == TrialState.COMPLETE else None,
                intermediate_values={1: 0.5} if state != TrialState.FAIL else {},
            )
        )
    return study


FAIL, DONE = TrialState.FAIL, TrialState.COMPLETE


@pytest.mark.parametrize(
    ("late", "left"),
    [
        ([FAIL] * (FAILURES - 1), ["sgd", "late"]),
        ([FAIL] * FAILURES, ["sgd"]),
        ([DONE, *[FAIL] * FAILURES], ["sgd", "late"]),
    ],
)
def test_who_fails_at_every_trial_is_given_no_more(late: list[TrialState], left: list[str]) -> None:
    trials = study_of([("sgd", DONE)] * 9 + [("late", state) for state in late]).trials
    found = competitors(trials, ("sgd", "late"))
    assert [each.name for each in able(found)] == left
    assert turn(found) == ("late" if "late" in left else "sgd")


def test_where_all_fail_all_go_on() -> None:
    trials = study_of([("sgd", FAIL), ("late", FAIL)] * FAILURES).trials
    assert len(able(competitors(trials, ("sgd", "late")))) == 2


def test_the_sampler_draws_for_the_others() -> None:
    study = study_of([("sgd", DONE)] * 9 + [("late", FAIL)] * FAILURES)
    study.sampler = FairSampler(spaces={name: {"lr": FloatDistribution(0.0, 1.0)} for name in ("sgd", "late")})
    drawn = []
    for _ in range(4):
        trial = study.ask()
        drawn.append(trial.suggest_categorical("optimizer", ("sgd", "late")))
        study.tell(trial, state=TrialState.FAIL)
    assert drawn == ["sgd"] * 4
