"""Damaged results: what a comparison and a full training left, read by all commands that read it."""

import inspect
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from bad_input import (
    Answer,
    Change,
    answer,
    battery,
    byte_changes,
    check_whole,
    document_changes,
    files,
    quick_storage,
    with_changes,
    with_damage,
)
from hypothesis import given
from hypothesis import strategies as st
from report_world import LEVEL, home, mistakes, stored, subject

from optitune.common import checkpoint
from optitune.common.files import write_text
from optitune.comparing.kept_runs import save_run
from optitune.retraining.mistakes import MISTAKES, save_mistakes
from optitune.retraining.records import EpochRecord, SeedResult
from optitune.retraining.results import FullPlan
from optitune.statistics.runs import TUNED, Plan, Point, Run, RunId

pytestmark = pytest.mark.wide

COMPARED, TRAINED = "studies/digits/compare", "studies/digits/retrain/best"


class MadeUpWorkers:
    """In place of processes that train: what they would leave, at once."""

    def __init__(self, target: Callable[..., None], jobs: Sequence[Sequence[Any]], *_: Any, **__: Any) -> None:
        self.jobs = [inspect.signature(target).bind(None, *job).arguments for job in jobs]

    def run(self) -> None:
        for job in self.jobs:
            if isinstance(job["plan"], FullPlan):
                for number in job["numbers"]:
                    made_up_training(job["plan"], number, job["partial"])
            else:
                for key in job["keys"]:
                    save_run(job["folder"], made_up_run(job["plan"], key))


def made_up_run(plan: Plan, key: RunId) -> Run:
    value = LEVEL[key.optimizer] + 0.0007 * (hash((key.round, len(key.optimizer))) % 7) - 0.01 * (key.variant != TUNED)
    curve = tuple(Point(epoch, 1.5 * epoch, value - 0.2 * 0.5**epoch, 0.1) for epoch in range(1, plan.epochs + 1))
    return Run(key, "", curve[-1].value, 0.1, 1.5 * plan.epochs, 4_000, 4_000, curve)


def made_up_training(plan: FullPlan, number: int, partial: Path) -> None:
    epochs = (EpochRecord(1, 0.1, 0.5, 0.9),)
    result = SeedResult(plan.seeds[number], 0.98 + 0.001 * number, 0.07, 20.0, epochs, ((35, 1), (0, 35)))
    document = {"plan": plan.model_dump(), "runs": [asdict(result)]}
    write_text(partial / f"seed-{number}.json", json.dumps(document))
    if number == 0:
        weights = {"fc.weight": torch.zeros(2, 2)}
        checkpoint.save({"training": {"model": weights}}, partial / "seed-0.safetensors", durable=False)
        save_mistakes(mistakes(), partial / MISTAKES)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a study that was searched, compared and trained in full, all of it made up."""
    around = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        quick_storage(patch)
        patch.chdir(around)
        for name in ("OPTITUNE_DATA_DIR", "OPTITUNE_STUDIES_DIR", "OPTITUNE_STORAGE"):
            patch.delenv(name, raising=False)
        patch.setattr("optitune.workers.pool.warm_up", lambda *_: None)
        patch.setattr("optitune.comparing.run.Pool", MadeUpWorkers)
        patch.setattr("optitune.retraining.seeds.Pool", MadeUpWorkers)
        patch.setattr("optitune.retraining.folder.training_curves", lambda *told: told[-1].touch())
        patch.setattr("optitune.report.rendering.svg", lambda panel: "<svg></svg>")
        stored(home(around), subject(("sgd", "adam"), stage="searched"))
        assert answer("compare", "--quiet").code == 0
        assert answer("retrain", "--quiet").code == 0
        yield around


@pytest.fixture(scope="module")
def kept(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(world, tmp_path_factory.mktemp("kept") / "copy"))


KINDS = {
    f"{COMPARED}/verdict.json": "json",
    f"{COMPARED}/plan.json": "json",
    f"{COMPARED}/runs/00-sgd.safetensors": "checkpoint",
    f"{COMPARED}/runs/03-adam.safetensors": "checkpoint",
    f"{TRAINED}/metrics.json": "json",
    f"{TRAINED}/{MISTAKES}": "checkpoint",
    f"{TRAINED}/model.safetensors": "bytes",
}
"""What is damaged, by what it is."""


def damage(path: Path, kind: str, how: str, changes: list[Change]) -> None:
    """Make a file say something else, hold other bytes, be that of another place, a folder, or gone."""
    if how == "values" and kind == "json":
        path.write_text(json.dumps(with_changes(json.loads(path.read_bytes()), changes)))
    elif how == "values" and kind == "checkpoint":
        # not by chance, as it has its checksums: by another version, or a hand
        checkpoint.save(with_changes(checkpoint.load(path), changes), path, durable=False)
    elif how == "bytes":
        path.write_bytes(with_damage(path.read_bytes(), changes))
    elif how == "other":
        others = sorted(each for each in path.parent.iterdir() if each != path and each.is_file())
        shutil.copy(others[changes[0].place % len(others)], path)
    else:
        path.unlink()
        if how == "folder":
            path.mkdir()


damages = st.one_of(
    st.tuples(st.just("values"), document_changes),
    st.tuples(st.just("bytes"), byte_changes),
    st.tuples(st.sampled_from(["other", "gone", "folder"]), byte_changes),
)

READERS = (
    ("show",),
    ("show", "--json"),
    ("report",),
    ("report",),
    ("report", "--json"),
    ("export", "best"),
    ("studies", "--json"),
)


def survived(world: Path, kept: Path, name: str, how: tuple[str, list[Change]], words: Sequence[str]) -> Answer:
    """Run a command with a damaged file: what it says is whole, and so is what it leaves; then put all back."""
    try:
        damage(world / name, KINDS[name], *how)
        before = files(world)
        given = answer(*words)
        if "--json" in words:
            assert isinstance(json.loads(given.out, parse_constant=pytest.fail), dict)
        check_whole(world, before)
        return given
    finally:
        for path in world.iterdir():
            shutil.rmtree(path)
        shutil.copytree(kept, world, dirs_exist_ok=True)


@battery
@given(name=st.sampled_from(sorted(KINDS)), how=damages, words=st.sampled_from(READERS))
def test_a_damaged_comparison_or_training_is_told_or_refused(
    world: Path, kept: Path, name: str, how: tuple[str, list[Change]], words: tuple[str, ...]
) -> None:
    assert survived(world, kept, name, how, words).code == 0 or words[0] == "report"


@battery
@given(
    name=st.sampled_from([name for name in sorted(KINDS) if name.startswith(COMPARED)]),
    how=damages,
    more=st.sampled_from([(), ("--max-runs", "30"), ("--epochs", "7"), ("--seed", "3"), ("--epsilon", "0.2")]),
)
def test_a_damaged_comparison_goes_on_or_is_refused(
    world: Path, kept: Path, name: str, how: tuple[str, list[Change]], more: tuple[str, ...]
) -> None:
    survived(world, kept, name, how, ("compare", "--json", *more))


@battery
@given(
    name=st.sampled_from([name for name in sorted(KINDS) if not name.endswith(MISTAKES)]),
    how=damages,
    more=st.sampled_from([(), (), ("--seeds", "2"), ("--epochs", "4")]),
)
def test_a_damaged_training_is_done_again_or_refused(
    world: Path, kept: Path, name: str, how: tuple[str, list[Change]], more: tuple[str, ...]
) -> None:
    survived(world, kept, name, how, ("retrain", "--json", *more))
