"""Searches replayed on recorded trainings: the records, the worlds made of them, the searches and what judges them."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import process
import pytest
from bench_search_quality import CHECKPOINTS, Repeat, read, repeat, tied
from coordinates import MIDDLE, OPTION, Coordinates, place_of, value_at
from curve_record import Curve, Provenance, path
from curve_record import read as read_record
from curve_record import write as write_record
from forecast import WORST, Forecast, ForecastPruner, height
from hypothesis import given
from hypothesis import strategies as st
from joint import JointSampler, _Known, _Model, improvement, standardised
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FixedTrial, FrozenTrial, TrialState, create_trial
from quality_report import at_the_end, mean_and_error
from record_curves import BEST_OF_EACH, BEYOND, FRESH_SEEDS, OPTIMIZERS, OUTER, SEED, SOBOL, again, kept, sample
from replay import FAILED, Replayed, World, accuracy, drawn, logarithm
from scipy.optimize import approx_fprime
from scipy.stats import norm
from strategies import RECORDED, STRATEGIES, Step, ahead, epochs_of_drop, even_fall

from optitune.objective import first_parameters, suggest
from optitune.search_space import LR_FACTOR
from optitune.settings import StudySettings

RECORDS = "mnist-cnn", "mnist-net"
SMALL = "sgd", "adagrad"

optuna.logging.set_verbosity(optuna.logging.ERROR)


@pytest.fixture(scope="module")
def recorded() -> dict[str, tuple[Provenance, list[Curve]]]:
    return {task: read_record(path(task)) for task in RECORDS}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, recorded: dict[str, tuple[Provenance, list[Curve]]]) -> Path:
    """The record of the MLP with two optimizers and a third of their Sobol points."""
    about, curves = recorded["mnist-net"]
    about = about.model_copy(update={"settings": {**about.settings, "optimizers": list(SMALL)}})
    spare = {(each.optimizer, each.number) for each in curves if each.origin == "sobol" and each.number % 3}
    to = tmp_path_factory.mktemp("record") / "small.jsonl.gz"
    mine = [each for each in curves if each.optimizer in SMALL and (each.optimizer, each.number) not in spare]
    write_record(to, about, mine)
    return to


@pytest.fixture(scope="module")
def worlds(small: Path) -> dict[str, World]:
    return {"fitted": World(small, "fitted"), "nearest": World(small, "nearest")}


def curve(optimizer: str = "sgd", number: int = 0, final: float = 0.9, seed: int = 0, **fields: Any) -> Curve:
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


# the record


def test_a_record_reads_back_as_it_was_written_and_twice_the_same_bytes(
    tmp_path: Path, recorded: dict[str, tuple[Provenance, list[Curve]]]
) -> None:
    about, _ = recorded["mnist-net"]
    curves = [curve(), curve(number=1, diverged=7), curve("adam", 2, seed=3, origin="again")]
    for name in ("one", "two"):
        write_record(tmp_path / name, about, curves)
    assert read_record(tmp_path / "one") == (about, curves)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    # the time in the head of a gzip file, which would differ a second later
    assert (tmp_path / "one").read_bytes()[4:8] == bytes(4)


def test_a_training_that_diverged_comes_to_nothing() -> None:
    assert curve(final=0.8).final == 0.8
    assert curve(final=0.8, diverged=3).final == 0.0


@pytest.mark.parametrize("task", RECORDS)
def test_the_records_are_small_and_hold_enough_of_every_optimizer(
    task: str, recorded: dict[str, tuple[Provenance, list[Curve]]]
) -> None:
    about, curves = recorded[task]
    assert path(task).stat().st_size < 2_000_000
    assert about.task == task
    names = set(about.settings["optimizers"])
    assert len(names) >= 8
    sobol = Counter(each.optimizer for each in curves if each.origin == "sobol")
    assert sobol.keys() == names
    assert len(set(sobol.values())) == 1
    assert {each.optimizer for each in curves if each.origin == "known-good"} == names
    assert len({each.key for each in curves}) == len(curves)
    assert len({(each.optimizer, each.number) for each in curves}) >= 600
    seeds = Counter((each.optimizer, each.number) for each in curves if each.origin == "again")
    assert sum(number == 5 for number in seeds.values()) >= 20
    # World.known_good takes the first of each optimizer for known-good
    assert all(each.origin == "known-good" for each in curves if each.number == 0 and each.seed == 0)


@pytest.mark.parametrize("task", RECORDS)
def test_a_repeated_training_has_the_parameters_of_the_first_and_whole_curves_have_all_values(
    task: str, recorded: dict[str, tuple[Provenance, list[Curve]]]
) -> None:
    about, curves = recorded[task]
    first = {(each.optimizer, each.number): each.parameters for each in curves if each.origin != "again"}
    assert all(each.parameters == first[each.optimizer, each.number] for each in curves)
    whole = about.evaluations * about.settings["epochs"]
    for each in curves:
        assert len(each.values) == len(each.losses) == len(each.seconds)
        assert len(each.values) == whole or (each.diverged is not None and len(each.values) < whole)


# recording


@pytest.fixture(scope="module")
def settings(recorded: dict[str, tuple[Provenance, list[Curve]]]) -> StudySettings:
    return StudySettings.model_validate(recorded["mnist-net"][0].settings)


@pytest.fixture(scope="module")
def sampled(settings: StudySettings) -> list[Any]:
    return sample(settings)


def test_the_sample_takes_optimizers_in_turn_with_equal_numbers_and_is_the_same_again(
    settings: StudySettings, sampled: list[Any]
) -> None:
    assert sampled == sample(settings)
    assert tuple(name for name, *_ in sampled[: len(OPTIMIZERS)]) == OPTIMIZERS
    assert [number for _, number, *_ in sampled] == sorted(number for _, number, *_ in sampled)
    counts = Counter((name, origin) for name, _, origin, _, _ in sampled)
    assert all(counts[name, "sobol"] == SOBOL and counts[name, "outer"] == OUTER for name in OPTIMIZERS)
    assert all(counts[name, "known-good"] >= 1 for name in OPTIMIZERS)
    assert all(parameters["optimizer"] == name and seed == SEED for name, _, _, parameters, seed in sampled)


def test_sampled_configurations_lie_within_the_ranges_but_for_outer_learning_rates(
    settings: StudySettings, sampled: list[Any]
) -> None:
    space = settings.space()
    for _, _, origin, parameters, _ in sampled:
        if origin == "outer":
            factor = parameters[LR_FACTOR]
            assert any(low <= factor <= high for low, high in BEYOND)
        within = {**parameters, LR_FACTOR: 1.0} if origin == "outer" else parameters
        # warns, which is an error here, of what is outside its range
        suggest(FixedTrial(within), settings, space)


def test_outer_learning_rates_are_outside_the_ranges(settings: StudySettings, sampled: list[Any]) -> None:
    outer = next(parameters for _, _, origin, parameters, _ in sampled if origin == "outer")
    with pytest.warns(UserWarning, match=LR_FACTOR):
        suggest(FixedTrial(outer), settings, settings.space())


def test_the_best_of_all_and_of_each_optimizer_are_trained_again() -> None:
    many = [curve("adam", number, 0.9 + number / 1_000) for number in range(30)]
    few = [curve("sgd", number, 0.6 + number / 1_000) for number in range(10)]
    luck = [curve("sgd", 0, 0.99, seed=1, origin="again")]
    todo = again(few + many + luck)
    assert {(name, number) for name, number, *_ in todo if name == "adam"} == {("adam", each) for each in range(10, 30)}
    assert {number for name, number, *_ in todo if name == "sgd"} == set(range(10 - BEST_OF_EACH, 10))
    assert len(todo) == (20 + BEST_OF_EACH) * FRESH_SEEDS
    assert {seed for *_, seed in todo} == set(range(1, FRESH_SEEDS + 1))
    assert all(origin == "again" for _, _, origin, _, _ in todo)


def test_a_torn_last_line_of_the_log_is_cut_off_and_the_rest_kept(tmp_path: Path) -> None:
    log_file = tmp_path / "log.jsonl"
    assert kept(log_file) == []
    curves = [curve(), curve("adam", 1)]
    whole = "".join(each.model_dump_json() + "\n" for each in curves)
    log_file.write_text(whole + curves[0].model_dump_json()[:20])
    assert kept(log_file) == curves
    assert log_file.read_text() == whole
    assert kept(log_file) == curves


# replay


def test_accuracy_undoes_the_logarithm() -> None:
    values = np.array([0.1, 0.5, 0.9, 0.99])
    assert accuracy(logarithm(values)) == pytest.approx(values)
    assert logarithm([0.9, 0.99]) == pytest.approx([1.0, 2.0])


def learned(world: World) -> list[Curve]:
    """The recorded configurations that learned."""
    return [each for each in world._curves if each.origin != "again" and each.final >= FAILED]


def test_the_nearest_world_tells_of_a_recorded_configuration_its_recorded_mean(worlds: dict[str, World]) -> None:
    world = worlds["nearest"]
    runs: dict[tuple[str, int], list[float]] = {}
    for each in world._curves:
        runs.setdefault((each.optimizer, each.number), []).append(each.final)
    for each in learned(world):
        of_it = runs[each.optimizer, each.number]
        expected = float(accuracy(logarithm(of_it).mean()))
        assert world.truth(each.parameters) == pytest.approx(expected, abs=1e-9)
        assert expected == pytest.approx(np.mean(of_it), abs=2e-3)
    assert max(len(each) for each in runs.values()) == 1 + FRESH_SEEDS


@pytest.mark.parametrize("kind", ["fitted", "nearest"])
def test_a_replayed_training_has_all_its_values_and_is_the_same_for_the_same_generator(
    kind: str, worlds: dict[str, World]
) -> None:
    world = worlds[kind]
    best = max(learned(world), key=lambda each: each.final).parameters

    def runs(seed: int) -> list[Replayed]:
        generator = np.random.default_rng(seed)
        return [world.train(best, generator) for _ in range(20)]

    assert runs(1) == runs(1)
    # what differs from run to run is drawn
    assert len({each.values[-1] for each in runs(1)}) > 5
    assert all(len(each.values) == world.rungs == 20 and not each.diverged for each in runs(1))
    mean = np.mean([each.values[-1] for each in runs(1) + runs(2)])
    assert mean == pytest.approx(world.truth(best), abs=4 * world.spread)


@pytest.mark.parametrize("kind", ["fitted", "nearest"])
def test_no_configuration_within_the_ranges_is_truly_better_than_the_best(kind: str, worlds: dict[str, World]) -> None:
    world = worlds[kind]
    generator = np.random.default_rng(0)
    for name in SMALL:
        points = drawn(world.settings, name, generator.random((300, 8)).tolist())
        inner = [each.parameters for each in learned(world) if each.optimizer == name and each.origin != "outer"]
        truths = [world.truth(parameters) for parameters in points + inner]
        # the best of the fitted world is searched for, not known: two hundredths of a percent are nothing
        assert max(truths) <= world.best[name] + 2e-4
        assert world.best[name] >= world.known_good(name)
        assert len(set(truths)) > 20


@pytest.mark.parametrize("kind", ["fitted", "nearest"])
def test_what_failed_in_the_record_fails_again(kind: str, worlds: dict[str, World]) -> None:
    world = worlds[kind]
    failed = [each for each in world._curves if each.origin != "again" and each.final < FAILED]
    assert failed
    # the fitted world tells failures by three neighbours, of which a lone one may have other kinds
    told = [world.truth(each.parameters) < FAILED for each in failed]
    assert np.mean(told) >= (1.0 if kind == "nearest" else 0.5)
    for each in (each for each, fails in zip(failed, told, strict=True) if fails):
        replayed = world.train(each.parameters, np.random.default_rng(0))
        assert replayed.diverged or replayed.values[-1] < FAILED
        if kind == "nearest":
            assert (replayed.values, replayed.diverged) == (each.values, each.diverged is not None)


def test_an_optimizer_left_out_does_not_compete(small: Path) -> None:
    without = World(small, "nearest", ("adagrad",))
    assert without.settings.optimizers == ("sgd",)
    assert without.best.keys() == {"sgd"}


def test_the_fit_tells_apart_the_good_and_the_bad_that_it_was_not_shown(worlds: dict[str, World]) -> None:
    errors = worlds["fitted"].errors()
    assert errors["rank"] > 0.5
    assert errors["explained"] > 0.3
    assert errors["failing"] > 0.7
    assert errors["median"] <= errors["rms"] < 0.2


# judging searches


class MadeUp:
    """A world of two optimizers in which x tells the truth."""

    truths = (0.92, 0.88, 0.93, 0.95)

    def __init__(self, spread: float = 0.01) -> None:
        self.best = {"a": 0.95, "b": 0.90}
        self.spread = spread
        self.settings = SimpleNamespace(epochs=2)

    def known_good(self, name: str) -> float:
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
    assert len(found.winner) == len(found.right) == len(found.own) == CHECKPOINTS
    assert found.winner[0] is None
    assert found.winner[1:] == pytest.approx([0.03] + [0.07] * (CHECKPOINTS - 2))
    assert found.right == [False, True] + [False] * (CHECKPOINTS - 2)
    assert (found.seed, found.trials) == (7, 4)


def test_an_optimizers_own_regret_starts_from_its_known_good_settings() -> None:
    assert judged(STEPS).own == pytest.approx([0.075, 0.065, 0.025, 0.025] + [0.02] * (CHECKPOINTS - 4))


def test_what_ends_after_the_budget_does_not_count_and_at_it_does() -> None:
    assert judged((step(50.5, "a", 3, 0.99),)).winner == [None] * CHECKPOINTS
    just = judged((step(50.0, "a", 3, 0.99),))
    assert just.winner == [None] * (CHECKPOINTS - 1) + [0.0]
    assert just.trials == 1


def test_an_optimizer_tied_with_the_best_is_right() -> None:
    assert tied(MadeUp(0.01)) == {"a"}  # type: ignore[arg-type]
    assert tied(MadeUp(0.05)) == {"a", "b"}  # type: ignore[arg-type]
    assert judged(STEPS, spread=0.05).right == [False] + [True] * (CHECKPOINTS - 1)


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
        Repeat(seed=seed, winner=[None, end], right=[True, seed > 0], own=[1.0, 0.1], trials=seed, seconds=0.001 * seed)
        for seed, end in enumerate(ends)
    ]
    found = at_the_end(repeats, without_winner=0.08)
    assert found["winner"] == pytest.approx((0.04, float(np.std([0.01, 0.08, 0.03], ddof=1)) / 3**0.5))
    assert found["right"][0] == pytest.approx(2 / 3)
    assert found["own"] == pytest.approx((0.1, 0.0))
    assert (found["trials"], found["repeats"]) == (1.0, 3)
    assert found["ms"] == pytest.approx(1.0)


# searches


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("name", STRATEGIES)
def test_a_search_spends_its_epochs_on_configurations_that_the_world_knows(name: str, worlds: dict[str, World]) -> None:
    world, budget = worlds["fitted"], 30.0
    steps = list(STRATEGIES[name](world, budget, 0))
    spent = [each.epochs for each in steps]
    assert spent == sorted(spent)
    assert all(each < budget for each in spent[:-1])
    assert budget <= spent[-1] <= budget + world.settings.epochs
    for each in steps:
        assert each.parameters["optimizer"] in SMALL
        assert RECORDED[0] <= each.parameters[LR_FACTOR] <= RECORDED[1]
        assert 0 <= world.truth(each.parameters) <= 1
    complete = [each.value for each in steps if each.value is not None]
    assert complete
    assert all(0 <= value <= 1 for value in complete)


def test_the_even_search_follows_from_its_seed(worlds: dict[str, World]) -> None:
    def steps(seed: int) -> list[Step]:
        return list(STRATEGIES["even"](worlds["nearest"], 60.0, seed))

    assert steps(3) == steps(3)
    assert steps(3) != steps(4)


def test_ahead_are_the_drops_still_to_come(worlds: dict[str, World]) -> None:
    assert epochs_of_drop({"step_size": 2}, 5) == [2, 4]
    assert epochs_of_drop({"step_size": 5}, 5) == []
    told = ahead(worlds["nearest"])
    parameters = {"step_size": 2, "gamma": 0.1}
    # four evaluations an epoch: the 8th ends the second epoch and still had the first learning rate
    rungs = {1: -2.0, 8: -2.0, 9: -1.0, 16: -1.0, 17: 0.0, 20: 0.0}
    assert {rung: told(parameters, rung) for rung in rungs} == pytest.approx(rungs)
    assert told({"step_size": 2, "gamma": 1.0}, 1) == 0.0


def test_earlier_known_good_settings_differ_from_those_of_now_only_in_the_schedule(worlds: dict[str, World]) -> None:
    world = worlds["nearest"]
    known, before = first_parameters(world.settings), even_fall(world)
    schedule = {"step_size", "gamma"}
    assert [{key: each[key] for key in each.keys() - schedule} for each in before] == [
        {key: each[key] for key in each.keys() - schedule} for each in known
    ]
    assert {(each["step_size"], round(each["gamma"] ** 5, 6)) for each in before} == {(1, 0.1)}
    assert {(each["step_size"], each["gamma"]) for each in known} == {(4, 0.1)}
    for each in before:
        suggest(FixedTrial(each), world.settings, world.settings.space())


# forecast

NAMES = CategoricalDistribution(["a", "b"])
DROPS = IntDistribution(0, 4)


def trial(
    values: Sequence[float], name: str = "a", drops: int = 0, state: TrialState = TrialState.COMPLETE
) -> FrozenTrial:
    """A trial with a value at each step from 1; the last is final where it is complete."""
    return create_trial(
        state=state,
        params={"optimizer": name, "drops": drops},
        distributions={"optimizer": NAMES, "drops": DROPS},
        intermediate_values=dict(enumerate(values, start=1)),
        value=values[-1] if state == TrialState.COMPLETE else None,
    )


def study_of(*trials: FrozenTrial) -> optuna.Study:
    study = optuna.create_study(direction="maximize")
    study.add_trials(trials)
    return study


def forecast_of(study: optuna.Study, **options: Any) -> Forecast:
    return Forecast(study, study.get_trials(deepcopy=False), ideal=1.0, **options)


LADDER = tuple(trial([0.80 + number / 100, 0.88 + number / 100]) for number in range(8))
"""Eight finished trials of `a`, of which the higher at the first evaluation are the higher at the last."""


def test_heights_are_powers_of_ten_from_the_ideal_and_more_is_better() -> None:
    assert height(0.99, True, 1.0) == pytest.approx(2.0)
    assert height(0.001, False, 0.0) == pytest.approx(3.0)
    assert height(float("nan"), True, 1.0) == height(float("inf"), False, 0.0) == WORST
    assert (height(0.3, True, None), height(0.3, False, None)) == (0.3, -0.3)


def test_a_finished_trial_is_forecast_as_it_came_out() -> None:
    study = study_of(*LADDER)
    found = [forecast_of(study)(each) for each in study.trials]
    assert [each.height for each in found] == pytest.approx([-np.log10(0.12 - number / 100) for number in range(8)])
    assert all(each.variance == 0 for each in found)


def test_a_trial_that_stands_higher_is_forecast_higher_and_never_for_sure() -> None:
    running = [trial([value], state=TrialState.PRUNED) for value in (0.70, 0.80, 0.85, 0.90)]
    study = study_of(*LADDER, *running)
    found = [forecast_of(study)(each) for each in study.trials[len(LADDER) :]]
    assert [each.height for each in found] == sorted(each.height for each in found)
    assert found[0].height < found[-1].height
    assert all(each.variance > 0 for each in found)
    # on the ladder the forecast is about what those who stood there came to
    assert found[2].height == pytest.approx(height(0.93, True, 1.0), abs=0.05)


def test_drops_still_ahead_raise_a_forecast_once_the_trials_say_so() -> None:
    gains = [trial([0.8 + place / 100, 0.9 + 0.04 * drops], drops=drops) for place in range(4) for drops in (0, 1, 2)]
    two, none = (trial([0.82], drops=drops, state=TrialState.PRUNED) for drops in (2, 0))
    study = study_of(*gains, two, none)

    def told(forecast: Forecast) -> list[float]:
        return [forecast(each).height for each in study.trials[-2:]]

    aware = told(forecast_of(study, ahead=lambda parameters, step: -float(parameters["drops"])))
    assert aware[0] > aware[1] + 0.3
    blind = told(forecast_of(study))
    assert blind[0] == pytest.approx(blind[1])


def test_too_few_finished_trials_tell_nothing_of_others() -> None:
    study = study_of(*LADDER[:2], trial([0.8], state=TrialState.PRUNED), trial([], state=TrialState.PRUNED))
    forecast = forecast_of(study)
    assert forecast.at(study.trials[2], 1) is None
    assert forecast(study.trials[2]).variance > 0
    # one without any value is taken for as bad as the worst
    assert forecast(study.trials[3]).height == pytest.approx(min(forecast.finals.values()))


def test_what_is_forecast_of_an_optimizer_that_never_finished_is_less_sure() -> None:
    study = study_of(*LADDER, *(trial([0.85], name, state=TrialState.PRUNED) for name in ("a", "b")))
    own, stranger = (forecast_of(study)(each).variance for each in study.trials[-2:])
    assert stranger > own + 0.01


def pruned(value: float, name: str = "a", **options: Any) -> bool:
    study = study_of(*LADDER, trial([value], name, state=TrialState.RUNNING))
    return ForecastPruner(ideal=1.0, **options).prune(study, study.get_trials(deepcopy=False)[-1])


def test_one_far_behind_the_best_of_its_own_optimizer_is_pruned() -> None:
    assert pruned(0.60)
    assert not pruned(0.92)
    # surer of it, it is no longer stopped
    assert pruned(0.87, sure=0.5)
    assert not pruned(0.87, sure=3.0)


def test_one_of_another_optimizer_without_finished_trials_is_not_pruned() -> None:
    assert not pruned(0.60, "b")
    assert not pruned(0.10, "b")


def test_nothing_is_pruned_in_the_warmup_or_before_enough_have_finished_or_if_nothing_is_sure() -> None:
    assert not pruned(0.60, warmup=1)
    assert not pruned(0.60, sure=1e6)
    study = study_of(*LADDER[:2], trial([0.60], state=TrialState.RUNNING))
    assert not ForecastPruner(ideal=1.0).prune(study, study.trials[-1])


# the sampler

LRS = FloatDistribution(1e-4, 1.0, log=True)


def searched(trials: int, seed: int = 0, lead: float = 0.0, **options: Any) -> optuna.Study:
    """A study of two optimizers whose best learning rate is 0.01; `b` is behind by `lead`."""
    study = optuna.create_study(direction="maximize", sampler=JointSampler(seed, **options))

    def objective(one: optuna.Trial) -> float:
        name = one.suggest_categorical("optimizer", ["a", "b"])
        lr = one.suggest_float("lr", 1e-4, 1.0, log=True)
        other = one.suggest_int("size", 1, 5) if name == "b" else 3
        assert 1 <= other <= 5
        return -(np.log10(lr / 0.01) ** 2) - (lead if name == "b" else 0.0)

    study.optimize(objective, trials)
    return study


def shares(study: optuna.Study) -> Counter[str]:
    return Counter(each.params["optimizer"] for each in study.trials)


@pytest.fixture(scope="module")
def equal() -> optuna.Study:
    return searched(24)


def test_equal_allocation_gives_all_the_same_and_finds_what_is_best_of_each(equal: optuna.Study) -> None:
    assert shares(equal) == {"a": 12, "b": 12}
    for name in "ab":
        best = max(each.value or -9.0 for each in equal.trials if each.params["optimizer"] == name)
        assert best > -0.02


def test_draws_follow_from_the_seed(equal: optuna.Study) -> None:
    def parameters(study: optuna.Study) -> list[dict[str, Any]]:
        return [each.params for each in study.trials[:10]]

    assert parameters(searched(10)) == parameters(equal)
    assert parameters(searched(10, seed=1)) != parameters(equal)


@pytest.mark.parametrize("allocation", ["racing", "free"])
def test_a_hopeless_optimizer_gets_less_where_not_all_get_the_same(allocation: Any) -> None:
    found = shares(searched(16, lead=30.0, allocation=allocation))
    assert found["a"] > found["b"] >= 1
    assert found["a"] >= 11


def test_a_study_without_optimizers_is_one_of_a_single_kind() -> None:
    study = optuna.create_study(direction="minimize", sampler=JointSampler(0))
    study.optimize(lambda one: one.suggest_float("x", -1.0, 1.0) ** 2, 14)
    assert study.best_value < 1e-3


def test_trials_under_way_are_not_drawn_again() -> None:
    study = searched(12)
    lrs = []
    for _ in range(4):
        one = study.ask({"optimizer": NAMES, "lr": LRS})
        lrs.append((one.params["optimizer"], round(float(np.log10(one.params["lr"])), 3)))
    assert len(set(lrs)) == 4
    assert Counter(name for name, _ in lrs) == {"a": 2, "b": 2}


def test_a_place_under_way_is_known_better_while_it_runs() -> None:
    study = searched(12)
    place = np.array([[place_of(LRS, 0.5)]])

    def deviation() -> float:
        trials = study.get_trials(deepcopy=False)
        known = _Known(study, create_trial(state=TrialState.RUNNING), "optimizer")
        assert len(known.trials) == len(trials)
        known.spaces["a"] = {"lr": LRS}
        return float(_Model(known, None, None, None).worth("a", place)[1][0])

    before = deviation()
    study.enqueue_trial({"optimizer": "a", "lr": 0.5})
    study.ask({"optimizer": NAMES, "lr": LRS})
    assert deviation() < 0.9 * before


def test_improvement_is_what_a_normal_distribution_expects_above_the_best() -> None:
    draws = np.random.default_rng(0).normal(0.2, 0.5, 400_000)
    found = improvement(np.array([0.2, 5.0]), np.array([0.5, 1e-3]), 0.6)
    assert found[0] == pytest.approx(np.maximum(draws - 0.6, 0).mean(), rel=0.02)
    assert found[1] == pytest.approx(4.4)


def test_heights_are_standardised_by_the_better_half_and_the_worse_is_pulled_in() -> None:
    heights = np.array([-100.0, 0.9, 1.0, 1.1, 1.3])
    values, unit = standardised(heights)
    assert unit == pytest.approx(np.sqrt((0.1**2 + 0.3**2) / 3))
    assert values[2:] == pytest.approx((heights[2:] - 1.0) / unit)
    assert values[0] == pytest.approx(norm.ppf(0.1))
    assert (np.diff(values) > 0).all()


def test_equal_heights_are_standardised_to_nought() -> None:
    values, unit = standardised(np.full(4, 0.7))
    assert (values == 0).all()
    assert unit == 1.0


# the process


@pytest.fixture(scope="module")
def tried() -> tuple[Any, Any, Any]:
    """Fourteen places in three dimensions of two optimizers, and a smooth value of each."""
    generator = np.random.default_rng(0)
    x, of = generator.random((14, 3)), np.arange(14) % 2
    return x, of, np.sin(3 * x[:, 0]) + 0.5 * x[:, 1] + 0.3 * of - 1.0


THETA = np.log(np.array([0.5, 0.8, 1.5, 0.3, 0.4, 0.5, 0.05]))


def test_the_gradient_of_the_likelihood_is_its_slope(tried: tuple[Any, Any, Any]) -> None:
    x, of, y = tried
    differences, same = (x[:, None] - x[None]) ** 2, of[:, None] == of
    unsure = np.linspace(0, 0.1, len(y))
    _, gradient = process._minus_log_likelihood(THETA, differences, same, y, unsure)
    slope = approx_fprime(THETA, lambda at: process._minus_log_likelihood(at, differences, same, y, unsure)[0], 1e-6)
    assert gradient == pytest.approx(slope, rel=1e-3, abs=1e-4)


def test_the_likelihood_is_that_of_the_covariance(tried: tuple[Any, Any, Any]) -> None:
    x, of, y = tried
    value, _ = process._minus_log_likelihood(THETA, (x[:, None] - x[None]) ** 2, of[:, None] == of, y, np.zeros(len(y)))
    covariance = process._covariance(THETA, x, of, x, of) + (0.05 + process.JITTER) * np.eye(len(y))
    expected = 0.5 * y @ np.linalg.solve(covariance, y) + 0.5 * np.linalg.slogdet(covariance)[1]
    assert value == pytest.approx(expected)


def test_values_that_are_nearly_without_noise_are_gone_through(tried: tuple[Any, Any, Any]) -> None:
    x, of, y = tried
    quiet = np.append(THETA[:-1], np.log(1e-7))
    found = process.posterior(x, of, y, np.zeros(len(y)), quiet)
    mean, deviation = found(x, of)
    assert mean == pytest.approx(y, abs=1e-3)
    assert deviation.max() < 0.01
    # the other optimizer was not tried there
    assert found(x, 1 - of)[1].min() > 0.05


def test_values_that_are_less_sure_are_believed_less(tried: tuple[Any, Any, Any]) -> None:
    x, of, y = tried
    unsure = np.zeros(len(y))
    unsure[3] = 50.0
    sure = process.posterior(x, of, y + np.eye(len(y))[3], np.zeros(len(y)), THETA)(x, of)
    less = process.posterior(x, of, y + np.eye(len(y))[3], unsure, THETA)(x, of)
    assert sure[0][3] > less[0][3] + 0.3
    assert less[1][3] > sure[1][3]


def test_the_joint_covariance_agrees_with_single_deviations(tried: tuple[Any, Any, Any]) -> None:
    x, of, y = tried
    found = process.posterior(x, of, y, np.zeros(len(y)), THETA)
    places, ofs = np.random.default_rng(1).random((5, 3)), np.array([0, 1, 0, 1, 0])
    (mean, deviation), (joint_mean, covariance) = found(places, ofs), found.joint(places, ofs)
    assert mean == pytest.approx(joint_mean)
    assert deviation**2 == pytest.approx(np.diag(covariance))
    assert np.linalg.eigvalsh(covariance).min() > -1e-9


def test_places_under_way_leave_the_mean_and_are_surer(tried: tuple[Any, Any, Any]) -> None:
    x, of, y = tried
    found = process.posterior(x, of, y, np.zeros(len(y)), THETA)
    places, ofs = np.full((1, 3), 0.5), np.array([0])
    more = found.with_more(places, ofs)
    assert more(x, of)[0] == pytest.approx(found(x, of)[0], abs=1e-6)
    assert more(places, ofs)[1][0] < 0.9 * found(places, ofs)[1][0]


def test_a_fit_finds_which_coordinate_matters(tried: tuple[Any, Any, Any]) -> None:
    x, of, _ = tried
    y = np.sin(6 * x[:, 0])
    theta = process.fit(x, of, y, np.zeros(len(y)), np.ones(3)).theta
    assert theta[0] < min(theta[1], theta[2]) - 0.3


# coordinates

CHOICES = st.lists(st.integers(-9, 9) | st.text("abc", min_size=1, max_size=3), min_size=1, max_size=6, unique=True)


@given(CHOICES, st.data())
def test_a_choice_comes_back_from_its_place(choices: list[Any], data: st.DataObject) -> None:
    value = data.draw(st.sampled_from(choices))
    distribution = CategoricalDistribution(choices)
    assert value_at(distribution, place_of(distribution, value)) == value


@given(st.integers(-50, 50), st.integers(1, 7), st.integers(0, 40), st.data())
def test_a_whole_number_comes_back_from_its_place(low: int, stride: int, steps: int, data: st.DataObject) -> None:
    distribution = IntDistribution(low, low + stride * steps, step=stride)
    value = low + stride * data.draw(st.integers(0, steps))
    found = value_at(distribution, place_of(distribution, value))
    assert found == value
    assert isinstance(found, int)


@given(st.integers(1, 50), st.integers(0, 1_000), st.data())
def test_a_whole_number_on_a_log_scale_comes_back_from_its_place(low: int, more: int, data: st.DataObject) -> None:
    distribution = IntDistribution(low, low + more, log=True)
    value = data.draw(st.integers(low, low + more))
    found = value_at(distribution, place_of(distribution, value))
    assert found == value
    assert isinstance(found, int)


@given(st.integers(-8, 8), st.sampled_from([0.125, 0.25, 0.5, 2.0]), st.integers(0, 40), st.data())
def test_a_stepped_float_comes_back_from_its_place(low: int, stride: float, steps: int, data: st.DataObject) -> None:
    # steps that binary numbers hold exactly, so that equal is equal
    distribution = FloatDistribution(float(low), low + stride * steps, step=stride)
    value = low + stride * data.draw(st.integers(0, steps))
    assert value_at(distribution, place_of(distribution, value)) == value


@given(st.floats(1e-6, 10), st.floats(1.001, 1e4), st.floats(0, 1), st.booleans())
def test_a_place_on_a_continuum_comes_back_from_its_value(low: float, ratio: float, place: float, log: bool) -> None:
    distribution = FloatDistribution(low, low * ratio, log=log)
    assert place_of(distribution, value_at(distribution, place)) == pytest.approx(place, abs=1e-6)


@pytest.mark.parametrize(
    "distribution",
    [
        FloatDistribution(1e-3, 0.3, log=True),
        FloatDistribution(-0.3, 0.7),
        FloatDistribution(0.1, 0.7, step=0.1),
        FloatDistribution(0.2, 0.2),
        IntDistribution(1, 1000, log=True),
        IntDistribution(-3, 12, step=5),
        IntDistribution(4, 4),
        CategoricalDistribution(["a", None, 2, True]),
    ],
)
def test_every_place_has_a_value_within_the_range(distribution: BaseDistribution) -> None:
    for place in (0.0, 0.1, 0.37, 0.5, 0.999, 1 - 1e-9, 1.0):
        value = value_at(distribution, place)
        assert distribution._contains(distribution.to_internal_repr(value))
        assert 0 <= place_of(distribution, value) <= 1


def test_every_value_has_an_equal_share_of_places() -> None:
    places = (np.arange(600) + 0.5) / 600
    found = Counter(value_at(IntDistribution(1, 5), place) for place in places.tolist())
    assert found == dict.fromkeys(range(1, 6), 120)


def test_optimizers_share_the_columns_of_what_both_have() -> None:
    spaces: dict[str, dict[str, BaseDistribution]] = {
        "a": {"lr": LRS, "kind": CategoricalDistribution(["x", "y"])},
        "b": {"beta": FloatDistribution(0.0, 1.0), "lr": LRS},
    }
    coordinates = Coordinates(spaces)
    a, b = coordinates.columns("a", np.array([[0.2, 0.9]])), coordinates.columns("b", np.array([[0.7, 0.2]]))
    assert a.tolist() == [[0.2, 0.0, OPTION, MIDDLE]]
    assert b.tolist() == [[0.2, MIDDLE, MIDDLE, 0.7]]
    assert coordinates.lengths().tolist() == [0.3, 1.5, 1.5, 1.5]
    parameters = {"lr": 0.01, "kind": "y"}
    back = coordinates.parameters("a", coordinates.places("a", parameters))
    assert back == {"lr": pytest.approx(0.01), "kind": "y"}


def test_derived_columns_follow_the_others() -> None:
    coordinates = Coordinates({"a": {"lr": LRS}}, derived=lambda parameters: (parameters["lr"], 1.0))
    found = coordinates.columns("a", np.array([[0.0], [1.0]]))
    assert found == pytest.approx(np.array([[0.0, 1e-4, 1.0], [1.0, 1.0, 1.0]]))
    assert len(coordinates.lengths()) == found.shape[1]
