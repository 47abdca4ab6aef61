"""`best.toml`: what goes in comes out, and what a person broke is named."""

import copy
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli_w
import torch
from file_contents import DOCUMENT
from hypothesis import given, settings
from hypothesis import strategies as st

from optitune.errors import OptituneError, UsageError
from optitune.space.configuration import Configuration
from optitune.space.optimizers import ROWS as OPTIMIZERS
from optitune.space.ranges import Choice, Fixed, Int, Range
from optitune.space.schedules import ROWS as SCHEDULES
from optitune.space.schedules import Schedule
from optitune.study import best_config as best
from optitune.study.best_config import BestConfig
from optitune.training.build import build_schedules

WAY_OUT = "make one first"


def values_in(space: Range) -> st.SearchStrategy[Any]:
    if isinstance(space, Choice | Fixed):
        return st.sampled_from(space.ends())
    return st.integers(space.low, space.high) if isinstance(space, Int) else st.floats(space.low, space.high)


@st.composite
def best_configs(draw: st.DrawFn) -> BestConfig:
    """Any optimizer and schedule, with settings drawn from all of their ranges."""
    optimizer, schedule = draw(st.sampled_from(OPTIMIZERS)), draw(st.sampled_from(SCHEDULES))
    epochs = draw(st.integers(1, 10_000))
    values = {name: draw(values_in(space)) for name, space in optimizer.ranges.items()}
    curve = {name: draw(values_in(space)) for name, space in schedule.ranges(epochs).items()}
    loss = draw(st.sampled_from(["cross-entropy", "mse", "task"]))
    own = draw(st.sampled_from([{}, {"name": "mine", "path": optimizer.path, "traits": list(optimizer.traits)}]))
    return BestConfig.model_validate(
        {
            "study": draw(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,9}", fullmatch=True)),
            "task": draw(st.sampled_from(["digits", "mnist-cnn", "my_module:task"])),
            "trial": draw(st.integers(0, 2**40)),
            "metric": draw(st.sampled_from(["accuracy", "mse", "loss", "my own metric"])),
            "value": draw(st.floats(-1e30, 1e30)),
            "runs": draw(st.integers(1, 10)),
            "epochs": epochs,
            "train_examples": draw(st.integers(1, 10**6)),
            "validation_examples": draw(st.integers(1, 10**6)),
            "precision": draw(st.sampled_from(["fp32", "bf16"])),
            "seed": draw(st.integers(0, 2**31 - 1)),
            "data_checksum": "sha256:" + draw(st.text("0123456789abcdef", min_size=64, max_size=64)),
            "configuration": {
                "optimizer": {"name": optimizer.name, "settings": optimizer.arguments(values), **own},
                "schedule": {
                    "name": schedule.name,
                    "settings": schedule.arguments(curve),
                    "warmup": 0.0 if schedule.warms_up else draw(st.floats(0, 0.99)),
                },
                "training": {
                    "batch_size": draw(st.integers(1, 65_536)),
                    "accumulation": draw(st.integers(1, 65_536)),
                    "clip_norm": draw(st.floats(0, 1e30)),
                    "l1": draw(st.floats(0, 1e30)),
                    "loss": loss,
                    "label_smoothing": draw(st.floats(0, 0.99)) if loss == "cross-entropy" else 0.0,
                    "decay_biases": draw(st.booleans()),
                    "groups": draw(st.dictionaries(st.text(min_size=1), st.floats(1e-30, 1e30), max_size=3)),
                },
            },
            "versions": draw(st.dictionaries(st.text(min_size=1), st.text(), max_size=3)),
        }
    )


def places(document: dict[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of every key, tables included; not those of `versions`, which may be any."""
    for key, value in document.items():
        yield (*above, key)
        if isinstance(value, dict) and key != "versions":
            yield from places(value, (*above, key))


PLACES = sorted(places(DOCUMENT))
NOTHING_SPECIAL: dict[str, Any] = {
    "configuration.schedule.warmup": 0.0,
    "configuration.training.accumulation": 1,
    "configuration.training.clip_norm": 0.0,
    "configuration.training.l1": 0.0,
    "configuration.training.label_smoothing": 0.0,
    "configuration.training.decay_biases": False,
    "configuration.training.groups": {},
    "configuration.training.groups.fc*": None,
}
"""What may be left out, and what it then is."""
TABLES = [place for place in [(), *PLACES] if place in {other[:-1] for other in PLACES} and place[-1:] != ("groups",)]
toml_values = st.recursive(
    st.one_of(
        st.booleans(), st.integers(), st.floats(), st.text(), st.datetimes(), st.dates(), st.sampled_from([10**400, -1])
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=4,
)


def changed(place: tuple[str, ...], change: Callable[[dict[str, Any], str], None]) -> str:
    """The document as TOML, after `change` of the table and key at `place`."""
    document = copy.deepcopy(DOCUMENT)
    table = document
    for key in place[:-1]:
        table = table[key]
    change(table, place[-1])
    return tomli_w.dumps(document)


@pytest.fixture(scope="session")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("study") / "best.toml"


def refused(text: str, path: Path) -> str:
    """The message with which `text` is refused."""
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        best.load(path, WAY_OUT)
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value)


@given(config=best_configs())
def test_what_is_saved_is_loaded(config: BestConfig, path: Path) -> None:
    best.save(config, path)
    assert best.load(path, WAY_OUT) == config
    assert path.read_text(encoding="utf-8") == best.dumps(config)


def test_the_document_that_the_tests_below_change_is_valid(path: Path) -> None:
    path.write_text(tomli_w.dumps(DOCUMENT))
    optimizer = {**DOCUMENT["configuration"]["optimizer"], "path": "", "traits": ()}
    assert best.load(path, WAY_OUT).model_dump() == {
        **DOCUMENT,
        # a file of an older version has none
        "data_digests": {},
        "scaling": {},
        "runs": 1,
        # of a training loop of the user's own
        "direction": "",
        "configuration": {**DOCUMENT["configuration"], "optimizer": optimizer},
    }


def test_a_file_begins_with_what_it_is_and_the_next_command(
    best_config: Callable[[Configuration], BestConfig], configured: Callable[..., Configuration]
) -> None:
    lines = best.dumps(best_config(configured("adam"))).splitlines()
    assert lines[0] == "# The best of study 'digits': trial 7, validation accuracy 97.21 % (one run, 287 examples)."
    assert lines[1].endswith("optitune retrain best --study digits")
    assert tomllib.loads("\n".join(lines))["trial"] == 7


NEEDED = [place for place in PLACES if ".".join(place) not in NOTHING_SPECIAL]


@pytest.mark.parametrize("place", NEEDED, ids=".".join)
def test_a_missing_key_is_named(place: tuple[str, ...], path: Path) -> None:
    message = refused(changed(place, lambda table, key: table.pop(key)), path)
    assert message == f"{path}: {'.'.join(place)} is missing"


@pytest.mark.parametrize("place", NOTHING_SPECIAL)
def test_what_is_left_out_of_how_it_is_fed_is_nothing_special(place: str, path: Path) -> None:
    path.write_text(changed(tuple(place.split(".")), lambda table, key: table.pop(key)), encoding="utf-8")
    found: Any = best.load(path, WAY_OUT).model_dump()
    for key in place.split("."):
        found = found.get(key)
    assert found == NOTHING_SPECIAL[place]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: ".".join(table) or "top")
def test_an_unknown_key_is_named(table: tuple[str, ...], path: Path) -> None:
    message = refused(changed((*table, "nonsense"), lambda inner, key: inner.update({key: 1})), path)
    assert ".".join((*table, "nonsense")) in message


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("study", "../elsewhere"),
        ("task", "two\nlines"),
        ("task", ""),
        ("trial", -1),
        ("value", float("nan")),
        ("value", float("inf")),
        ("value", "0.97"),
        ("metric", ""),
        ("metric", "two\nlines"),
        ("epochs", 0),
        ("epochs", 10_001),
        ("train_examples", 0),
        ("validation_examples", 0),
        ("precision", "fp16"),
        ("seed", -1),
        ("data_checksum", "sha256:0"),
        ("data_checksum", "md5:" + "0" * 64),
        ("configuration.optimizer.name", "sgdd"),
        ("configuration.optimizer.settings.lr", 0.0),
        ("configuration.optimizer.settings.lr", float("nan")),
        ("configuration.optimizer.settings.lr", float("inf")),
        ("configuration.optimizer.settings.lr", 10**400),
        ("configuration.optimizer.settings.lr", "0.05"),
        ("configuration.optimizer.settings.lr", [0.05]),
        ("configuration.optimizer.settings.momentum", 1.0),
        ("configuration.optimizer.settings.nesterov", 0.5),
        ("configuration.optimizer.settings.weight_decay", -1e-4),
        ("configuration.schedule.name", "stepp"),
        ("configuration.schedule.settings.step_size", 0),
        ("configuration.schedule.settings.step_size", 1.0),
        ("configuration.schedule.settings.gamma", 0.0),
        ("configuration.schedule.settings.gamma", 1.5),
        ("configuration.schedule.warmup", 1.0),
        ("configuration.schedule.warmup", -0.1),
        ("configuration.training.batch_size", 0),
        ("configuration.training.batch_size", [32, 64]),
        ("configuration.training.accumulation", 0),
        ("configuration.training.clip_norm", -1.0),
        ("configuration.training.l1", -1.0),
        ("configuration.training.label_smoothing", 1.0),
        ("configuration.training.decay_biases", 1),
        ("configuration.training.groups.fc*", 0.0),
        ("configuration.training.groups.fc*", [0.1, 10.0]),
        ("versions", ["torch"]),
    ],
)
def test_a_value_that_is_not_allowed_is_named(place: str, value: object, path: Path) -> None:
    message = refused(changed(tuple(place.split(".")), lambda table, key: table.update({key: value})), path)
    assert message.startswith(f"{path}: {place} = ")


@settings(max_examples=300)
@given(place=st.sampled_from(PLACES), value=toml_values)
def test_any_value_in_any_place_is_taken_or_refused_by_name(place: tuple[str, ...], value: object, path: Path) -> None:
    path.write_text(changed(place, lambda table, key: table.update({key: value})), encoding="utf-8")
    config, message = None, ""
    try:
        config = best.load(path, WAY_OUT)
    except UsageError as error:
        message = str(error)
    if config is None:
        assert message.startswith(str(path))
        assert place[-1] in message
    else:
        best.save(config, path)
        assert best.load(path, WAY_OUT) == config
        assert config.configuration.stretched(3.0).lr == config.configuration.lr


def lasting(row: Schedule, schedule_epochs: int, epochs: int) -> str:
    """The document with a schedule made for so many epochs, in a training of so many."""
    document = copy.deepcopy(DOCUMENT)
    settings = row.arguments(row.known_good(schedule_epochs))
    document["configuration"]["schedule"] = {"name": row.name, "settings": settings}
    return tomli_w.dumps({**document, "epochs": epochs})


@pytest.mark.parametrize("row", SCHEDULES, ids=lambda row: row.name)
def test_more_epochs_than_a_schedule_was_made_for_can_be_trained_or_are_refused(row: Schedule, path: Path) -> None:
    """torch raises half-way where a one-cycle is asked for more steps than it has; all others go on."""
    if row.name == "one-cycle":
        assert refused(lasting(row, 2, 6), path) == (
            f"{path}: configuration.schedule.settings.total_steps = 2: one-cycle lasts the whole training, "
            "so it must be at least epochs = 6"
        )
    for longer in (2, 6) if row.name != "one-cycle" else (6, 7):
        path.write_text(lasting(row, longer, 6))
        config = best.load(path, WAY_OUT)
        # as long as it says, and stretched as a full training stretches it
        for ratio in (1.0, 3.0, 1.5, 1 / 6):
            epochs = round(6 * ratio)
            optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
            schedule = config.configuration.stretched(ratio).schedule
            for each in build_schedules(schedule, optimizer, epochs, 5):
                for _ in range(epochs * (5 if each.per_step else 1)):
                    optimizer.step()
                    each.scheduler.step(1.0) if each.observes else each.scheduler.step()  # type: ignore[arg-type]


@given(data=st.one_of(st.text().map(str.encode), st.binary()))
def test_any_other_file_is_refused(data: bytes, path: Path) -> None:
    path.write_bytes(data)
    with pytest.raises(UsageError, match=r"best\.toml"):
        best.load(path, WAY_OUT)


@given(cut=st.integers(0, 10_000))
def test_a_cut_file_is_refused(cut: int, path: Path) -> None:
    whole = tomli_w.dumps({**DOCUMENT, "versions": {}}).rstrip()
    path.write_text(whole[: cut % (len(whole) - len("[versions]"))])
    with pytest.raises(UsageError, match=r"best\.toml"):
        best.load(path, WAY_OUT)


@pytest.mark.parametrize("text", ["trial = " + "9" * 5000, "a = " + "[" * 100_000, "a = 2026-02-31"])
def test_what_the_toml_parser_stumbles_over_is_refused(text: str, path: Path) -> None:
    path.write_text(text)
    with pytest.raises(UsageError, match=r"best.toml is not a TOML file: .*; mend or remove it"):
        best.load(path, WAY_OUT)


def test_a_missing_file_is_an_error_that_ends_in_the_advice(tmp_path: Path) -> None:
    with pytest.raises(OptituneError, match=f"there is no {tmp_path / 'best.toml'}: {WAY_OUT}$"):
        best.load(tmp_path / "best.toml", WAY_OUT)


def test_a_configuration_of_another_task_is_refused(path: Path) -> None:
    config = BestConfig.model_validate(DOCUMENT)
    best.check_task(config, "mine", "digits", path)
    with pytest.raises(UsageError, match=r"task = 'digits', but study 'mine' trains 'mnist-cnn'; .*--study"):
        best.check_task(config, "mine", "mnist-cnn", path)
