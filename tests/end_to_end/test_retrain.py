"""`optitune retrain` through the command line, on digits."""

import json
import os
import shlex
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from full_trainings import killed_at_every_step, results, search_digits
from safetensors.torch import load_file

import optitune
from optitune.cli.main import run
from optitune.common.summary import summarise
from optitune.common.text import Unit
from optitune.retraining import run as retraining
from optitune.retraining import seeds as retrain_seeds
from optitune.retraining import worker as retrain_worker
from optitune.retraining.mistakes import MISTAKES, MOST_MISTAKES, load_mistakes
from optitune.retraining.results import FullPlan, load
from optitune.storage import studies
from optitune.study import best_config
from optitune.tasks import datasets
from optitune.tasks.builtin import TASKS
from optitune.tasks.splits import full_data
from optitune.terminal import retrain as retrain_view
from optitune.workers.pool import Channel

pytestmark = pytest.mark.wide


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A studies folder with a small study, trained in full as `best`."""
    place = tmp_path_factory.mktemp("made") / "studies"
    search_digits(place)
    assert run(["retrain", "best", "--seeds", "2", "--studies-dir", str(place), "--quiet"]) == 0
    return place


def test_metrics_hold_all_that_is_needed_to_repeat_them(folder: Path) -> None:
    document = results(folder)
    plan = document["plan"]
    assert plan["epochs"] == 6  # three times the search's
    assert plan["configuration"]["schedule"]["settings"]["step_size"] == 3  # stretched with it
    assert len(set(plan["seeds"])) == 2
    assert plan["data_checksum"] == datasets.load_train("digits", Path()).checksum()
    assert {"torch", "optitune"} <= set(document["versions"])
    for row in document["runs"]:
        counts = torch.tensor(row["confusion_matrix"])
        assert counts.sum() == 360
        assert counts.diagonal().sum() / 360 == pytest.approx(row["test_value"])
        assert [epoch["epoch"] for epoch in row["epochs"]] == [1, 2, 3, 4, 5, 6]
    each = [row["test_value"] for row in document["runs"]]
    assert document["test_value"] == json.loads(json.dumps(summarise(each, 0.0, 1.0).__dict__))


def test_the_weights_are_the_first_seeds_and_give_its_test_value(folder: Path) -> None:
    model = TASKS["digits"].model()
    model.load_state_dict(load_file(folder / "digits" / "retrain" / "best" / "model.safetensors"))
    test = datasets.load_test("digits", Path())
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, results(folder)["plan"]["precision"] == "bf16"):
        pixels, labels = test.batch(slice(None))
        accuracy = (model(pixels).argmax(1) == labels).double().mean().item()
    assert accuracy == pytest.approx(results(folder)["runs"][0]["test_value"], abs=0.003)


def test_the_folder_holds_the_results_and_nothing_half_done(folder: Path) -> None:
    names = sorted(path.name for path in (folder / "digits" / "retrain" / "best").iterdir())
    weights = ["mistakes.safetensors", "model.safetensors"]
    assert names == ["config.toml", "curves.png", "metrics.json", *weights, "train.py"]
    assert (folder / "digits" / "retrain" / "best" / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_the_code_beside_the_weights_is_that_of_the_training(command: Any, folder: Path) -> None:
    left, plan = folder / "digits" / "retrain" / "best", results(folder)["plan"]
    code = (left / "train.py").read_text()
    assert code == command("export", "--retrained")[1]
    assert code == optitune.load("digits", studies_dir=folder).tested.code() + "\n"  # type: ignore[union-attr]
    assert "after 6 epochs of batches of 64\n# on everything but the test set (2 seeds, trial" in code
    assert "def train(model, loader, epochs=6):" in code
    # of the search's length, so that any other is as retrain's of that length
    config = best_config.load(left / "config.toml", "")
    assert config.epochs == 2
    assert config.configuration.stretched(3) == FullPlan.model_validate_json(json.dumps(plan)).configuration
    assert config.precision == plan["precision"]
    first = (left / "config.toml").read_text().splitlines()[1]
    words = shlex.split(first.partition("same again:")[2])
    assert words[:2] == ["optitune", "retrain"]
    assert run([*words[1:], "--workers", "1", "--quiet"]) == 0
    again = results(folder, "config")
    assert again["plan"] == plan
    assert again["test_value"] == results(folder)["test_value"]


def test_code_is_exported_with_another_number_of_epochs(command: Any) -> None:
    usual, longer = command("export")[1], command("export", "--epochs", "9")[1]
    assert longer == usual.replace("epochs=2):", "epochs=9):") != usual
    assert "def train(model, loader, epochs=7):" in command("export", "--retrained", "--epochs", "7")[1]


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (
            ["--format", "toml", "--epochs", "3"],
            2,
            "is stretched when it is trained: 'optitune retrain FILE --epochs 3'",
        ),
        (["--format", "csv", "--epochs", "3"], 2, "--epochs 3: csv has all trials of a study as they were"),
        (["--format", "csv", "--retrained"], 2, "--retrained: csv has all trials of a study as they were"),
        (["--epochs", "0"], 2, "'0'"),
        (["2", "--retrained"], 1, "'2' was not trained in full yet: 'optitune retrain 2 --study digits'"),
    ],
)
def test_an_export_that_cannot_be_is_refused(command: Any, words: list[str], status: int, message: str) -> None:
    code, out, err = command("export", *words)
    assert (code, out) == (status, "")
    assert message in err


def test_a_folder_of_an_older_version_is_given_its_code(command: Any, folder: Path) -> None:
    left = folder / "digits" / "retrain" / "best"
    files = {name: (left / name).read_text() for name in ("train.py", "config.toml")}
    for name in files:
        (left / name).unlink()
    code, _, err = command("export", "--retrained")
    assert code == 1
    assert "run 'optitune retrain' again" in err
    assert command("retrain", "best", "--seeds", "2", "--quiet")[0] == 0
    assert {name: (left / name).read_text() for name in files} == files


def test_the_worst_mistakes_of_the_first_seed_are_kept(folder: Path) -> None:
    kept = load_mistakes(folder / "digits" / "retrain" / "best" / MISTAKES)
    assert kept is not None
    matrix = torch.tensor(results(folder)["runs"][0]["confusion_matrix"])
    assert len(kept.truths) == min(MOST_MISTAKES, int(matrix.sum() - matrix.trace()))
    assert kept.images.shape == (len(kept.truths), 1, 8, 8)
    assert all(matrix[true, said] > 0 for true, said in zip(kept.truths, kept.answers, strict=True))
    found = load(folder / "digits" / "retrain" / "best")
    assert found is not None
    assert [seed.test_value for seed in found.runs] == list(found.test_value.each)


def test_the_same_again_trains_and_tests_nothing(command: Any, folder: Path) -> None:
    before = (folder / "digits" / "retrain" / "best" / "metrics.json").stat().st_mtime_ns
    code, out, err = command("retrain", "best", "--seeds", "2", "--json")
    document = json.loads(out)
    assert (code, err) == (0, "")
    assert set(document) == {
        "name",
        "task",
        "epochs",
        *("length", "keep", "kept_epochs"),
        "seeds",
        "metric",
        *("test_value", "test_loss"),
        "folder",
        "seconds",
    }
    assert document["test_value"]["each"] == results(folder)["test_value"]["each"]
    assert (folder / "digits" / "retrain" / "best" / "metrics.json").stat().st_mtime_ns == before


def test_seeds_that_agree_give_no_interval() -> None:
    unit, loss = Unit("accuracy", percent=True), summarise([0.5, 0.6, 0.7])
    assert retrain_view.tested_text(unit, summarise([0.4875] * 3), loss) == (
        "test accuracy 48.75 % (the same with all 3 seeds: no interval), loss 0.6"
    )
    assert "95 % interval" in retrain_view.tested_text(unit, summarise([0.4875, 0.4875, 0.5]), loss)


def test_a_loss_with_weights_of_its_own_is_named_where_it_is(command: Any, folder: Path) -> None:
    words = ("retrain", "0", "--epochs", "1", "--seeds", "1")
    assert "loss.safetensors" not in command(*words)[1]
    (folder / "digits" / "retrain" / "trial-0" / "loss.safetensors").touch()
    assert "model.safetensors and loss.safetensors (the first seed's), metrics.json" in command(*words)[1]


def test_another_plan_keeps_the_earlier_results_aside(command: Any, folder: Path) -> None:
    assert command("retrain", "1", "--epochs", "2", "--seeds", "1")[0] == 0
    first = results(folder, "trial-1")
    assert first["plan"]["configuration"]["schedule"]["settings"]["step_size"] == 1
    assert first["test_value"]["low"] is None
    code, out, err = command("retrain", "1", "--epochs", "3", "--seeds", "1")
    assert code == 0
    assert "one seed: no interval" in out
    assert "seed 1, epoch 3 of 3" in err
    assert results(folder, "trial-1-before-1") == first
    assert results(folder, "trial-1")["plan"]["epochs"] == 3


def test_an_edited_file_is_trained_under_its_own_name(command: Any, folder: Path, tmp_path: Path) -> None:
    text = (folder / "digits" / "best.toml").read_text().replace("epochs = 2", "epochs = 1")
    path = tmp_path / "mine.toml"
    path.write_text(text)
    assert command("retrain", str(path), "--seeds", "1", "--epochs", "1")[0] == 0
    assert results(folder, "mine")["plan"]["epochs"] == 1


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("epochs = 2", "epoch = 2", "epoch = 2: unknown key 'epoch': did you mean 'epochs'"),
        ("epochs = 2", "epochs = 0", "epochs = 0: must be at least 1"),
        ("lr = ", "lr = -", "configuration.optimizer.settings.lr = -"),
        ("lr = ", "learning_rate = ", "configuration.optimizer.settings.learning_rate"),
        ('task = "digits"', 'task = "mnist-cnn"', "task = 'mnist-cnn', but study 'digits' trains 'digits'"),
        ("epochs = 2", "epochs = = 2", "is not a TOML file"),
    ],
)
def test_an_edited_best_is_refused_naming_its_key(command: Any, folder: Path, old: str, new: str, message: str) -> None:
    path = folder / "digits" / "best.toml"
    whole = path.read_text()
    assert old in whole
    path.write_text(whole.replace(old, new, 1))
    try:
        code, out, err = command("retrain", "best")
    finally:
        path.write_text(whole)
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1


def test_a_diverging_training_says_so_and_leaves_no_results(command: Any, folder: Path, tmp_path: Path) -> None:
    text = (folder / "digits" / "best.toml").read_text()
    start = text.index("lr = ")
    path = tmp_path / "wild.toml"
    path.write_text(text[:start] + "lr = 1e30" + text[text.index("\n", start) :])
    code, _, err = command("retrain", str(path), "--seeds", "1", "--quiet")
    assert code == 1
    assert "diverged at step" in err
    assert "a lower lr" in err
    assert not (folder / "digits" / "retrain" / "wild" / "metrics.json").exists()


def test_only_retrain_reads_the_test_set() -> None:
    package = Path(datasets.__file__).parent.parent
    readers = {path.name for path in package.rglob("*.py") if "load_test" in path.read_text()}
    # datasets and splits define it, builtin names it
    assert readers == {"datasets.py", "builtin.py", "splits.py", "run.py"}


@pytest.mark.parametrize("seed", [0, retraining.SEEDS_APART, 2**31 - 1])
def test_full_trainings_never_have_the_seed_of_their_search(folder: Path, seed: int) -> None:
    config = best_config.load(folder / "digits" / "best.toml", "").model_copy(update={"seed": seed})
    request = retraining.RetrainRequest(
        name="best", config=config, home=studies.location(folder, "digits", None), epochs=1, workers=1, device="cpu"
    )
    data = full_data(TASKS["digits"].task(Path()))
    assert seed not in retraining.make_plan(request, torch.device("cpu"), data, "", "").seeds


def test_only_one_process_at_a_time_works_on_a_result(command: Any, folder: Path) -> None:
    from filelock import FileLock

    with FileLock(folder / "digits" / "retrain" / "partial" / "best.lock"):
        code, _, err = command("retrain", "best", "--seeds", "1")
    assert code == 1
    assert "another process is at work on" in err


def test_a_training_whose_workers_die_goes_on_as_long_as_it_gets_further(
    command: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("retrain", "2", "--epochs", "4", "--seeds", "2", "--workers", "1")
    assert command(*words)[0] == 0
    undisturbed = results(folder, "trial-2")
    (folder / "digits" / "retrain" / "trial-2").rename(folder / "undisturbed")
    monkeypatch.setattr(retrain_seeds, "work", killed_at_every_step)
    code, _, err = command(*words)
    assert code == 0, err
    assert [f"seed {seed} goes on after epoch {epoch} of 4" in err for seed in (1, 2) for epoch in range(1, 5)] == [
        True
    ] * 8
    # each is tested once, also where the worker that did so died before it came to the next seed
    assert err.count("seed 1: test accuracy") == 1
    again = results(folder, "trial-2")
    assert [run["epochs"] for run in again["runs"]] == [run["epochs"] for run in undisturbed["runs"]]
    assert again["test_loss"] == undisturbed["test_loss"]


def killed_in_its_test(channel: Channel, *arguments: Any) -> None:
    """A worker that always dies at the same place."""

    def die(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    retrain_worker.evaluate = die
    retrain_worker.work(channel, *arguments)


def test_one_that_dies_three_times_at_the_same_place_is_given_up_and_goes_on_when_told_to(
    command: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("retrain", "0", "--epochs", "2", "--seeds", "2", "--workers", "1")
    monkeypatch.setattr(retrain_seeds, "work", killed_in_its_test)
    code, _, err = command(*words)
    assert code == 1
    assert "workers died 3 times in a row (signal 9" in err
    (partial,) = (folder / "digits" / "retrain" / "partial").glob("trial-0-*")
    (partial / "mine.txt").write_text("of great worth")
    monkeypatch.undo()
    code, _, err = command(*words)
    assert code == 0
    assert "seed 1 goes on after epoch 2 of 2" in err
    assert [path.name for path in partial.iterdir()] == ["mine.txt"]
    (folder / "digits" / "retrain" / "trial-0" / "curves.png").unlink()
    assert command(*words)[0] == 0


def test_unfinished_trainings_of_two_plans_do_not_mix(command: Any, folder: Path) -> None:
    config = best_config.load(folder / "digits" / "best.toml", "")
    home = studies.location(folder, "digits", None)
    about = {"name": "best", "config": config, "home": home, "seeds": 2, "workers": 1, "device": "cpu"}
    requests = [retraining.RetrainRequest(**about, epochs=epochs) for epochs in (4, 5)]
    data = full_data(TASKS["digits"].task(Path()))
    plans = [retraining.make_plan(each, torch.device("cpu"), data, "", "") for each in requests]
    places = {retraining.partial_of(folder / "digits" / "retrain" / "best", plan) for plan in plans}
    assert len(places) == 2
