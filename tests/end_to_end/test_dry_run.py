"""A dry run says what would be trained, and leaves every file as it is."""

import gc
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch

import optitune
from optitune.api import stages
from optitune.cli.main import run
from optitune.errors import UsageError
from optitune.searching import reproducible_data
from optitune.searching.requests import SearchRequest
from optitune.storage.studies import location

QUICK = ("--task", "digits", "--epochs", "2", "--optimizers", "sgd,adam", "--workers", "1")


def tree(folder: Path) -> dict[str, str]:
    """Every file and folder, and what is in it, without those that SQLite has while a file is open in this process."""
    # a connection that nobody holds any more writes into the file what SQLite kept beside it, when it is collected
    gc.collect()
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in folder.rglob("*")
        if not path.name.endswith(("-shm", "-wal"))
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished study."""
    folder = tmp_path_factory.mktemp("made") / "studies"
    assert run(["search", *QUICK, "--trials", "4", "--studies-dir", str(folder), "--quiet"]) == 0
    return folder


@pytest.fixture
def dry(run_command: Any, tmp_path: Path) -> Any:
    """Run a command with --dry-run, and check that it writes nothing: its object, or exit code and error."""

    def call(*words: str, folder: Path = tmp_path / "studies") -> Any:
        before, threads = tree(folder.parent), torch.get_num_threads()
        code, out, err = run_command(*words, "--dry-run", "--json", "--studies-dir", str(folder))
        assert tree(folder.parent) == before
        assert torch.get_num_threads() == threads
        return json.loads(out) if code == 0 else (code, err)

    return call


def test_a_search_says_what_it_would_train(dry: Any) -> None:
    found = dry("search", *QUICK, "--trials", "7", "--set", "lr=[0.001,0.01]")
    assert (found["stage"], found["study"], found["new"]) == ("search", "digits", True)
    assert (found["done"], found["trainings"], found["epochs"], found["workers"]) == (0, [7, 7], 2, 1)
    assert found["optimizers"]["adam"]["lr"] == "0.001 to 0.01, log scale"
    assert found["schedules"]["step"]["gamma"] == "0.1 to 1"
    assert found["training"] == {"batch_size": "always 64"}
    assert found["examples"] == {"train": 1150, "validation": 287, "test": 360}
    assert set(found["each"]) == {"sgd", "adam"}
    assert 0 < found["seconds"][0] < found["seconds"][1] < 600
    assert 0 < found["disk"] < 10_000_000 < found["free"]


def test_of_a_study_that_exists_it_says_what_is_left(dry: Any, made: Path) -> None:
    found = dry("search", *QUICK, "--trials", "6", folder=made)
    assert (found["new"], found["done"], found["trainings"]) == (False, 4, [2, 2])
    found = dry("search", *QUICK, "--trials", "4", folder=made)
    assert (found["trainings"], found["seconds"], found["disk"]) == ([0, 0], [0, 0], 0)


def test_it_counts_what_would_be_taken_from_another_study(dry: Any, made: Path) -> None:
    wide = ("search", "--study", "wide", "--from", "digits", "--optimizers", "sgd,adam,rmsprop")
    found = dry(*wide, "--trials", "5", folder=made)
    assert (found["new"], found["done"], found["trainings"], found["epochs"]) == (True, 4, [5, 5], 2)
    assert found["notes"] == ["it begins with all 4 finished trials of study 'digits'"]


@pytest.mark.parametrize(
    "words",
    [
        ("--task", "nowhere.py:task"),
        ("--task", "digits", "--optimizers", "sdg"),
        ("--task", "digits", "--train-examples", "9999999"),
        ("--task", "digits", "--set", "sgd.lr=-1"),
        ("--task", "digits", "--epochs", "3"),
    ],
)
def test_errors_are_those_of_a_real_search(made: Path, run_command: Any, words: tuple[str, ...]) -> None:
    command = ("search", "--study", "digits", *words, "--studies-dir", str(made), "-q")
    before = tree(made.parent)
    found = run_command(*command, "--dry-run")
    assert tree(made.parent) == before
    assert found == run_command(*command)
    assert found[0] == 2


def test_a_comparison_says_at_least_and_at_most(dry: Any, made: Path) -> None:
    found = dry("compare", "digits", "--max-runs", "12", "--sensitivity", "1", folder=made)
    assert found["stage"] == "compare"
    # three rounds of both at least; three variants of both besides the twelve at most
    assert found["trainings"] == [6, 12 + 6]
    assert set(found["optimizers"]) == {"sgd", "adam"}
    assert found["seconds"][0] < found["seconds"][1]
    assert dry("compare", "digits", "--max-runs", "1", folder=made)[0] == 2


def test_a_full_training_says_seeds_and_length(dry: Any, made: Path) -> None:
    found = dry("retrain", "best", "--study", "digits", "--seeds", "2", folder=made)
    assert (found["stage"], found["trainings"], found["epochs"]) == ("retrain", [2, 2], 6)
    assert found["examples"] == {"train": 1437, "validation": None, "test": 360}
    found = dry("retrain", "best", "--study", "digits", "--seeds", "2", "--epochs", "auto", folder=made)
    assert found["trainings"] == [4, 7]
    assert any("the number of epochs is looked for: 2, 4, ... up to 32" in note for note in found["notes"])


def test_it_is_read_in_words(run_command: Any, made: Path) -> None:
    code, out, err = run_command("search", *QUICK, "--trials", "6", "--dry-run", "--studies-dir", str(made))
    assert (code, err) == (0, "")
    assert "search of study 'digits' (has 4 trials), a dry run: nothing is trained, and nothing is written\n" in out
    assert "would train 2 trials of 2 epochs on digits; 1 worker, cpu, " in out
    assert "\nexamples: 1150 to train on, 287 to judge on, 360 for the test\n" in out
    assert ", estimated from a second of real steps on this machine\n" in out


def test_of_a_task_from_python_it_gives_a_row_of_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reproducible_data, "check", lambda *_: None)
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(200, 4, generator=generator)
    targets = (inputs.sum(1) > 0).long()
    task = optitune.Task(model=lambda: torch.nn.Linear(4, 2), data=(inputs, targets), name="sums")
    state = torch.random.get_rng_state()
    home = location(tmp_path / "studies", "sums", None)
    request = SearchRequest(home=home, settings={"task": "python:sums", "epochs": 1}, trials=3, task=task)
    found = stages.dry_search(request)
    assert (found.task, found.trainings, found.new) == ("python:sums", (3, 3), True)
    assert found.examples == {"train": 128, "validation": 32, "test": 40}
    assert torch.equal(torch.random.get_rng_state(), state)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UsageError, match="leave out --cluster"):
        stages.dry_search(SearchRequest(home=location(tmp_path, "s", None), cluster="ray"))
