"""One search replayed in a world, looked at as it goes: what `run.py` keeps and `report.py` sums up."""

import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Literal

from scripts.bench.quality import published
from scripts.bench.quality.learned_list import learned_without
from scripts.bench.quality.record import Row, path, recorded
from scripts.bench.quality.replay import Kind
from scripts.bench.quality.replay import World as Recorded
from scripts.bench.quality.strategies import Strategy
from scripts.bench.quality.worlds import World, behind, better, regret, unit

FULL_TRAININGS = 25
"""What a search may spend, unless said otherwise."""

MNIST = "mnist-cnn", "mnist-net"


def _recorded(task: str, kind: Kind = "fitted", without: tuple[str, ...] = ()) -> World:
    """The world of a task of our own; the list of what is tried first there is learned from all others."""
    return Recorded(path(task), kind, without, partial(learned_without, task))


WORLDS: dict[str, Callable[[], World]] = {
    "mnist-cnn": partial(_recorded, "mnist-cnn"),
    "mnist-cnn-without-muon": partial(_recorded, "mnist-cnn", without=("muon",)),
    "mnist-cnn-nearest": partial(_recorded, "mnist-cnn", "nearest"),
    "mnist-net": partial(_recorded, "mnist-net"),
    **{f"small-{task}": partial(_recorded, task) for task in recorded() if task not in MNIST},
}
"""The worlds of our own records."""

RESULTS = Path("build") / "quality"
"""Where repeats are kept, a file for each world and search."""

BudgetIn = Literal["epochs", "seconds"]


class Repeat(Row):
    """One search, looked at after every full training's worth of its budget.

    Attributes:
        winner: regret of the best complete trial's configuration; None while there is none.
        right: whether its optimizer is the best, or tied with it.
        own: mean over optimizers of the regret of each one's own best complete trial.
        trials: that ended within the budget.
        seconds: of processor time per trial, the search's own.
        unit: the regret of the median recorded configuration.
    """

    seed: int
    winner: list[float | None]
    right: list[bool]
    own: list[float]
    trials: int
    seconds: float
    unit: float

    @property
    def normalised(self) -> list[float]:
        """The winner's regret in units, 1 at most and where there is no winner."""
        return [1.0 if each is None else min(1.0, each / self.unit) for each in self.winner]


def worlds(records: Path | None) -> Mapping[str, Callable[[], World]]:
    """The worlds by name: of our own records, and of those that others made where their folder is given."""
    return WORLDS if records is None else {**WORLDS, **published.worlds(records)}


def tied(world: World) -> set[str]:
    """The optimizers whose best is within two standard errors of the best, if five runs of each were compared."""
    return {name for name, best in world.best.items() if regret(world, best) <= 2 * world.spread * (2 / 5) ** 0.5}


def repeat(
    world: World, strategy: Strategy, seed: int, trainings: int = FULL_TRAININGS, budget_in: BudgetIn = "epochs"
) -> Repeat:
    """Run one search and look at it as it goes.

    Args:
        trainings: full trainings that it may spend.
        budget_in: what they are counted in; a full training's seconds are the mean over optimizers.
    """
    cost: Mapping[str, float] = dict.fromkeys(world.optimizers, 1.0) if budget_in == "epochs" else world.seconds
    training = world.epochs * sum(cost.values()) / len(cost)
    epochs = float(trainings * world.epochs)
    good = tied(world)
    # an optimizer that never came through, or only failed, is used with its known-good settings
    own = {name: (world.useless, world.unsearched(name)) for name in world.optimizers}
    won: tuple[float, float, str] | None = None
    winner: list[float | None] = []
    right: list[bool] = []
    owns: list[float] = []
    trials, before, spent = 0, 0.0, 0.0

    def look() -> None:
        winner.append(None if won is None else regret(world, won[1]))
        right.append(won is not None and won[2] in good)
        owns.append(sum(behind(world, own[name][1], world.best[name]) for name in own) / len(own))

    began = time.process_time()
    for step in strategy(world, epochs * max(1.0, training / world.epochs / min(cost.values())), seed):
        name = step.parameters["optimizer"]
        spent, before = spent + (step.epochs - before) * cost[name], step.epochs
        while len(winner) < trainings and training * (len(winner) + 1) < spent:
            look()
        if spent > training * trainings:
            break
        trials += 1
        if step.value is not None and better(world, step.value, own[name][0]):
            truth = world.truth(step.parameters)
            own[name] = step.value, truth
            if won is None or better(world, step.value, won[0]):
                won = step.value, truth, name
    taken = (time.process_time() - began) / max(1, trials)
    while len(winner) < trainings:
        look()
    return Repeat(seed=seed, winner=winner, right=right, own=owns, trials=trials, seconds=taken, unit=unit(world))


def read(file: Path) -> list[Repeat]:
    """Repeats that were kept; a last line that was cut off is left out."""
    if not file.exists():
        return []
    text = file.read_text()
    return [Repeat.model_validate_json(line) for line in text[: text.rfind("\n") + 1].splitlines()]
