"""`optitune retrain --epochs auto` and `--keep best` through the command line, on digits."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from full_trainings import killed_at_every_step, results, search_digits
from safetensors.torch import load_file

import optitune
from optitune.cli.main import run
from optitune.errors import OptituneError, UsageError
from optitune.retraining import seeds as retrain_seeds
from optitune.retraining import worker as retrain_worker
from optitune.retraining.results import FullPlan
from optitune.tasks import datasets, splits
from optitune.tasks.builtin import TASKS
from optitune.training.engine import Training
from optitune.workers.pool import Channel

pytestmark = pytest.mark.wide


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A studies folder with a small study."""
    place = tmp_path_factory.mktemp("made") / "studies"
    search_digits(place)
    return place


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
