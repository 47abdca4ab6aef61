"""Damaged and foreign files: best.toml, studies' files, checkpoints, MNIST's files."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
import torch
from bad_input import (
    Change,
    answer,
    battery,
    byte_changes,
    document_changes,
    files,
    for_toml,
    with_changes,
    with_damage,
)
from file_contents import DOCUMENT, idx, random_images, same
from hypothesis import given
from hypothesis import strategies as st

from optitune.common import checkpoint
from optitune.errors import OptituneError
from optitune.searching import run as searching
from optitune.searching.requests import SearchRequest
from optitune.study import best_config
from optitune.study.settings import StudySettings, resolve
from optitune.study.study_file import dumps, from_file
from optitune.tasks.datasets import IDX_FILES, load_test, load_train
from optitune.training.device import resolve_device
from optitune.training.export_code import export

pytestmark = pytest.mark.wide

STUDY: dict[str, Any] = {
    "task": "digits",
    "trials": 20,
    "timeout": "1h",
    "epochs": 10,
    "train_examples": 500,
    "optimizers": ["sgd", "adam", "lion"],
    "schedules": ["step", "cosine"],
    "warmup": [0.0, 0.2],
    "batch_size": [32, 64, 128],
    "accumulation": 2,
    "clip_norm": [0.1, 10.0],
    "l1": 1e-6,
    "loss": "cross-entropy",
    "label_smoothing": 0.1,
    "decay_biases": True,
    "lr": [1e-4, 0.1],
    "sampler": "optitune",
    "budget_in": "epochs",
    "pruner": "none",
    "precision": "fp32",
    "seed": 1,
    "groups": {"fc*": 10.0, "conv1.*": [0.1, 10.0]},
    "adam": {"beta2": 0.999},
    "sgd": {"nesterov": [True, False], "momentum": 0.9},
    "step": {"gamma": [0.3, 1.0]},
    "optimizer": [
        {
            "name": "lion",
            "path": "torch.optim:Adam",
            "known_good": [{"lr": 1e-4, "weight_decay": 0.1}],
            "ranges": {
                "lr": {"low": 1e-5, "high": 1e-2, "scale": "log"},
                "weight_decay": {"low": 1e-3, "high": 1.0, "scale": "log"},
            },
        }
    ],
}


def toml(document: dict[str, Any], changes: Sequence[Change]) -> str:
    return tomli_w.dumps(for_toml(with_changes(document, changes)))


def refusal(error: OptituneError, path: Path, *beginnings: str) -> None:
    """A message names the place before all else."""
    assert str(error).startswith((str(path), f"cannot read {path}", *beginnings))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("config") / "best.toml"


def check_best(path: Path) -> None:
    try:
        found = best_config.load(path, "make one")
    except OptituneError as error:
        refusal(error, path)
        return
    assert best_config.BestConfig.model_validate(found.model_dump()) == found
    compile(export(found, "python"), "exported", "exec")
    assert json.loads(export(found, "json"), parse_constant=pytest.fail)


@battery
@given(changes=document_changes)
def test_a_best_toml_of_other_values_is_read_or_refused(path: Path, changes: list[Change]) -> None:
    path.write_text(toml(DOCUMENT, changes), encoding="utf-8")
    check_best(path)


@battery
@given(changes=byte_changes)
def test_a_best_toml_of_other_bytes_is_read_or_refused(path: Path, changes: list[Change]) -> None:
    path.write_bytes(with_damage(tomli_w.dumps(DOCUMENT).encode(), changes))
    check_best(path)


@battery
@given(changes=document_changes | byte_changes, form=st.sampled_from(["python", "toml", "json"]), named=st.booleans())
def test_a_bad_best_toml_is_exported_or_refused(path: Path, changes: list[Change], form: str, named: bool) -> None:
    path.write_bytes(either(DOCUMENT, changes))
    before = files(path.parent)
    study = ["--study", "digits"] if named else []
    told = answer("export", str(path), "--format", form, "--studies-dir", str(path.parent / "studies"), *study)
    assert told.code == 0 or str(path) in told.err
    assert files(path.parent) == before


def either(document: dict[str, Any], changes: list[Change]) -> bytes:
    """A file with changes of its values or of its bytes."""
    if any(change.kind in ("cut", "flip", "insert", "remove", "zero", "repeat") for change in changes):
        return with_damage(tomli_w.dumps(document).encode(), changes)
    return toml(document, changes).encode()


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The file of a study that a search reads, which then stops."""
    folder = tmp_path_factory.mktemp("work") / "studies"
    folder.mkdir()

    def settled(request: SearchRequest, *_: Any) -> None:
        searching.settle(request, resolve_device(request.device))
        raise OptituneError("nothing is trained here")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("optitune.workers.pool.warm_up", lambda *_: None)
        patch.setattr("optitune.searching.run.search", settled)
        patch.delenv("OPTITUNE_STORAGE", raising=False)
        yield folder / "mine.toml"


def check_study(path: Path) -> None:
    try:
        settings, _ = from_file(path)
        found = resolve({}, settings, None, "mine")
    except OptituneError as error:
        refusal(error, path)
        return
    # as a study keeps them, and as `optitune show --settings` tells them
    again = StudySettings.model_validate(json.loads(json.dumps(found.document(), allow_nan=False)))
    assert again.document() == found.document()
    copied = path.with_name("again.toml")
    copied.write_text(dumps(found.document()), encoding="utf-8")
    assert resolve({}, from_file(copied)[0], found.document(), "mine").document() == found.document()
    assert found.space().kept()


def test_the_study_that_the_tests_below_change_is_valid(study: Path) -> None:
    study.write_text(tomli_w.dumps(STUDY), encoding="utf-8")
    assert resolve({}, from_file(study)[0], None, "mine").optimizers == ("sgd", "adam", "lion")
    assert "nothing is trained here" in answer("search", "--study", "mine", "--studies-dir", str(study.parent)).err


@battery
@given(changes=document_changes)
def test_a_study_file_of_other_values_is_read_or_refused(study: Path, changes: list[Change]) -> None:
    study.write_text(toml(STUDY, changes), encoding="utf-8")
    check_study(study)


@battery
@given(changes=byte_changes)
def test_a_study_file_of_other_bytes_is_read_or_refused(study: Path, changes: list[Change]) -> None:
    study.write_bytes(with_damage(tomli_w.dumps(STUDY).encode(), changes))
    check_study(study)


@battery
@given(changes=document_changes | byte_changes)
def test_a_bad_study_file_is_searched_or_refused(study: Path, changes: list[Change]) -> None:
    study.write_bytes(either(STUDY, changes))
    before = files(study.parent)
    told = answer("search", "--study", "mine", "--studies-dir", str(study.parent), "--json")
    assert told.code in (1, 2)
    assert json.loads(told.out)["error"]
    assert files(study.parent) == before


STATE: dict[str, Any] = {
    "plan": {"task": "digits", "epochs": 3, "lr": 0.05},
    "epochs": [[1, 0.1, 0.5, None], (2, 0.1, 0.25, 0.75)],
    "training": {
        "model": {"fc.weight": torch.arange(6.0).reshape(2, 3), "fc.bias": torch.zeros(2, dtype=torch.bfloat16)},
        "optimizer": {0: {"step": torch.tensor(7.0), "exp_avg": torch.ones(2, 3)}, 1: torch.zeros(0, 4)},
        "done": torch.tensor(True),
    },
}


@battery
@given(changes=byte_changes)
def test_a_damaged_checkpoint_is_whole_or_refused(
    tmp_path_factory: pytest.TempPathFactory, changes: list[Change]
) -> None:
    path = tmp_path_factory.getbasetemp() / "state.safetensors"
    checkpoint.save(STATE, path, durable=False)
    path.write_bytes(with_damage(path.read_bytes(), changes))
    try:
        found = checkpoint.load(path)
    except OptituneError as error:
        refusal(error, path)
    else:
        assert same(found, STATE)
    path.unlink()


@pytest.fixture(scope="module")
def mnist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "MNIST" / "raw"
    folder.mkdir(parents=True)
    return folder


IMAGES = [random_images(12), torch.arange(12) % 10, random_images(11), torch.arange(11) % 10]
WHOLE = dict(zip(IDX_FILES, map(idx, IMAGES), strict=True))

headers = st.builds(
    lambda place, value: [Change("remove", place, value), Change("insert", place, value)],
    st.integers(0, 15),
    st.binary(min_size=1, max_size=4) | st.sampled_from([b"\xff" * 4, b"\x7f" + b"\xff" * 3, b"\x80" + bytes(3)]),
)
"""Other numbers in a header."""


@battery
@given(name=st.sampled_from(IDX_FILES), changes=headers | byte_changes)
def test_damaged_idx_files_are_read_as_they_say_or_refused(mnist: Path, name: str, changes: list[Change]) -> None:
    for other, content in WHOLE.items():
        (mnist / other).write_bytes(content)
    (mnist / name).write_bytes(with_damage(WHOLE[name], changes))
    for read, (images, labels) in ((load_train, IDX_FILES[:2]), (load_test, IDX_FILES[2:])):
        try:
            found = read("mnist", mnist.parents[1])
        except OptituneError as error:
            refusal(error, mnist, f"the MNIST files in {mnist} are damaged (")
            if name not in (images, labels):
                pytest.fail("the files of this half are whole")
            continue
        # what is not refused has the header of a whole file, so it is what stands there
        pixels = np.frombuffer((mnist / images).read_bytes(), np.uint8)[16:]
        classes = np.frombuffer((mnist / labels).read_bytes(), np.uint8)[8:]
        assert found.inputs.numpy().tobytes() == pixels.tobytes()
        assert found.targets.tolist() == classes.tolist()
        assert found.inputs.shape == (len(classes), 1, 28, 28)
        assert found.targets.max() <= 9
