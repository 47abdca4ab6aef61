"""Recorded trainings, and small worlds made of them, that several test files share."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from optitune.study.settings import StudySettings
from scripts.bench.quality.record import Curve, Provenance, path, read, write
from scripts.bench.quality.replay import Kind, World

RECORDS = "mnist-cnn", "mnist-net"
SMALL = "sgd", "adagrad"
"""The optimizers that compete in the small worlds."""


@cache
def recorded(task: str) -> tuple[Provenance, list[Curve]]:
    return read(path(task))


@cache
def settings() -> StudySettings:
    """Of the study whose trials the MLP's record has."""
    return StudySettings.model_validate(recorded("mnist-net")[0].settings)


@cache
def small_world(kind: Kind, without: Sequence[str] = ()) -> World:
    """A world of the MLP's record with two optimizers and a third of their Sobol points."""
    about, curves = recorded("mnist-net")
    about = about.model_copy(update={"settings": {**about.settings, "optimizers": list(SMALL)}})
    spare = {(each.optimizer, each.number) for each in curves if each.origin == "sobol" and each.number % 3}
    mine = [each for each in curves if each.optimizer in SMALL and (each.optimizer, each.number) not in spare]
    with TemporaryDirectory() as folder:
        record = Path(folder) / "small.jsonl.gz"
        write(record, about, mine)
        return World(record, kind, without)


def curve(optimizer: str = "sgd", number: int = 0, final: float = 0.9, seed: int = 0, **fields: Any) -> Curve:
    """A made-up training of two evaluations."""
    found: dict[str, Any] = {"origin": "sobol", "parameters": {"optimizer": optimizer, "gamma": 0.5}, **fields}
    return Curve(
        optimizer=optimizer,
        number=number,
        seed=seed,
        values=(0.5, final),
        losses=(1.0, 0.5),
        seconds=(0.1, 0.2),
        **found,
    )
