"""One search replayed on a recorded world, looked at as it goes: what `run.py` keeps and `report.py` sums up."""

import time
from functools import cache
from pathlib import Path
from typing import Any

from optitune.sampling.allocation import competitors, racing
from scripts.bench.quality.record import Row, path
from scripts.bench.quality.replay import World
from scripts.bench.quality.strategies import Strategy

FULL_TRAININGS = 25
CHECKPOINTS = 25
"""How many times between the start and the end of a search its state is looked at."""

WORLDS: dict[str, tuple[str, Any, tuple[str, ...]]] = {
    "mnist-cnn": ("mnist-cnn", "fitted", ()),
    "mnist-cnn-without-muon": ("mnist-cnn", "fitted", ("muon",)),
    "mnist-cnn-nearest": ("mnist-cnn", "nearest", ()),
    "mnist-net": ("mnist-net", "fitted", ()),
}
"""Record, kind of world, and who does not compete."""

RESULTS = Path("build") / "quality"
"""Where repeats are kept, a file for each world and search."""


class Repeat(Row):
    """One search, looked at `CHECKPOINTS` times.

    Attributes:
        winner: regret of the best complete trial's configuration; None while there is none.
        right: whether its optimizer is the best, or tied with it.
        own: mean over optimizers of the regret of each one's own best complete trial.
        trials: that ended within the budget.
        dropped: who racing leaves out in the end, or would.
        seconds: of processor time per trial, the search's own.
    """

    seed: int
    winner: list[float | None]
    right: list[bool]
    own: list[float]
    trials: int
    seconds: float
    dropped: tuple[str, ...] = ()


@cache
def world(name: str) -> World:
    record, kind, without = WORLDS[name]
    return World(path(record), kind, without)


def tied(world: World) -> set[str]:
    """The optimizers whose best is within two standard errors of the best, if five runs of each were compared."""
    top = max(world.best.values())
    return {name for name, best in world.best.items() if top - best <= 2 * world.spread * (2 / 5) ** 0.5}


def repeat(world: World, strategy: Strategy, seed: int) -> Repeat:
    """Run one search and look at it as it goes."""
    best, budget = world.best, float(FULL_TRAININGS * world.settings.epochs)
    good = tied(world)
    # an optimizer that never came through, or only failed, is used with its known-good settings
    own = {name: (world.useless, world.known_good(name)) for name in best}
    won: tuple[float, float, str] | None = None
    grid = [budget * (number + 1) / CHECKPOINTS for number in range(CHECKPOINTS)]
    winner: list[float | None] = []
    right: list[bool] = []
    owns: list[float] = []
    trials = 0

    def look() -> None:
        winner.append(None if won is None else max(best.values()) - won[1])
        right.append(won is not None and won[2] in good)
        owns.append(sum(best[name] - own[name][1] for name in best) / len(best))

    began = time.process_time()
    for step in strategy(world, budget, seed):
        while len(winner) < CHECKPOINTS and grid[len(winner)] < step.epochs:
            look()
        if step.epochs > budget:
            break
        trials += 1
        name = step.parameters["optimizer"]
        if step.value is not None and step.value > own[name][0]:
            truth = world.truth(step.parameters)
            own[name] = step.value, truth
            if won is None or step.value > won[0]:
                won = step.value, truth, name
    seconds = (time.process_time() - began) / max(1, trials)
    while len(winner) < CHECKPOINTS:
        look()
    dropped: tuple[str, ...] = ()
    if step.study is not None:
        kept = racing(competitors(step.study.get_trials(deepcopy=False), best, maximize=True, ideal=1.0))
        dropped = tuple(name for name in best if name not in kept)
    return Repeat(seed=seed, winner=winner, right=right, own=owns, trials=trials, seconds=seconds, dropped=dropped)


def read(file: Path) -> list[Repeat]:
    """Repeats that were kept; a last line that was cut off is left out."""
    if not file.exists():
        return []
    text = file.read_text()
    return [Repeat.model_validate_json(line) for line in text[: text.rfind("\n") + 1].splitlines()]
