"""`optitune retrain` through the command line, on digits."""

import json
import os
import shlex
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import optitune
from optitune.cli.main import run
from optitune.common.summary import summarise
from optitune.common.text import Unit
from optitune.errors import OptituneError, UsageError
from optitune.retraining import run as retraining
from optitune.retraining import seeds as retrain_seeds
from optitune.retraining import worker as retrain_worker
from optitune.retraining.events import SeedFinished, SeedProgress
from optitune.retraining.mistakes import MISTAKES, MOST_MISTAKES, load_mistakes
from optitune.retraining.results import FullPlan, load
from optitune.storage import studies
from optitune.study import best_config
from optitune.tasks import datasets, splits
from optitune.tasks.builtin import TASKS
from optitune.tasks.splits import full_data
from optitune.terminal import retrain as retrain_view
from optitune.training.engine import Training
from optitune.workers.events import Event
from optitune.workers.pool import Channel

pytestmark = pytest.mark.wide


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A studies folder with a small study, trained in full as `best`."""
    place = tmp_path_factory.mktemp("made") / "studies"
    words = [
        "search",
        "--task",
        "digits",
        "--epochs",
        "2",
        "--trials",
        "3",
        "--optimizers",
        "sgd,adam,adadelta",
        "--quiet",
        "--studies-dir",
    ]
    assert run([*words, str(place)]) == 0
    assert run(["retrain", "best", "--seeds", "2", "--studies-dir", str(place), "--quiet"]) == 0
    return place


def results(folder: Path, name: str = "best") -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "digits" / "retrain" / name / "metrics.json").read_text())
    return document


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


def killed_at_every_step(channel: Channel, *arguments: Any) -> None:
    """A worker that the system kills whenever it has got further."""
    send = channel.send

    def and_die(event: Event) -> None:
        send(event)
        if isinstance(event, SeedFinished) or (isinstance(event, SeedProgress) and event.fresh):
            os.kill(os.getpid(), signal.SIGKILL)

    channel.send = and_die  # type: ignore[method-assign]
    retrain_worker.work(channel, *arguments)


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


AUTO = ("retrain", "1", "--epochs", "auto", "--seeds", "2", "--workers", "1")


@pytest.fixture(scope="module")
def found(folder: Path) -> dict[str, Any]:
    """Results of full trainings whose length was found."""
    assert run([*AUTO, "--quiet", "--studies-dir", str(folder)]) == 0
    return results(folder, "trial-1")


def numbers(document: dict[str, Any]) -> Any:
    """What of results has to be the same again."""
    tried = [(each["epochs"], each["value"]) for each in document.get("length", {"tried": []})["tried"]]
    runs = [{key: value for key, value in run.items() if key != "seconds"} for run in document["runs"]]
    return tried, document["plan"], runs


def test_the_length_is_found_on_validation_data_and_everything_is_trained_on(
    command: Any, folder: Path, found: dict[str, Any]
) -> None:
    tried = {each["epochs"]: each["value"] for each in found["length"]["tried"]}
    assert {2, 4} <= set(tried)
    assert found["plan"]["epochs"] == found["length"]["tried"][-1]["epochs"]
    data = splits.search_data(TASKS["digits"].task(Path()), None)
    assert all(round(value * len(data.validation), 6).is_integer() for value in tried.values())
    plain = ("retrain", "1", "--epochs", str(found["plan"]["epochs"]), "--seeds", "2")
    # of everything, and as any training of so many epochs
    assert "nothing was trained" in command(*plain)[1]
    code, out, err = command(*AUTO)
    assert (code, err) == (0, "")
    assert "nothing was trained" in out
    line = f"found {found['plan']['epochs']} epochs: validation accuracy {100 * tried[2]:.2f} % after 2, "
    assert line in out
    assert line in command("show", "digits")[1]
    document = json.loads(command(*AUTO, "--json")[1])
    assert document["length"]["epochs"] == document["epochs"] == found["plan"]["epochs"]
    assert [each["epochs"] for each in document["length"]["tried"]] == sorted(tried)
    shown = json.loads(command("show", "digits", "--json")[1])["tested"]["trial-1"]
    assert (shown["length"], shown["keep"]) == (document["length"], "last")
    assert not list((folder / "digits" / "retrain" / "partial").glob("trial-1-length-*"))


def test_a_length_that_was_given_before_and_is_found_now_is_kept(command: Any, folder: Path) -> None:
    epochs = results(folder, "trial-1")["plan"]["epochs"]
    path = folder / "digits" / "retrain" / "trial-1" / "metrics.json"
    whole = path.read_text()
    path.write_text(json.dumps({key: value for key, value in json.loads(whole).items() if key != "length"}))
    code, out, err = command(*AUTO)
    assert code == 0
    assert "nothing was trained" in out
    assert f"found {epochs} epochs" in err
    assert numbers(results(folder, "trial-1")) == numbers(json.loads(whole))


@pytest.mark.parametrize("keep", ["last", "best"])
def test_a_search_for_the_length_whose_workers_die_comes_to_the_same(
    keep: str, command: Any, folder: Path, found: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command(*AUTO, "--keep", keep)[0] == 0
    undisturbed = results(folder, "trial-1")
    (folder / "digits" / "retrain" / "trial-1").rename(folder / f"undisturbed-{keep}")
    monkeypatch.setattr(retrain_seeds, "work", killed_at_every_step)
    code, _, err = command(*AUTO, "--keep", keep)
    assert code == 0, err
    assert "seed 1 goes on after epoch 1 of 2" in err
    assert numbers(results(folder, "trial-1")) == numbers(undisturbed)
    assert undisturbed["plan"].get("keep", "last") == keep


def test_the_test_set_is_read_after_the_length_is_found_and_no_length_is_trained_twice(
    command: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("retrain", "2", "--epochs", "auto", "--seeds", "1")

    def fail(*_: object) -> None:
        raise OptituneError("the test set is not read yet")

    with monkeypatch.context() as patch:
        patch.setattr(splits, "load_test", fail)
        code, _, err = command(*words)
    assert code == 1
    assert "found " in err
    assert "the test set is not read yet" in err
    code, _, err = command(*words)
    assert code == 0
    assert "to find the length" not in err
    assert "in full" in err


def diverging(channel: Channel, plan: FullPlan, numbers: list[int], partial: Path, *arguments: Any) -> None:
    """A worker whose trainings diverge from four epochs on."""
    if plan.epochs < 4:
        retrain_worker.work(channel, plan, numbers, partial, *arguments)
        return
    (partial / retrain_worker.DIVERGED.format(0)).write_text('"diverged"')
    raise OptituneError("seed 1 diverged at step 7")


def test_a_longer_training_that_diverges_is_no_better(
    command: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrain_seeds, "work", diverging)
    code, out, err = command("retrain", "0", "--epochs", "auto", "--seeds", "1")
    assert code == 0, err
    assert "diverged after 4" in out
    assert results(folder, "trial-0")["plan"]["epochs"] < 4


BEST = ("retrain", "1", "--epochs", "6", "--seeds", "2", "--keep", "best", "--workers", "1")


def test_the_weights_of_the_best_epoch_are_kept_and_tested(command: Any, folder: Path) -> None:
    code, out, err = command(*BEST)
    assert code == 0
    data = splits.search_data(TASKS["digits"].task(Path()), None)
    held, trained = len(data.validation), len(data.train)
    assert f"note: {held} examples are held out to choose the epoch that is kept; {trained} are trained on" in err
    document = results(folder, "trial-1")
    kept = [run["kept_epoch"] for run in document["runs"]]
    for run_, epoch in zip(document["runs"], kept, strict=True):
        values = [row["validation_value"] for row in run_["epochs"]]
        assert epoch == values.index(max(values)) + 1
    which = f"{kept[0]} and {kept[1]}" if kept[0] != kept[1] else kept[0]
    assert f"kept: the weights of epoch {which}, the best on the validation part" in out
    assert json.loads(command(*BEST, "--json")[1])["kept_epochs"] == kept
    model = TASKS["digits"].model()
    model.load_state_dict(load_file(folder / "digits" / "retrain" / "trial-1" / "model.safetensors"))
    bf16 = document["plan"]["precision"] == "bf16"
    for part, value in (
        (datasets.load_test("digits", Path()), document["runs"][0]["test_value"]),
        (data.validation, max(row["validation_value"] for row in document["runs"][0]["epochs"])),
    ):
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, bf16):
            pixels, labels = part.batch(slice(None))
            assert (model(pixels).argmax(1) == labels).double().mean().item() == pytest.approx(value, abs=0.004)
    text = (folder / "digits" / "retrain" / "trial-1" / "train.py").read_text()
    assert "on everything but the test set and the validation part (2 seeds" in text


def killed_before_it_keeps(channel: Channel, plan: FullPlan, numbers: list[int], partial: Path, *rest: Any) -> None:
    """A worker that the system kills when an epoch is the best so far, before its weights are kept."""
    save = retrain_worker._save_weights

    def die_once(training: Training, path: Path) -> None:
        mark = partial / f"{path.stem}-{training.epoch}.txt"
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        save(training, path)

    retrain_worker._save_weights = die_once
    retrain_worker.work(channel, plan, numbers, partial, *rest)


def test_a_worker_killed_before_it_keeps_the_best_weights_keeps_them_later(
    command: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command(*BEST)[0] == 0
    left = folder / "digits" / "retrain" / "trial-1"
    undisturbed, weights = results(folder, "trial-1"), load_file(left / "model.safetensors")
    left.rename(folder / "undisturbed-weights")
    monkeypatch.setattr(retrain_seeds, "work", killed_before_it_keeps)
    code, _, err = command(*BEST)
    assert code == 0, err
    assert numbers(results(folder, "trial-1")) == numbers(undisturbed)
    assert all(value.equal(weights[name]) for name, value in load_file(left / "model.safetensors").items())


def test_it_says_so_in_python_too(folder: Path) -> None:
    words: dict[str, Any] = {"studies_dir": folder, "what": "0", "seeds": 1, "progress": False, "workers": 1}
    result = optitune.retrain("digits", **words, epochs=2, keep="best")
    assert result.plan.keep == "best"
    assert result.kept_epochs == (result.tested.runs[0].kept_epoch,) != (None,)
    assert "validation_value" in result.curves
    assert result.length is None
    for wrong in ({"epochs": "all"}, {"epochs": 1.5}, {"epochs": 0}, {"keep": "first"}):
        with pytest.raises(UsageError, match=r"must be (at least 1|last or best)"):
            optitune.retrain("digits", **words, **wrong)  # type: ignore[arg-type]


def test_unfinished_trainings_of_two_plans_do_not_mix(command: Any, folder: Path) -> None:
    config = best_config.load(folder / "digits" / "best.toml", "")
    home = studies.location(folder, "digits", None)
    about = {"name": "best", "config": config, "home": home, "seeds": 2, "workers": 1, "device": "cpu"}
    requests = [retraining.RetrainRequest(**about, epochs=epochs) for epochs in (4, 5)]
    data = full_data(TASKS["digits"].task(Path()))
    plans = [retraining.make_plan(each, torch.device("cpu"), data, "", "") for each in requests]
    places = {retraining.partial_of(folder / "digits" / "retrain" / "best", plan) for plan in plans}
    assert len(places) == 2
