"""What the stages write down as they go, in the order in which their workers report it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from optitune.cli.main import run
from optitune.errors import OptituneError, UsageError
from optitune.tracking import trackers
from optitune.tracking.trackers import Fact, Guarded, check


class Kept:
    """A tracker that keeps what it is given."""

    def __init__(self, study: str, folder: Path, place: str) -> None:
        self.study, self.place = study, place
        self.facts: dict[str, dict[str, Fact]] = {}
        self.curves: dict[str, dict[str, list[tuple[int, float]]]] = {}
        self.ends: dict[str, tuple[Mapping[str, float], bool]] = {}
        self.closed = 0

    def begin(self, run: str, facts: Mapping[str, Fact]) -> None:
        self.facts.setdefault(run, {}).update(facts)

    def value(self, run: str, name: str, value: float, step: int) -> None:
        assert run in self.facts
        self.curves.setdefault(run, {}).setdefault(name, []).append((step, value))

    def end(self, run: str, facts: Mapping[str, Fact], came_to: Mapping[str, float], failed: bool) -> None:
        self.facts.setdefault(run, {}).update(facts)
        self.ends[run] = came_to, failed

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[Kept]:
    """What is logged to `tensorboard`, a tracker for each command."""
    made: list[Kept] = []

    def make(*given: Any) -> Kept:
        made.append(Kept(*given))
        return made[-1]

    monkeypatch.setitem(trackers.KINDS, "tensorboard", ("tensorboard", "json", make))
    return made


def test_every_training_of_the_three_stages_is_written_down(kept: list[Kept], tmp_path: Path) -> None:
    place = ["--studies-dir", str(tmp_path), "--quiet"]
    words = "search --task digits --epochs 2 --trials 3 --optimizers sgd,adam --pruner none --schedules constant"
    assert run([*words.split(), "--log", "tensorboard=there", *place]) == 0
    assert run(["compare", "digits", "--max-runs", "4", "--sensitivity", "0", "--log", "tensorboard", *place]) == 0
    assert run(["retrain", "best", "--epochs", "2", "--seeds", "1", "--log", "tensorboard", *place]) == 0
    search, compare, retrain = kept
    assert (search.study, search.place, search.closed) == ("digits", "there", 1)
    assert sorted(search.facts) == ["trial-0000-adam", "trial-0001-sgd", "trial-0002-sgd"]
    for name, curves in search.curves.items():
        steps = [step for step, _ in curves["validation/accuracy"]]
        assert steps == sorted(set(steps))
        assert steps[-1] % 2 == 0
        assert search.facts[name]["outcome"] == "complete"
        assert search.ends[name] == ({"validation/accuracy": curves["validation/accuracy"][-1][1]}, False)
    assert search.facts["trial-0000-adam"]["lr"] == 0.001
    assert sorted(compare.ends) == [
        f"compare-round-{number:02d}-{name}" for number in (1, 2) for name in ("adam", "sgd")
    ]
    assert all(0 < found["validation/accuracy"] <= 1 for found, _ in compare.ends.values())
    (name,) = retrain.ends
    assert name == "retrain-best-2-epochs-seed-1"
    assert list(retrain.ends[name][0]) == ["test/accuracy"]
    assert [step for step, _ in retrain.curves[name]["train/loss"]] == [1, 2]


def test_a_tracker_that_fails_is_left_out_and_said_once(tmp_path: Path) -> None:
    class Broken(Kept):
        def value(self, run: str, name: str, value: float, step: int) -> None:
            raise ConnectionError("no answer from https://me:secret@there/api")

    said: list[str] = []
    good, bad = Kept("x", tmp_path, ""), Broken("x", tmp_path, "")
    both = Guarded({"good": good, "bad": bad}, said.append)
    both.do(lambda each: each.begin("r", {}))
    for step in range(2):
        both.do(lambda each, step=step: each.value("r", "v", 0.5, step))  # type: ignore[misc]
    assert good.curves == {"r": {"v": [(0, 0.5), (1, 0.5)]}}
    assert said == ["no longer logged to bad: no answer from https://***@there/api"]


@pytest.mark.parametrize(
    ("log", "error", "why"),
    [
        (["paper"], UsageError, "log = 'paper': must be one of tensorboard, mlflow, wandb"),
        (["wandb", "wandb=mine"], UsageError, "wandb was given 2 times"),
        (["nothing"], OptituneError, r"a-package is not installed: run pip install 'optitune\[nothing\]'"),
    ],
)
def test_a_log_that_cannot_be_is_refused(
    log: list[str], error: type[Exception], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in trackers.KINDS:
        monkeypatch.setitem(trackers.KINDS, name, (name, "json", Kept))
    if error is OptituneError:
        monkeypatch.setitem(trackers.KINDS, "nothing", ("a-package", "a_module_that_is_not_there", Kept))
    with pytest.raises(error, match=why):
        check(log)


def test_a_wrong_log_is_refused_before_anything_is_made(
    run_command: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    code, _, err = run_command("search", "--task", "digits", "--log", "paper", "--studies-dir", str(tmp_path))
    assert code == 2
    assert err.startswith("error: log = 'paper': must be one of ")
    assert not list(tmp_path.iterdir())
