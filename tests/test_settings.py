"""What a study is: which word wins, and which differences are refused."""

from pathlib import Path
from typing import Any

import pytest

from optitune.errors import OptituneError, UsageError
from optitune.optimizers import DEFAULT_OPTIMIZERS
from optitune.schedules import DEFAULT_SCHEDULES
from optitune.settings import StudySettings, checked_study_name, differing, flag, from_file, resolve, study_name

DEFAULTS = StudySettings()


def stored(**other: Any) -> dict[str, Any]:
    """Settings as a study keeps them: JSON, which has no tuples."""
    return StudySettings.model_validate(other).model_dump(mode="json")


def test_without_a_word_the_defaults_hold() -> None:
    assert resolve({}, {}, None, "s") == DEFAULTS
    assert DEFAULTS.optimizers == DEFAULT_OPTIMIZERS
    assert DEFAULTS.schedules == DEFAULT_SCHEDULES
    assert DEFAULTS.train_images is None


def test_a_flag_wins_over_the_file_and_the_file_over_the_default() -> None:
    settings = resolve({"epochs": 7}, {"epochs": 9, "batch_size": 32}, None, "s")
    assert (settings.epochs, settings.batch_size, settings.seed) == (7, 32, DEFAULTS.seed)


def test_what_a_study_was_made_with_wins_over_the_default() -> None:
    made = stored(task="digits", epochs=9, optimizers=["adam"])
    assert resolve({}, {}, made, "s") == StudySettings(task="digits", epochs=9, optimizers=("adam",))


def test_saying_again_what_a_study_was_made_with_is_fine() -> None:
    made = stored(epochs=9, batch_size=32, optimizers=["adam", "sgd"])
    assert resolve({"epochs": 9, "optimizers": ("adam", "sgd")}, {"batch_size": 32}, made, "s").epochs == 9


def test_a_flag_that_agrees_with_the_study_wins_over_a_file_that_differs() -> None:
    assert resolve({"epochs": 9}, {"epochs": 3}, stored(epochs=9), "s").epochs == 9


@pytest.mark.parametrize("said", ["flags", "file"])
def test_a_difference_is_refused_with_both_ways_out(said: str) -> None:
    words: dict[str, dict[str, Any]] = {"flags": {}, "file": {}, said: {"epochs": 9, "optimizers": ["adam"]}}
    with pytest.raises(UsageError) as caught:
        resolve(words["flags"], words["file"], stored(epochs=5, optimizers=["sgd", "adam"]), "mine")
    assert str(caught.value) == (
        "study 'mine' was made with other settings: optimizers sgd,adam (now adam), epochs 5 (now 9). "
        "To go on with it, say --optimizers sgd,adam --epochs 5; to start another, add --study mine-2"
    )


@pytest.mark.parametrize(
    ("flags", "file", "way"),
    [
        ({"train_images": 100}, {}, "say nothing of --train-images; to start"),
        ({}, {"train_images": 100}, "say nothing of train_images in its file; to start"),
        ({"train_images": 100}, {"train_images": 200}, "nothing of --train-images, train_images in its file; to start"),
        ({"train_images": 100, "epochs": 9}, {}, "say --epochs 5 and nothing of --train-images; to start"),
    ],
)
def test_where_a_study_was_made_without_a_setting_the_way_out_is_to_leave_it_out(
    flags: dict[str, Any], file: dict[str, Any], way: str
) -> None:
    with pytest.raises(UsageError, match=way) as caught:
        resolve(flags, file, stored(epochs=5), "mine")
    assert "train_images all (now 100)" in str(caught.value)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_auto_precision_means_the_one_a_study_was_made_in(precision: str) -> None:
    made = stored(precision=precision)
    assert resolve({"precision": "auto"}, {}, made, "s").precision == precision
    assert resolve({}, {"precision": "auto"}, made, "s").precision == precision


def test_another_precision_is_a_difference() -> None:
    with pytest.raises(UsageError, match=r"precision bf16 \(now fp32\).*say --precision bf16"):
        resolve({"precision": "fp32"}, {}, stored(precision="bf16"), "s")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("epochs", 0),
        ("epochs", 10_001),
        ("epochs", 2.5),
        ("epochs", True),
        ("batch_size", 0),
        ("batch_size", 65_537),
        ("train_images", 0),
        ("seed", -1),
        ("seed", 2**31),
        ("optimizers", []),
        ("optimizers", ["adam", "adam"]),
        ("optimizers", ["adamm"]),
        ("optimizers", "adam"),
        ("schedules", ["steps"]),
        ("schedules", []),
        ("sampler", "best"),
        ("pruner", "all"),
        ("precision", "fp16"),
        ("task", 3),
    ],
)
def test_a_value_that_is_not_allowed_is_refused_by_its_key(key: str, value: object) -> None:
    with pytest.raises(UsageError, match=f"^study 's': {key}"):
        resolve({key: value}, {}, None, "s")


def test_several_faults_are_told_at_once() -> None:
    with pytest.raises(UsageError, match=r"epochs = 0: .*; seed = -1: "):
        resolve({"epochs": 0, "seed": -1}, {}, None, "s")


def test_an_unknown_optimizer_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"optimizers = .*unknown optimizer 'adamm': did you mean 'adam"):
        resolve({"optimizers": ("adamm",)}, {}, None, "s")


def test_a_stored_study_that_makes_no_sense_is_named() -> None:
    with pytest.raises(UsageError, match=r"study 's'.*other is not a known key"):
        resolve({}, {}, {**stored(), "other": 1}, "s")


def test_a_missing_file_says_nothing(tmp_path: Path) -> None:
    assert from_file(tmp_path / "mine.toml") == {}


def test_a_file_says_what_stands_in_it_and_no_more(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('optimizers = ["adam", "sgd"]\nepochs = 3\n')
    assert from_file(path) == {"optimizers": ["adam", "sgd"], "epochs": 3}


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("epoch = 3", "epoch is not a known key"),
        ("epochs = 0", "epochs = 0: "),
        ("epochs = '3'", "epochs = '3': "),
        ("[study]\nepochs = 3", "study is not a known key"),
        ('optimizers = ["adm"]', "unknown optimizer 'adm'"),
        ("epochs = ", "is not a TOML file: .*; mend or remove it"),
        ("seed = " + "1" * 5000, "is not a TOML file"),
    ],
)
def test_a_faulty_file_is_refused_with_its_name_and_the_key(tmp_path: Path, text: str, cause: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=cause) as caught:
        from_file(path)
    assert str(path) in str(caught.value)


def test_a_file_of_other_bytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="is not a TOML file"):
        from_file(path)


@pytest.mark.parametrize("name", ["a", "mnist-cnn", "A.b_c-1", "9", "x" * 100])
def test_a_study_name_that_can_be_a_folder_is_kept(name: str) -> None:
    assert checked_study_name(name) == name


@pytest.mark.parametrize("name", ["", ".", "..", "../up", "a/b", "a b", "-a", ".a", "ä", "a\n", "x" * 101, "a\\b"])
def test_a_study_name_that_cannot_be_a_folder_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be a study's name: use"):
        study_name(name)
    with pytest.raises(UsageError, match="cannot be a study's name"):
        checked_study_name(name)


def test_differing_has_every_key_of_either_side_that_differs() -> None:
    assert differing({"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 5, "d": 4}) == {
        "b": (2, 5),
        "d": (None, 4),
        "c": (3, None),
    }


def test_a_flag_is_its_key_with_hyphens() -> None:
    assert flag("train_images") == "--train-images"


def test_an_unreadable_file_is_an_error_with_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("epochs = 3")

    def refuse(*_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(OptituneError, match=f"cannot read {path}: permission denied"):
        from_file(path)
