"""What is drawn next: known-good settings, whose turn it is, points that leave no hole, and Optuna's own samplers."""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from decimal import Decimal
from itertools import islice
from math import log10
from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.trial import TrialState

from optitune.sampling.model import Axis
from optitune.sampling.parameters import known_good_parameters, spaces, suggest
from optitune.sampling.sampler import SAMPLERS, FairSampler, points
from optitune.study.settings import StudySettings

SETTINGS = StudySettings(optimizers=("sgd", "adam", "rmsprop"), schedules=("step", "cosine"))
SPACE = SETTINGS.space()
KNOWN_GOOD = known_good_parameters(SETTINGS)
LAST = 4
"""The step of a whole training."""


def fair(seed: int = 0, **other: Any) -> FairSampler:
    return FairSampler(seed, **{"known_good": KNOWN_GOOD, "spaces": spaces(SETTINGS), **other})


def study_of(sampler: BaseSampler) -> optuna.Study:
    return optuna.create_study(direction="maximize", sampler=sampler)


def suggested(trial: optuna.Trial) -> None:
    suggest(trial, SETTINGS, SPACE)


def finish(trial: optuna.Trial, value: float | None = None) -> None:
    """Report a curve and tell its end: two of three trials are pruned on their way, unless they have a value."""
    length = LAST if value is not None else 1 + (trial.number * 7) % LAST
    for step in range(1, length + 1):
        trial.report(step / 10 + trial.number / 1000, step)
    if length == LAST:
        trial.study.tell(trial, 0.5 + trial.number / 1000 if value is None else value)
    else:
        trial.study.tell(trial, state=TrialState.PRUNED)


def draws(
    sampler: BaseSampler,
    trials: int,
    study: optuna.Study | None = None,
    draw: Callable[[optuna.Trial], object] = suggested,
) -> list[dict[str, Any]]:
    study = study or study_of(sampler)
    study.sampler = sampler
    for _ in range(trials):
        trial = study.ask()
        draw(trial)
        finish(trial)
    return [trial.params for trial in study.trials]


def spent(study: optuna.Study) -> Counter[str]:
    found: Counter[str] = Counter()
    for trial in study.trials:
        found[trial.params["optimizer"]] += trial.last_step or 0
    return found


def all_differ(drawn: Sequence[dict[str, Any]]) -> bool:
    return len({str(sorted(params.items())) for params in drawn}) == len(drawn)


def test_known_good_settings_come_first_in_their_order() -> None:
    drawn = draws(fair(), len(KNOWN_GOOD))
    for params, wanted in zip(drawn, KNOWN_GOOD, strict=True):
        assert params == {key: value for key, value in wanted.items() if key in params}
    assert [params["optimizer"] for params in drawn] == ["sgd", "adam", "rmsprop", "sgd", "sgd"]
    assert [params["lr_factor"] for params in drawn[:3]] == [1.0, 1.0, 1.0]


def test_every_draw_can_be_suggested_and_none_comes_twice() -> None:
    drawn = draws(fair(), 60)
    assert all_differ(drawn[len(KNOWN_GOOD) :])
    for name, space in spaces(SETTINGS).items():
        own = [params for params in drawn if params["optimizer"] == name]
        assert len(own) > 5
        for params in own:
            assert all(space[key]._contains(space[key].to_internal_repr(params[key])) for key in params if key in space)


def test_before_the_model_a_draw_is_the_next_point_of_its_optimizers_sequence() -> None:
    drawn = draws(fair(known_good=()), 5)
    for sequence, (name, space) in enumerate(spaces(SETTINGS).items()):
        axes = {key: Axis(one) for key, one in space.items()}
        own = [params for params in drawn if params["optimizer"] == name]
        assert own
        for params, point in zip(own, points(space, 0, sequence, axes), strict=False):
            for key, value in params.items():
                wanted = {"optimizer": name, **point}[key]
                assert value == (pytest.approx(wanted) if type(value) is float else wanted)


def test_every_optimizer_is_given_about_half_of_an_equal_share_of_the_steps_at_least() -> None:
    study = study_of(fair())
    draws(study.sampler, 60, study)
    steps = spent(study)
    assert set(steps) == {"sgd", "adam", "rmsprop"}
    assert min(steps.values()) >= 0.4 * sum(steps.values()) / len(steps)


def tuned(study: optuna.Study, trials: int, best: float, good: Collection[str]) -> list[dict[str, Any]]:
    """Train where only the learning rate counts, and good optimizers are better than others whatever theirs.

    The best learning rate is 10 ** `best` times the known-good one.
    """
    for _ in range(trials):
        trial = study.ask()
        suggested(trial)
        off = abs(log10(trial.params["lr_factor"]) - best)
        finish(trial, (0.95 if trial.params["optimizer"] in good else 0.8) - 0.03 * min(off, 3.0))
    return [trial.params for trial in study.trials]


@pytest.mark.parametrize("best", [-1.7, 0.0, 1.4])
def test_a_learning_rate_far_from_the_known_good_one_is_found_for_every_optimizer(best: float) -> None:
    drawn = tuned(study_of(fair(ideal=1.0)), 45, best, ("adam", "rmsprop"))
    for name in ("sgd", "adam", "rmsprop"):
        nearest = min(abs(log10(params["lr_factor"]) - best) for params in drawn if params["optimizer"] == name)
        assert nearest < 0.35


def test_an_optimizer_that_can_win_gets_more_trials_than_the_others() -> None:
    counts = Counter(params["optimizer"] for params in tuned(study_of(fair(ideal=1.0)), 60, 0.5, ("adam",)))
    assert counts["adam"] > 1.3 * max(counts["sgd"], counts["rmsprop"])
    assert min(counts.values()) > 10


def test_an_optimizer_whose_trials_end_early_is_drawn_more_often() -> None:
    study = study_of(fair(known_good=()))
    for _ in range(40):
        trial = study.ask()
        suggested(trial)
        trial.report(0.5, 1 if trial.params["optimizer"] == "adam" else LAST)
        study.tell(trial, 0.5)
    steps, numbers = spent(study), Counter(trial.params["optimizer"] for trial in study.trials)
    assert min(steps.values()) >= 0.4 * sum(steps.values()) / len(steps)
    assert numbers["adam"] > 1.5 * numbers["sgd"]


def test_optimizers_take_turns_where_nothing_is_reported() -> None:
    study = study_of(FairSampler())
    study.optimize(lambda trial: float(trial.suggest_categorical("optimizer", ("sgd", "adam")) == "sgd"), n_trials=10)
    assert Counter(trial.params["optimizer"] for trial in study.trials) == {"sgd": 5, "adam": 5}


def test_a_study_that_was_stopped_draws_on_as_if_it_had_not_been() -> None:
    study = study_of(fair(3))
    draws(fair(3), 12, study)
    assert draws(fair(3), 8, study) == draws(fair(3), 20)


def test_the_same_seed_draws_the_same_and_another_one_something_else() -> None:
    one, again, other = (draws(fair(seed, known_good=()), 12) for seed in (1, 1, 2))
    assert one == again
    assert all_differ([*one, *other])


@given(st.permutations(range(6)))
def test_no_two_are_drawn_alike_in_whatever_order_those_asked_for_draw(order: list[int]) -> None:
    study = study_of(fair())
    draws(study.sampler, 9, study)
    asked = [study.ask() for _ in order]
    for place in order:
        suggested(asked[place])
    draws(study.sampler, 6, study)
    assert all_differ([trial.params for trial in study.trials])


def test_a_trial_that_has_not_drawn_yet_leaves_its_draw_to_nobody_else() -> None:
    study = study_of(fair())
    draws(study.sampler, 9, study)
    late = study.ask()
    draws(study.sampler, 12, study)
    suggested(late)
    assert all_differ([trial.params for trial in study.trials])


def test_what_failed_is_not_drawn_again() -> None:
    study = study_of(fair())
    draws(study.sampler, 9, study)
    for _ in range(4):
        trial = study.ask()
        suggested(trial)
        study.tell(trial, state=TrialState.FAIL)
    draws(study.sampler, 4, study)
    assert all_differ([trial.params for trial in study.trials])


def test_a_trial_that_is_trained_again_keeps_its_optimizer_and_has_a_draw_of_its_own() -> None:
    study = study_of(fair())
    draws(study.sampler, 9, study)
    killed = study.ask()
    name = killed.suggest_categorical("optimizer", SETTINGS.optimizers)
    draws(study.sampler, 7, study)
    study.sampler = fair()
    again = optuna.Trial(study, study.trials[9]._trial_id)
    suggested(again)
    assert again.params["optimizer"] == name
    assert len(again.params) > 2
    assert all_differ([trial.params for trial in study.trials])


def test_a_trial_that_is_trained_again_keeps_all_it_had_drawn() -> None:
    study = study_of(fair())
    draws(study.sampler, 9, study)
    killed = study.ask()
    suggested(killed)
    drawn = dict(killed.params)
    draws(study.sampler, 5, study)
    again = optuna.Trial(study, killed._trial_id)
    suggested(again)
    assert again.params == drawn


def script(trial: optuna.Trial) -> None:
    """Anyone's own, which says nothing of its spaces beforehand."""
    if trial.suggest_categorical("optimizer", ("sgd", "adam")) == "sgd":
        trial.suggest_float("momentum", 0, 1)
    trial.suggest_float("lr", 1e-4, 1e-1, log=True)


def test_the_spaces_of_a_plain_script_are_learned_from_its_trials() -> None:
    study = study_of(FairSampler())
    drawn = draws(study.sampler, 40, study, script)
    steps = spent(study)
    assert min(steps.values()) >= 0.4 * sum(steps.values()) / 2
    assert all_differ(drawn)


def test_a_script_without_an_optimizer_has_one_sequence() -> None:
    def draw(trial: optuna.Trial) -> None:
        trial.suggest_float("lr", 0, 1)
        trial.suggest_int("width", 1, 1000)

    drawn = draws(FairSampler(), 17, draw=draw)
    assert all_differ(drawn)
    assert all(0 <= params["lr"] <= 1 and 1 <= params["width"] <= 1000 for params in drawn)


def test_a_space_with_fewer_points_than_trials_comes_to_no_stop() -> None:
    def draw(trial: optuna.Trial) -> None:
        trial.suggest_categorical("nesterov", (False, True))
        trial.suggest_int("depth", 1, 2)

    drawn = draws(FairSampler(), 9, draw=draw)
    assert all_differ(drawn[:4])
    assert not all_differ(drawn[:5])


def test_an_optimizer_whose_steps_cost_more_is_drawn_less_often() -> None:
    space: dict[str, BaseDistribution] = {"lr": FloatDistribution(0, 1)}
    study = study_of(fair(costs={"sgd": 1.0, "adam": 4.0}, known_good=(), spaces={"sgd": space, "adam": space}))
    for _ in range(50):
        trial = study.ask()
        trial.suggest_categorical("optimizer", ("sgd", "adam"))
        finish(trial, 0.99 - 0.05 * trial.suggest_float("lr", 0, 1))
    counts = Counter(each.params["optimizer"] for each in study.trials)
    assert 2.5 <= counts["sgd"] / counts["adam"] <= 5


@given(st.integers(0, 1000), st.integers(0, 5), st.integers(1, 8))
def test_sixteen_points_have_one_in_each_sixteenth_of_every_parameter(seed: int, sequence: int, number: int) -> None:
    space = {f"{place}": FloatDistribution(0, 1) for place in range(number)}
    drawn = list(islice(points(space, seed, sequence), 16))
    for name in space:
        assert sorted(int(16 * point[name]) for point in drawn) == list(range(16))


def test_sequences_and_seeds_have_points_of_their_own() -> None:
    space = {"lr": FloatDistribution(0, 1), "momentum": FloatDistribution(0, 1)}
    drawn = [point for seed in range(3) for sequence in range(3) for point in islice(points(space, seed, sequence), 70)]
    assert all_differ(drawn)


def stepped(low: int, step: int, number: int) -> FloatDistribution:
    first, by = Decimal(low) / 20, Decimal(step) / 20
    return FloatDistribution(float(first), float(first + by * number), step=float(by))


LENGTHS = st.floats(0, 1e6, allow_subnormal=False)

DISTRIBUTIONS: st.SearchStrategy[BaseDistribution] = st.one_of(
    st.builds(lambda low, length: FloatDistribution(low, low + length), st.floats(-1e6, 1e6), LENGTHS),
    st.builds(
        lambda low, times: FloatDistribution(low, low * times, log=True), st.floats(1e-9, 1e9), st.floats(1, 1e9)
    ),
    st.builds(stepped, st.integers(-50, 50), st.integers(1, 20), st.integers(0, 50)),
    st.builds(lambda low, more: IntDistribution(low, low + more), st.integers(-100, 100), st.integers(0, 1000)),
    st.builds(lambda low, more: IntDistribution(low, low + more, log=True), st.integers(1, 100), st.integers(0, 10**6)),
    st.builds(
        lambda low, step, number: IntDistribution(low, low + step * number, step=step),
        st.integers(-100, 100),
        st.integers(1, 10),
        st.integers(0, 50),
    ),
    st.builds(lambda number: CategoricalDistribution([*"abcdefgh"][:number]), st.integers(1, 8)),
)


@given(DISTRIBUTIONS, st.floats(0, 1), st.floats(0, 1))
def test_a_value_lies_inside_its_distribution_and_rises_with_its_place(
    distribution: BaseDistribution, one: float, other: float
) -> None:
    values = [Axis(distribution).drawn(place) for place in sorted((0.0, one, other, 1.0))]
    ranks = [distribution.to_internal_repr(value) for value in values]
    assert all(distribution._contains(rank) for rank in ranks)
    assert ranks == pytest.approx(sorted(ranks), rel=1e-12)
    if isinstance(distribution, IntDistribution):
        assert all(isinstance(value, int) for value in values)


@given(DISTRIBUTIONS)
def test_the_ends_are_drawn_at_the_ends(distribution: BaseDistribution) -> None:
    choices = getattr(distribution, "choices", None)
    low, high = (choices[0], choices[-1]) if choices else (distribution.low, distribution.high)  # type: ignore[attr-defined]
    found = [distribution.to_internal_repr(Axis(distribution).drawn(place)) for place in (0.0, 1.0)]
    assert found == pytest.approx([distribution.to_internal_repr(low), distribution.to_internal_repr(high)])


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_every_sampler_draws_what_torch_can_take(name: str) -> None:
    assert all_differ(draws(SAMPLERS[name](0), 16))


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "qmc"])
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_study_of_another_sampler_draws_on_as_if_it_had_not_been_stopped(name: str) -> None:
    study = study_of(SAMPLERS[name](3))
    draws(SAMPLERS[name](3), 14, study)
    assert draws(SAMPLERS[name](3), 2, study) == draws(SAMPLERS[name](3), 16)


@pytest.mark.parametrize("name", ["tpe", "random", "nsgaii"])
def test_seeds_draw_differently_through_other_samplers_too(name: str) -> None:
    assert all_differ([params for seed in (0, 1) for params in draws(SAMPLERS[name](seed), 5)])
