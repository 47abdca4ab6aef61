"""Optimizers that a user names by their class: which row each becomes, and that a study goes on with it."""

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import optitune
from optitune.errors import UsageError
from optitune.study.settings import StudySettings
from optitune.training.optimizer_classes import path_of, row_at, row_of, with_rows

CLASSES = """
import torch


class Lion(torch.optim.Optimizer):
    def __init__(
        self, params, lr: float = 1e-4, betas=(0.9, 0.99), weight_decay: float = 0.0, use_triton: bool = False
    ):
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for weights in group["params"]:
                if weights.grad is not None:
                    weights.sub_(group["lr"] * weights.grad.sign())


class Heavy(Lion):
    def __init__(self, params, momentum=0, eps=1e-6, **others):
        super().__init__(params, **others)


class Decayed(Lion):
    def __init__(self, params, lr=None, weight_decay=0.02, eps=1e-30, maximize=False, foreach=None):
        super().__init__(params, lr=lr, weight_decay=weight_decay)


class Adan(Lion):
    def __init__(self, params, lr=1e-3, betas=(0.98, 0.92, 0.99)):
        super().__init__(params, lr=lr)


class Adam(Lion):
    pass


class Wrapper(Lion):
    def __init__(self, params, base_optimizer, lr=1e-3):
        super().__init__(params, lr=lr)


class Free(Lion):
    def __init__(self, params):
        super().__init__(params)


class Asking(Lion):
    def step(self, closure):
        super().step()


class Averaging(Lion):
    def train(self):
        pass

    def eval(self):
        pass


def not_a_class():
    pass


Inner = type("Outer.Inner", (Lion,), {"__qualname__": "Outer.Inner"})
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that one is in, with a module of optimizers."""
    (tmp_path / "some_classes.py").write_text(CLASSES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    sys.modules.pop("some_classes", None)


def row(name: str) -> dict[str, Any]:
    return row_of(f"some_classes:{name}", Path("studies"))


def in_words(name: str) -> dict[str, str]:
    return {key: str(each) for key, each in row_at(f"some_classes:{name}", Path("studies")).ranges.items()}


@pytest.mark.parametrize(
    ("name", "ranges"),
    [
        (
            "Lion",
            {
                "lr": "1e-05 to 0.001, log scale",
                "beta1": "0.5 to 0.99, log scale of 1 - value",
                "beta2": "0.9 to 0.9999, log scale of 1 - value",
            },
        ),
        (
            "Heavy",
            {
                "lr": "1e-05 to 0.001, log scale",
                "momentum": "0 to 0.99, log scale of 1 - value",
                "eps": "1e-10 to 0.0001, log scale",
                "beta1": "0.5 to 0.99, log scale of 1 - value",
                "beta2": "0.9 to 0.9999, log scale of 1 - value",
            },
        ),
        (
            "Decayed",
            {
                "lr": "0.0001 to 0.01, log scale",
                "weight_decay": "0.0002 to 2, log scale",
                "eps": "1e-30 to 0.0001, log scale",
            },
        ),
        ("Adan", {"lr": "0.0001 to 0.01, log scale"}),
    ],
)
def test_ranges_follow_from_the_defaults_of_the_constructor(name: str, ranges: dict[str, str], here: Path) -> None:
    assert in_words(name) == ranges


def test_what_is_not_searched_keeps_its_default_and_may_be_set(here: Path) -> None:
    assert row("Lion")["also"] == {"weight_decay": 0.0, "use_triton": False}
    assert "also" not in row("Decayed")
    said = {"optimizers": ["some_classes:Lion"], "lion": {"weight_decay": 0.1, "lr": [1e-6, 1e-4]}}
    settings = StudySettings.model_validate(with_rows(said, Path("studies")))
    assert str(settings.space().optimizers["lion"]["weight_decay"]) == "always 0.1"


def test_traits_are_those_that_the_class_shows(here: Path) -> None:
    assert row("Asking")["traits"] == ["closure"]
    assert row("Averaging")["traits"] == ["modes"]


def test_a_name_that_is_in_use_is_made_longer(here: Path) -> None:
    assert row("Adam")["name"] == "some_classes-adam"
    twice = with_rows({"optimizers": ["some_classes:Lion"], "optimizer": [{"name": "lion", "path": "a:B"}]}, here)
    assert twice["optimizers"] == ["some_classes-lion"]
    assert [each["name"] for each in twice["optimizer"]] == ["lion", "some_classes-lion"]


def test_a_class_of_the_registry_is_its_row(here: Path) -> None:
    given = ["torch.optim:Adam", torch.optim.SGD, "torch.optim.adamw:AdamW"]
    assert with_rows({"optimizers": given}, here) == {"optimizers": ["adam", "sgd", "adamw"]}


def test_rows_known_before_go_before_what_the_constructor_says_now(here: Path) -> None:
    stored = {"optimizer": [{**row("Lion"), "name": "mine"}]}
    assert with_rows({"optimizers": "adam, some_classes:Lion"}, here, {}, stored) == {
        "optimizers": ["adam", "mine"],
        **stored,
    }


FAULTS = [
    ("some_classes:Wrapper", "its constructor asks for base_optimizer, which has no default: write a row"),
    ("some_classes:Free", "its constructor has no argument lr: write a row [[optimizer]] in the study's file"),
    ("some_classes:not_a_class", "is no torch.optim.Optimizer; name a class that is one"),
    ("some_classes:Lyon", "cannot be imported: AttributeError: module 'some_classes' has no attribute 'Lyon'"),
    ("lion_pytorch_x:Lion", "there is no module 'lion_pytorch_x' in "),
    ("some_classes:", "'some_classes:' must be module:Class, such as lion_pytorch:Lion"),
    (":Lion", "':Lion' must be module:Class, such as lion_pytorch:Lion"),
    ("some_classes.py:Lion", "names a file: write its module, some_classes:Lion"),
    ("some-classes:Lion", "'some-classes:Lion' must be module:Class"),
]


@pytest.mark.parametrize(("path", "cause"), FAULTS, ids=[path for path, _ in FAULTS])
def test_a_class_that_makes_no_row_is_refused_with_the_cause(path: str, cause: str, here: Path) -> None:
    with pytest.raises(UsageError, match=re.escape(cause)):
        with_rows({"optimizers": ["adam", path]}, Path("studies"))


def test_a_class_that_no_worker_can_import_is_refused() -> None:
    class Local(torch.optim.SGD):
        pass

    with pytest.raises(UsageError, match=r"Local is defined in a function or class, .* a module of its own"):
        path_of(Local)
    main = type("Mine", (torch.optim.SGD,), {"__module__": "__main__"})
    with pytest.raises(UsageError, match="Mine is defined in this script"):
        path_of(main)


def test_a_study_goes_on_with_a_class_in_every_process_and_by_its_name(
    here: Path, run_command: Callable[..., tuple[int, str, str]]
) -> None:
    begun = ("search", "--task", "digits", "--epochs", "1", "--train-examples", "128", "--workers", "1", "--optimizers")

    def done(*words: str) -> str:
        code, out, err = run_command(*words)
        assert code == 0, out + err
        return out + err

    printed = done(*begun, "sgd,some_classes:Lion", "--trials", "2")
    assert "lion is some_classes.Lion, searched by the defaults of its constructor: lr 1e-05 to 0.001, log" in printed
    # what the class says later changes nothing of a study that there is
    (here / "some_classes.py").write_text(CLASSES.replace("lr: float = 1e-4", "lr: float = 1.0"))
    done(*begun, "sgd,some_classes:Lion", "--trials", "3", "-q")
    done(*begun, "sgd,lion", "--trials", "4", "-q")
    assert "some_classes:Lion" in done("show", "digits")
    done("retrain", "1", "--study", "digits", "--epochs", "1", "--seeds", "1", "-q")
    assert "some_classes.Lion(" in done("export", "1", "--study", "digits")


def test_from_python_the_class_itself_will_do(here: Path) -> None:
    sys.path.insert(0, str(here))
    from some_classes import Lion

    how: dict[str, Any] = {"epochs": 1, "train_examples": 128, "trials": 2, "workers": 1, "progress": False}
    found = optitune.search("digits", optimizers=[Lion, "sgd"], **how)
    assert sorted(found.standings.optimizer) == ["lion", "sgd"]
    objective = optitune.Objective("digits", optimizers=[Lion], epochs=1, train_examples=128)
    assert objective.settings.own_paths() == {"lion": "some_classes:Lion"}


@pytest.mark.parametrize("name", ["lion", "lion_pytorch", "lion_pytorch.Lion"])
def test_an_unknown_optimizer_is_refused_with_how_to_add_it(
    name: str, here: Path, run_command: Callable[..., tuple[int, str, str]]
) -> None:
    code, _, err = run_command("search", "--task", "digits", "--optimizers", f"adam,{name}")
    assert code == 2
    assert f"unknown optimizer '{name}'" in err
    for way in ("module:Class, such as lion_pytorch:Lion", "[[optimizer]]", "entry point optitune.optimizers"):
        assert way in err


def test_a_class_is_shown_as_it_would_be_searched(here: Path, run_command: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = run_command("optimizers", "some_classes:Lion")
    assert code == 0
    assert "1e-05 to 0.001, log scale" in out
