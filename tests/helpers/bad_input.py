"""What the batteries of bad input share: how many cases each has, how words, documents and bytes are made bad, and
what must hold whatever comes."""

import contextlib
import copy
import io
import json
import sqlite3
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from optuna.storages._rdb.storage import _VersionManager
from safetensors import safe_open

from optitune.cli.main import run

CASES = {
    "test_any_command_line_ends_in_a_plain_answer": 600,
    "test_help_is_given_whatever_else_is_typed": 100,
    "test_a_best_toml_of_other_values_is_read_or_refused": 250,
    "test_a_best_toml_of_other_bytes_is_read_or_refused": 250,
    "test_a_bad_best_toml_is_exported_or_refused": 100,
    "test_a_study_file_of_other_values_is_read_or_refused": 250,
    "test_a_study_file_of_other_bytes_is_read_or_refused": 200,
    "test_a_bad_study_file_is_searched_or_refused": 100,
    "test_a_damaged_checkpoint_is_whole_or_refused": 300,
    "test_damaged_idx_files_are_read_as_they_say_or_refused": 250,
    "test_a_damaged_comparison_or_training_is_told_or_refused": 150,
    "test_a_damaged_comparison_goes_on_or_is_refused": 40,
    "test_a_damaged_training_is_done_again_or_refused": 40,
    "test_no_study_lies_outside_its_folder": 100,
    "test_results_stay_in_their_folder": 100,
}
"""How many cases each battery has."""


def battery(test: Callable[..., None]) -> Callable[..., None]:
    """Run a test over as many cases as `CASES` says."""
    return settings(max_examples=CASES[test.__name__])(test)


PASSWORD = "hunter2"  # noqa: S105

LONG = "a" * 5000

WORDS = (
    *("", " ", "\t", "a b", "two\nlines", "\x1b[31mred\x07", "Größe", "数", "\U0001f600", "\u202e", "\u0300", "٣"),
    *("-1", "0", "1", "3", "1e400", "nan", "inf", "-inf", "9" * 5000, str(2**31), str(2**63), "1_000", "0x10", "1.5"),
    *("..", ".", "../..", "../../up", "~", "-", "--", "=", "a=b=c", "%s", "{0}", "$HOME", "`id`", "'", '"', "\\", ","),
    *("auto", "none", "all", "best", "digits", "mnist-cnn", "sgd", "sgd,adam", "adam,adam", "trial-1", "con", "a:b"),
    *("nothing.py:make", "nothing.toml", "digits/best.toml", "studies", "file", "file/below", "/dev/null/x", LONG),
)
"""What may be typed in place of anything."""

LINES = (
    *("lr", "lr=", "=1", "lr=1", "lr=-1", "lr=nan", "lr=[1,2,3]", "lr=[1e-4, 0.1]", "lr=[0.1, 1e-4]", "lr={a=1}"),
    *("adam.beta2=0.999", "adam=1", "adam.beta2.x=1", "a.b.c.d=1", "epochs=1e400", "epochs=0", "epochs=ten"),
    *("[table]", "[[optimizer]]", "x=1\ny=2", "lr='", 'lr="""', "groups={'*'=0}", 'groups={"fc*"=10.0}'),
    *("trials=0", "timeout=soon", "timeout=0", "hyperparameters={}", "task=1", "study=x", "seed=1979-05-27"),
    *("optimizer=[{}]", "epochs=[1]", "lr=" + "[" * 400, "epochs=" + "9" * 5000),
)
"""What may be said by `--set`."""

URLS = (
    *("", "nonsense", "sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite:///none.db", "sqlite:///file", "://"),
    *("sqlite:///studies/digits/study.db", "sqlite:///foreign.db", "sqlite:///.", f"sqlite:///{LONG}", "gopher://h/x"),
    f"gopher://me:{PASSWORD}@127.0.0.1:9/x",
    f"sqlite://me:{PASSWORD}@/x",
    f"mysql://me:{PASSWORD}@127.0.0.1:9/x",
    f"postgresql://me:{PASSWORD}@127.0.0.1:9/x",
    f"postgresql://me:{PASSWORD}@127.0.0.1:99999999/x",
    f"postgresql://me:{PASSWORD}@127.0.0.1:port/x",
    f"postgresql://me:{PASSWORD}%20%40%2F@127.0.0.1:9/x",
    f"postgresql://127.0.0.1:9/x?user=me&password={PASSWORD}",
    f"postgresql://me:{PASSWORD}@[::1/x",
)
"""What may be given as a storage; of the servers among them none answers."""

VALUES = (
    *(True, False, -1, 0, 1, 2, 65_537, 2**31, 2**63, 2**64, -(2**63), 10**400),
    *(0.0, -0.0, 1.0, 0.5, -1.5, 1e-320, 1e30, 1e31, 1e308, -1e308, float("nan"), float("inf"), float("-inf")),
    *("", " ", "../..", "a\nb", "\x00", "\x1b[31m", LONG, "nan", "1", "adam", "all", "digits", "a:b", "数"),
    *([], [[]], [1, 2], [2, 1], [0.1, 0.1], ["sgd"], {}, {"": 1}, {"lr": {"lr": {}}}, [{}], {"a": [1, "b", None]}),
)
"""What may stand in place of any value."""

values = st.one_of(
    st.sampled_from(VALUES),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.recursive(
        st.integers() | st.text(max_size=3) | st.booleans(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=4,
    ),
)


@dataclass(frozen=True)
class Change:
    """What becomes of one place of a document, or of some bytes."""

    kind: str
    place: int
    value: Any


document_changes = st.lists(
    st.builds(
        Change, st.sampled_from(["drop", "rename", "add", "replace", "replace", "nest"]), st.integers(0, 999), values
    ),
    min_size=1,
    max_size=3,
)

byte_changes = st.lists(
    st.builds(
        Change,
        st.sampled_from(["cut", "flip", "flip", "insert", "remove", "zero", "repeat"]),
        st.integers(0, 2**32),
        st.binary(min_size=1, max_size=6) | st.sampled_from([b"\xff\xfe", b"\x00" * 64, b'"', b"[" * 2000, b"\n"]),
    ),
    min_size=1,
    max_size=3,
)


def _places(document: Any) -> Iterator[tuple[Any, Any]]:
    """Every table or list with every key in it."""
    keys = list(document) if isinstance(document, dict) else range(len(document)) if isinstance(document, list) else ()
    for key in keys:
        yield document, key
        yield from _places(document[key])


def with_changes(document: dict[str, Any], changes: Sequence[Change]) -> dict[str, Any]:
    """A document after these changes."""
    changed = copy.deepcopy(document)
    for change in changes:
        places = list(_places(changed))
        if not places:
            break
        table, key = places[change.place % len(places)]
        if change.kind == "replace":
            table[key] = copy.deepcopy(change.value)
        elif change.kind == "nest":
            table[key] = {str(key): table[key]}
        elif isinstance(table, list):
            table.append(copy.deepcopy(change.value)) if change.kind == "add" else table.pop(key)
        elif change.kind == "add":
            table[change.value if isinstance(change.value, str) else "unheard_of"] = copy.deepcopy(change.value)
        else:
            value = table.pop(key)
            if change.kind == "rename":
                table[f"{key}_"] = value
    return changed


def for_toml(value: Any) -> Any:
    """TOML has no null, and dates in its place."""
    if isinstance(value, dict):
        return {key: for_toml(item) for key, item in value.items()}
    if isinstance(value, list):
        return [for_toml(item) for item in value]
    return date(2026, 2, 28) if value is None else value


def with_damage(whole: bytes, changes: Sequence[Change]) -> bytes:
    """Bytes after these changes."""
    content = bytearray(whole)
    for change in changes:
        at = change.place % (len(content) + 1)
        size = len(change.value)
        if change.kind == "cut":
            del content[at:]
        elif change.kind == "flip" and at < len(content):
            content[at] ^= 1 << change.value[0] % 8
        elif change.kind == "insert":
            content[at:at] = change.value
        elif change.kind == "remove":
            del content[at : at + size]
        elif change.kind == "zero":
            content[at : at + size] = bytes(len(content[at : at + size]))
        elif change.kind == "repeat":
            content[at:at] = content[max(0, at - size) : at]
    return bytes(content)


def quick_storage(patch: pytest.MonkeyPatch) -> None:
    """Let Optuna look once, not at every opening, which version its tables have: that takes a quarter of a second."""
    look, known = _VersionManager.get_head_version, []

    def once(manager: _VersionManager) -> str:
        if not known:
            known.append(look(manager))
        return known[0]

    patch.setattr(_VersionManager, "get_head_version", once)


@dataclass(frozen=True)
class Answer:
    """What a command said."""

    code: int
    out: str
    err: str


def answer(*words: str) -> Answer:
    """Run a command line, and hold its answer against what holds of every one."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run([*words])
    told = Answer(code, out.getvalue(), err.getvalue())
    said = told.out + told.err
    assert "a fault of optitune's own" not in said, said
    assert "Traceback" not in said, said
    assert PASSWORD not in said, said
    assert code in (0, 1, 2), said
    assert code == 0 or said
    return told


def files(folder: Path) -> dict[str, bytes]:
    """All files in a folder with what is in them; the two that SQLite keeps beside an open one are its own affair."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(("-wal", "-shm"))
    }


def check_whole(folder: Path, before: dict[str, bytes]) -> bool:
    """Hold what is new or changed in a folder to be whole; whether there is anything."""
    now, known = files(folder), set(before.values())
    changed = [name for name, content in now.items() if before.get(name) != content]
    for name in changed:
        if now[name] in known:
            # set aside as it was
            continue
        path = folder / name
        assert not path.name.startswith("."), f"{name} was left behind"
        _check_readable(path)
    return bool(changed) or now.keys() != before.keys()


def _check_readable(path: Path) -> None:
    content = path.read_bytes()
    if path.suffix == ".toml":
        tomllib.loads(content.decode())
    elif path.suffix == ".json":
        json.loads(content)
    elif path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as opened:
            opened.keys()
    elif path.suffix == ".html":
        assert content.rstrip().endswith(b"</html>")
    elif path.suffix == ".db":
        with contextlib.closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    elif path.suffix in (".lock", ".png"):
        # locks are empty, and so are the pictures where drawing is left out
        assert content == b""
    else:
        # the one other kind of file that is written: a task to begin with
        compile(content, str(path), "exec")
