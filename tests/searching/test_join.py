"""A machine that joins a study which was begun elsewhere: nothing shared but the storage."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from optitune.storage import studies
from optitune.storage.artifacts import FOLDER
from optitune.storage.urls import StorageUrl, open_storage, sqlite_url

Run = Callable[..., tuple[int, str, str]]

TASK = """
import torch
from torch import nn
from optitune import Task

def make_task():
    inputs = torch.randn(120, 4, generator=torch.Generator().manual_seed({seed}))
    model = lambda: nn.Sequential(nn.Linear(4, {hidden}), nn.ReLU(), nn.Linear({hidden}, 2))
    return Task(model=model, data=(inputs, (inputs.sum(1) > 0).long()))
"""


@pytest.fixture
def begun(run_command: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Makes a study without training it, in a journal that several machines reach; its URL."""
    monkeypatch.chdir(tmp_path)

    def make(*words: str, task: str = "digits") -> str:
        url = f"journal:///{tmp_path / 'shared.log'}"
        said = ["--task", task, "--study", "s", "--trials", "4", "--epochs", "2", "--storage", url, *words]
        code, out, _ = run_command("search", *said, "--workers", "0", "--studies-dir", "first")
        assert code == 0
        assert "study 's' is made; 4 trials to be trained. On every machine:" in out
        assert "optitune worker --study s" in out
        return url

    return make


def test_a_study_made_without_workers_is_trained_by_those_who_join_it(
    begun: Callable[..., str], run_command: Run, tmp_path: Path
) -> None:
    url = begun("--optimizers", "sgd,adam")
    code, out, err = run_command("worker", "--storage", url, "--studies-dir", "second", "--workers", "1")
    assert code == 0, err
    assert "study 's' has 4 of 4 trials finished, best " in out
    assert "[4/4] trial" in err
    assert not list((tmp_path / "second").rglob("best.toml"))
    left = [path for path in (tmp_path / "second" / "s").rglob("*") if path.is_file() and path.parent.name != FOLDER]
    assert [path.name for path in left] == ["turn.lock"]
    # whoever comes late has nothing to do, and the search that began it takes what they found
    code, out, _ = run_command("worker", "--storage", url, "--studies-dir", "third", "--json")
    document = json.loads(out)
    assert (code, document["target"], document["trials"]["finished"]) == (0, 4, 4)
    code, out, _ = run_command("search", "--task", "digits", "--study", "s", "--trials", "4", "--storage", url)
    assert code == 0
    assert "has 4 finished trials already" in out
    assert (tmp_path / "studies" / "s" / "best.toml").exists()


def test_other_data_or_another_network_are_refused_before_a_trial_is_taken(
    begun: Callable[..., str], run_command: Run, tmp_path: Path
) -> None:
    file = tmp_path / "own.py"
    file.write_text(TASK.format(seed=0, hidden=8))
    url = begun(task="own.py:make_task")
    another = "is another one on this machine than study 's' was made with"
    changed = "is no longer what study 's' was made with: the network has "
    # no two texts of the same length: Python would take the compiled one of the same second for the other
    for seed, hidden, ended, differs in ((100, 8, 1, another), (0, 100, 2, changed)):
        file.write_text(TASK.format(seed=seed, hidden=hidden))
        sys.modules.pop("own", None)
        code, _, err = run_command("worker", "--storage", url, "--studies-dir", "second")
        assert code == ended
        assert differs in err
    assert studies.find(open_storage(StorageUrl.parse(url), create=False), "s").get_trials() == []


def test_a_machine_without_the_tasks_file_is_refused(
    begun: Callable[..., str], run_command: Run, tmp_path: Path
) -> None:
    file = tmp_path / "gone.py"
    file.write_text(TASK.format(seed=0, hidden=8))
    url = begun(task="gone.py:make_task")
    file.unlink()
    code, _, err = run_command("worker", "--storage", url, "--studies-dir", "second")
    assert code == 2
    assert "there is no file" in err
    assert studies.find(open_storage(StorageUrl.parse(url), create=False), "s").get_trials() == []


def test_a_study_that_is_not_there_is_named_with_those_that_are(begun: Callable[..., str], run_command: Run) -> None:
    url = begun()
    code, _, err = run_command("worker", "--storage", url, "--study", "t")
    assert code == 2
    assert "unknown study 't'" in err
    assert "'s'" in err or "there are: s" in err


def test_a_study_that_does_not_say_its_number_of_trials_is_refused(run_command: Run, tmp_path: Path) -> None:
    words = ["--task", "digits", "--trials", "1", "--workers", "0", "--studies-dir", str(tmp_path)]
    assert run_command("search", *words)[0] == 0
    opened = studies.find(open_storage(sqlite_url(tmp_path / "digits" / "study.db"), create=False), "digits")
    opened.set_user_attr(studies.TRIALS, None)
    code, _, err = run_command("worker", "--studies-dir", str(tmp_path))
    assert code == 1
    assert "does not say how many trials it is to have: say it with 'optitune search --study digits --trials N'" in err
