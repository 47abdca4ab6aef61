"""Searches replayed on recorded trainings, and what judges them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import FixedTrial, FrozenTrial, TrialState
from replay_worlds import SMALL, small_world

from optitune.sampling.parameters import first_parameters
from optitune.searching.objective import changes_ahead
from optitune.space import optimizers
from optitune.space.search_space import LR_FACTOR
from scripts.bench.quality.averages import mean_and_error
from scripts.bench.quality.own_space import WIDE_LR, schedule
from scripts.bench.quality.points import RECORDED
from scripts.bench.quality.repeats import FULL_TRAININGS, Repeat, read, repeat, tied
from scripts.bench.quality.report import at_the_end
from scripts.bench.quality.strategies import STRATEGIES, Step
from scripts.bench.quality.worlds import World

pytestmark = pytest.mark.wide

optuna.logging.set_verbosity(optuna.logging.ERROR)

BUDGET = 75.0
"""Epochs: enough for the models of TPE and of the Gaussian process, which begin at the eleventh trial."""

OURS = "optitune"

# judging


class MadeUp:
    """A world of two optimizers in which x tells the truth."""

    optimizers = "a", "b"
    epochs = 2
    maximize = True
    useless = 0.5
    median = 0.85
    truths = (0.92, 0.88, 0.93, 0.95)

    def __init__(self, spread: float = 0.01) -> None:
        self.best = {"a": 0.95, "b": 0.90}
        self.seconds = {"a": 1.0, "b": 3.0}
        self.spread = spread

    def unsearched(self, name: str) -> float:
        return {"a": 0.90, "b": 0.80}[name]

    def truth(self, parameters: Mapping[str, Any]) -> float:
        return self.truths[parameters["x"]]


def step(epochs: float, name: str, x: int, value: float | None) -> Step:
    return Step(epochs, {"optimizer": name, "x": x}, value)


STEPS = (
    step(3.0, "a", 0, 0.91),
    step(6.0, "b", 1, 0.95),
    step(7.0, "b", 3, None),
    step(10.0, "a", 2, 0.94),
    step(51.0, "a", 3, 0.99),
)
"""Of a budget of 50 epochs, of which a state is looked at every 2."""


def judged(steps: Sequence[Step], spread: float = 0.01) -> Repeat:
    def strategy(world: World, budget: float, seed: int) -> Iterator[Step]:
        assert (budget, seed) == (50.0, 7)
        yield from steps

    return repeat(MadeUp(spread), strategy, 7)  # type: ignore[arg-type]


def test_a_search_is_judged_by_the_truth_of_its_luckiest_trial_at_every_checkpoint() -> None:
    found = judged(STEPS)
    assert len(found.winner) == len(found.right) == len(found.own) == FULL_TRAININGS
    assert found.winner[0] is None
    assert found.winner[1:] == pytest.approx([0.03] + [0.07] * (FULL_TRAININGS - 2))
    assert found.right == [False, True] + [False] * (FULL_TRAININGS - 2)
    assert (found.seed, found.trials) == (7, 4)


def test_an_optimizers_own_regret_starts_from_its_known_good_settings() -> None:
    assert judged(STEPS).own == pytest.approx([0.075, 0.065, 0.025, 0.025] + [0.02] * (FULL_TRAININGS - 4))


def test_what_ends_after_the_budget_does_not_count_and_at_it_does() -> None:
    assert judged((step(50.5, "a", 3, 0.99),)).winner == [None] * FULL_TRAININGS
    just = judged((step(50.0, "a", 3, 0.99),))
    assert just.winner == [None] * (FULL_TRAININGS - 1) + [0.0]
    assert just.trials == 1


def test_an_optimizer_tied_with_the_best_is_right() -> None:
    assert tied(MadeUp(0.01)) == {"a"}  # type: ignore[arg-type]
    assert tied(MadeUp(0.05)) == {"a", "b"}  # type: ignore[arg-type]
    assert judged(STEPS, spread=0.05).right == [False] + [True] * (FULL_TRAININGS - 1)


def test_a_budget_in_seconds_is_that_of_full_trainings_at_the_mean_cost_of_all_optimizers() -> None:
    def strategy(world: World, budget: float, seed: int) -> Iterator[Step]:
        # as many epochs as the cheapest optimizer could have
        assert budget == 2 * 2 * 2.0
        yield from (step(2.0, "a", 0, 0.91), step(3.0, "b", 1, 0.95), step(5.5, "a", 3, 0.99))

    found = repeat(MadeUp(), strategy, 7, trainings=2, budget_in="seconds")  # type: ignore[arg-type]
    # after 2, 5 and 7.5 of 8 seconds
    assert found.winner == pytest.approx([0.03, 0.0])
    assert found.trials == 3
    assert found.unit == pytest.approx(0.1)
    assert found.normalised == pytest.approx([0.3, 0.0])


def test_a_loss_is_better_where_it_is_lower() -> None:
    class Loss(MadeUp):
        maximize = False
        useless = 1.0
        median = 0.99

    def strategy(world: World, budget: float, seed: int) -> Iterator[Step]:
        yield from (step(2.0, "a", 3, 0.94), step(4.0, "a", 2, 0.93), step(6.0, "b", 0, 0.95))

    found = repeat(Loss(), strategy, 7, trainings=3)  # type: ignore[arg-type]
    assert found.winner == pytest.approx([0.05, 0.03, 0.03])


def test_repeats_are_read_up_to_a_torn_last_line(tmp_path: Path) -> None:
    file = tmp_path / "world.search.jsonl"
    assert read(file) == []
    found = judged(STEPS)
    file.write_text(found.model_dump_json() + "\n" + found.model_dump_json()[:30])
    assert read(file) == [found]


def test_means_come_with_their_standard_error() -> None:
    assert mean_and_error([1.0, 2.0, 3.0]) == pytest.approx((2.0, 1 / 3**0.5))
    assert mean_and_error(each for each in (True, False)) == pytest.approx((0.5, 0.5))


def test_the_report_counts_a_search_without_winner_as_the_worst() -> None:
    ends: list[float | None] = [0.01, None, 0.03]
    repeats = [
        Repeat(
            seed=seed,
            winner=[None, end],
            right=[True, seed > 0],
            own=[1.0, 0.1],
            trials=seed,
            seconds=0.001 * seed,
            unit=0.1,
        )
        for seed, end in enumerate(ends)
    ]
    found = at_the_end(repeats, without_winner=0.08)
    assert found["winner"] == pytest.approx((0.04, float(np.std([0.01, 0.08, 0.03], ddof=1)) / 3**0.5))
    assert found["right"][0] == pytest.approx(2 / 3)
    assert found["own"] == pytest.approx((0.1, 0.0))
    assert (found["trials"], found["repeats"]) == (1.0, 3)
    assert found["ms"] == pytest.approx(1.0)


# searches


@cache
def searched(name: str, seed: int = 0) -> list[Step]:
    return list(STRATEGIES[name](small_world("fitted"), BUDGET, seed))


def parameters(steps: Sequence[Step]) -> list[dict[str, Any]]:
    return [each.parameters for each in steps]


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("name", STRATEGIES)
def test_a_search_spends_its_epochs_on_configurations_that_the_world_knows(name: str) -> None:
    world, steps = small_world("fitted"), searched(name)
    spent = [each.epochs for each in steps]
    assert spent == sorted(spent)
    assert all(each < BUDGET for each in spent[:-1])
    assert BUDGET <= spent[-1] <= BUDGET + world.settings.epochs
    for each in steps:
        assert each.parameters["optimizer"] in SMALL
        assert RECORDED[0] <= each.parameters[LR_FACTOR] <= RECORDED[1]
        assert 0 <= world.truth(each.parameters) <= 1
    complete = [each.value for each in steps if each.value is not None]
    assert complete
    assert all(0 <= value <= 1 for value in complete)


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("name", STRATEGIES)
def test_a_search_follows_from_its_seed(name: str) -> None:
    again = list(STRATEGIES[name](small_world("fitted"), BUDGET, 0))
    assert again == searched(name)
    assert parameters(searched(name, 1)) != parameters(again)


@pytest.mark.parametrize("name", ["random-wide", "tpe-median-wide"])
def test_a_plain_user_looks_at_the_same_learning_rates_whatever_the_optimizer(name: str) -> None:
    steps = searched(name)
    lrs = [each.parameters[LR_FACTOR] * optimizers.find(each.parameters["optimizer"]).lr for each in steps]
    inner = [lr for lr, each in zip(lrs, steps, strict=True) if RECORDED[0] < each.parameters[LR_FACTOR] < RECORDED[1]]
    assert all(WIDE_LR[0] <= lr <= WIDE_LR[1] for lr in inner)
    assert min(inner) < 1e-3 < 1e-2 < max(inner)


def test_our_search_begins_with_its_first_tries_in_their_order() -> None:
    world = small_world("fitted")
    known = [world.suggest(FixedTrial(each)) for each in first_parameters(world.settings)]
    assert parameters(searched(OURS))[: len(known)] == known
    assert len({each["optimizer"] for each in known}) == len(SMALL) < len(known)


def test_our_search_gives_every_optimizer_about_half_of_an_equal_share_of_the_epochs_at_least() -> None:
    spent = dict.fromkeys(SMALL, 0.0)
    before = 0.0
    for each in searched("optitune"):
        spent[each.parameters["optimizer"]] += each.epochs - before
        before = each.epochs
    assert min(spent.values()) >= 0.4 * sum(spent.values()) / len(spent)


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[FrozenTrial]]:
    """Name of a search -> the trials of the study that it makes."""
    create = optuna.create_study

    def run(name: str) -> list[FrozenTrial]:
        studies: list[optuna.Study] = []

        def created(**options: Any) -> optuna.Study:
            studies.append(create(**options))
            return studies[-1]

        monkeypatch.setattr(optuna, "create_study", created)
        ended = len(list(STRATEGIES[name](small_world("fitted"), BUDGET, 0)))
        (study,) = studies
        assert len(study.trials) == ended
        return study.trials

    return run


def test_our_trials_say_how_far_their_learning_rate_is_still_to_fall(
    trials: Callable[[str], list[FrozenTrial]],
) -> None:
    found = trials(OURS)
    for each in found:
        assert each.user_attrs["lr_ahead"] == changes_ahead(schedule(each.params), epochs=5, evaluations=4, usual=4)
    # the first known-good settings: to a tenth after the fourth epoch, of four evaluations each
    assert (found[0].params["step_size"], found[0].params["gamma"]) == (4, 0.1)
    assert found[0].user_attrs["lr_ahead"] == {"16": -1.0}
    assert len({tuple(each.user_attrs["lr_ahead"].items()) for each in found}) > 5


@pytest.mark.parametrize(("name", "every"), [("optitune", 1), ("tpe-median", 4)])
def test_our_trials_are_judged_at_every_evaluation_and_those_of_others_after_every_epoch(
    name: str, every: int, trials: Callable[[str], list[FrozenTrial]]
) -> None:
    found = trials(name)
    whole = [list(each.intermediate_values) for each in found if each.state == TrialState.COMPLETE]
    assert whole
    assert all(steps == list(range(every, 21, every)) for steps in whole)
    stopped = [each.last_step for each in found if each.state == TrialState.PRUNED]
    assert stopped
    assert all(step is not None and step < 20 for step in stopped)
