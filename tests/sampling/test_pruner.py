"""Which trials end early: the hopeless, by what they will come to, and none before enough is known."""

import re
from math import inf, isfinite, nan

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from optitune.sampling.forecast import Score
from optitune.sampling.pruner import PRUNERS, ForecastPruner, build_pruner

CHOICE = {"optimizer": CategoricalDistribution(("sgd", "adam"))}
Curve = dict[int, float]


def trial(
    optimizer: str | None, curve: Curve, state: TrialState = TrialState.RUNNING, ahead: dict[str, float] | None = None
) -> FrozenTrial:
    return create_trial(
        params={"optimizer": optimizer} if optimizer else {},
        distributions=CHOICE if optimizer else {},
        intermediate_values=curve,
        value=curve[max(curve)] if state == TrialState.COMPLETE else None,
        user_attrs={"lr_ahead": ahead} if ahead else {},
        state=state,
    )


def study_of(*trials: FrozenTrial, direction: str = "maximize") -> optuna.Study:
    study = optuna.create_study(direction=direction)
    study.add_trials(trials)
    return study


def complete(optimizer: str | None, *curves: Curve, ahead: dict[str, float] | None = None) -> list[FrozenTrial]:
    return [trial(optimizer, curve, TrialState.COMPLETE, ahead) for curve in curves]


GOOD: list[Curve] = [
    {10: 0.88, 20: 0.94},
    {10: 0.89, 20: 0.945},
    {10: 0.90, 20: 0.95},
    {10: 0.91, 20: 0.955},
    {10: 0.92, 20: 0.96},
]


def test_a_hopeless_trial_is_pruned() -> None:
    assert ForecastPruner(1.0).prune(study_of(*complete("sgd", *GOOD)), trial("sgd", {10: 0.5}))


@pytest.mark.parametrize(("sign", "ideal"), [(1, 1.0), (1, None), (-1, 0.0), (-1, None)])
def test_it_says_what_the_forecast_was(sign: int, ideal: float | None) -> None:
    curves, hopeless = GOOD, {10: 0.5}
    if sign < 0:
        curves, hopeless = [{step: 1 - value for step, value in curve.items()} for curve in GOOD], {10: 0.5}
    study = study_of(*complete("sgd", *curves), direction="maximize" if sign > 0 else "minimize")
    pruner = ForecastPruner(ideal)
    assert pruner.prune(study, trial("sgd", hopeless))
    told = re.fullmatch(r"forecast to end at (\S+), with luck at (\S+); sgd has the best (\S+)", pruner.why)
    assert told is not None, pruner.why
    comes_to, at_most, best = (sign * float(value) for value in told.groups())
    assert comes_to <= at_most < best == pytest.approx(sign * (0.96 if sign > 0 else 0.04))


@given(st.floats(-300, 300), st.sampled_from([(True, 1.0), (False, 0.0), (True, None), (False, None)]))
def test_heights_are_values_again(score: float, how: tuple[bool, float | None]) -> None:
    scores = Score([0.2, 0.5, 0.9], *how)
    value = scores.value(score)
    assert isfinite(value)
    if abs(score) < 10:
        assert scores(value) == pytest.approx(min(score, scores(scores._ideal)) if how[1] is not None else score)


@pytest.mark.parametrize("value", [0.92, 0.93, 0.99, 1.0])
def test_a_promising_trial_goes_on(value: float) -> None:
    assert not ForecastPruner(1.0).prune(study_of(*complete("sgd", *GOOD)), trial("sgd", {10: value}))


def test_one_that_is_ahead_of_all_goes_on_however_little_is_forecast() -> None:
    # leads that grow, as where the error falls by a factor each epoch: the forecast expects them to shrink
    curves = [{10: 0.97 + 0.004 * place, 20: 1 - 10.0 ** -(2.5 + 0.5 * place)} for place in range(5)]
    study = study_of(*complete("sgd", *curves))
    ahead, behind = trial("sgd", {10: 0.9861}), trial("sgd", {10: 0.9650})
    assert ForecastPruner(1.0).prune(study, behind)
    assert not ForecastPruner(1.0).prune(study, ahead)


def test_nothing_is_pruned_where_the_best_once_stood_as_low() -> None:
    late: list[Curve] = [{10: 0.10, 20: 0.97}, *({10: 0.10 + 0.005 * place, 20: 0.3} for place in range(8))]
    assert not ForecastPruner(1.0).prune(study_of(*complete("sgd", *late)), trial("sgd", {10: 0.10}))
    assert not ForecastPruner(1.0).prune(study_of(*complete("sgd", *late)), trial("sgd", {10: 0.09}))


def test_the_surer_the_forecast_has_to_be_the_less_is_pruned() -> None:
    study, behind = study_of(*complete("sgd", *GOOD)), trial("sgd", {10: 0.89})
    assert [ForecastPruner(1.0, sure=sure).prune(study, behind) for sure in (0.0, 10.0)] == [True, False]


def test_nothing_is_judged_up_to_the_end_of_the_warmup() -> None:
    study, behind = study_of(*complete("sgd", *GOOD)), trial("sgd", {10: 0.5})
    assert [ForecastPruner(1.0, warmup=steps).prune(study, behind) for steps in (9, 10)] == [True, False]


def test_while_fewer_than_five_are_complete_nothing_is_pruned() -> None:
    pruned = [trial("sgd", {10: 0.9}, TrialState.PRUNED)] * 3
    study = study_of(*complete("sgd", *GOOD[:4]), *pruned)
    assert not ForecastPruner(1.0).prune(study, trial("sgd", {10: 0.5}))


def test_five_that_came_by_another_step_tell_nothing() -> None:
    assert not ForecastPruner(1.0).prune(study_of(*complete("sgd", *GOOD)), trial("sgd", {15: 0.5}))


def test_an_optimizer_without_a_complete_trial_of_its_own_is_not_pruned() -> None:
    study = study_of(*complete("sgd", *GOOD))
    assert not ForecastPruner(1.0).prune(study, trial("adam", {10: 0.5}))
    study.add_trials(complete("adam", {10: 0.88, 20: 0.94}))
    assert ForecastPruner(1.0).prune(study, trial("adam", {10: 0.5}))


def test_a_trial_is_compared_with_the_best_of_its_own_optimizer_alone() -> None:
    bad: list[Curve] = [{10: 0.40, 20: 0.50}, {10: 0.45, 20: 0.55}, {10: 0.5, 20: 0.6}]
    study = study_of(*complete("sgd", *GOOD), *complete("adam", *bad))
    assert not ForecastPruner(1.0).prune(study, trial("adam", {10: 0.52}))
    assert ForecastPruner(1.0).prune(study, trial("sgd", {10: 0.52}))


def test_a_trial_without_a_report_goes_on() -> None:
    assert not ForecastPruner(1.0).prune(study_of(*complete("sgd", *GOOD)), trial("sgd", {}))


AHEAD = {"30": -1.0}
FALLEN: list[Curve] = [{20: 0.88, 40: 0.890}, {20: 0.89, 40: 0.900}, {20: 0.90, 40: 0.908}, {20: 0.91, 40: 0.918}]
LATE: list[Curve] = [{20: 0.78, 40: 0.920}, {20: 0.80, 40: 0.925}, {20: 0.82, 40: 0.935}, {20: 0.84, 40: 0.940}]


def test_one_whose_learning_rate_is_still_to_fall_goes_on_where_another_is_pruned() -> None:
    study = study_of(*complete("sgd", *FALLEN), *complete("sgd", *LATE, ahead=AHEAD))
    behind = {20: 0.85}
    assert behind[20] < min(curve[20] for curve in FALLEN)
    assert not ForecastPruner(1.0).prune(study, trial("sgd", behind, ahead=AHEAD))
    assert ForecastPruner(1.0).prune(study, trial("sgd", behind))
    assert ForecastPruner(1.0).prune(study, trial("sgd", behind, ahead={"10": -1.0}))


@pytest.mark.parametrize("ideal", [0.0, None])
def test_lower_is_better_where_the_study_minimises(ideal: float | None) -> None:
    curves: list[Curve] = [{10: 0.26 + 0.01 * place, 20: 0.14 + 0.005 * place} for place in range(5)]
    study = study_of(*complete("sgd", *curves), direction="minimize")
    assert ForecastPruner(ideal).prune(study, trial("sgd", {10: 0.9}))
    assert not ForecastPruner(ideal).prune(study, trial("sgd", {10: 0.25}))


@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_without_an_ideal_the_unit_of_the_values_does_not_matter(scale: float) -> None:
    curves: list[Curve] = [{step: scale * value for step, value in curve.items()} for curve in GOOD]
    study = study_of(*complete("sgd", *curves))
    assert ForecastPruner().prune(study, trial("sgd", {10: 0.5 * scale}))
    assert not ForecastPruner().prune(study, trial("sgd", {10: 0.93 * scale}))


@pytest.mark.parametrize("ideal", [1.0, None])
@pytest.mark.parametrize("value", [nan, inf, -inf])
def test_what_is_no_number_counts_as_worse_than_all(value: float, ideal: float | None) -> None:
    study = study_of(*complete("sgd", *GOOD))
    assert ForecastPruner(ideal).prune(study, trial("sgd", {10: value}))


@pytest.mark.parametrize("ideal", [1.0, None])
@pytest.mark.parametrize("value", [nan, inf, -inf])
def test_complete_ones_that_were_no_number_on_their_way_are_no_harm(value: float, ideal: float | None) -> None:
    study = study_of(*complete("sgd", *GOOD, {10: value, 20: 0.95}))
    assert not ForecastPruner(ideal).prune(study, trial("sgd", {10: 0.95}))


def test_a_study_that_came_to_nothing_but_infinity_prunes_nothing() -> None:
    study = study_of(*complete("sgd", *[{10: 0.5, 20: inf}] * 5), direction="minimize")
    assert not ForecastPruner(0.0).prune(study, trial("sgd", {10: 0.4}))


def test_trials_that_end_between_two_looks_count_too() -> None:
    pruner, study = ForecastPruner(1.0), study_of(*complete("sgd", *GOOD[:4]))
    assert not pruner.prune(study, trial("sgd", {10: 0.5}))
    study.add_trials(complete("sgd", GOOD[4]))
    assert pruner.prune(study, trial("sgd", {10: 0.5}))
    assert not pruner.prune(study_of(*complete("sgd", *GOOD[:4])), trial("sgd", {10: 0.5}))


def test_a_study_without_optimizers_is_one_group() -> None:
    study = study_of(*complete(None, *GOOD))
    assert ForecastPruner(1.0).prune(study, trial(None, {10: 0.5}))
    assert not ForecastPruner(1.0).prune(study, trial(None, {10: 0.95}))


def test_the_parameter_that_names_the_groups_may_have_another_name() -> None:
    study = study_of(*complete("sgd", *GOOD))
    assert not ForecastPruner(1.0).prune(study, trial("adam", {10: 0.5}))
    assert ForecastPruner(1.0, by="model").prune(study, trial("adam", {10: 0.5}))


@pytest.mark.parametrize("ideal", [1.0, None])
@pytest.mark.parametrize("name", PRUNERS)
def test_every_pruner_answers_through_a_whole_study(name: str, ideal: float | None) -> None:
    study = optuna.create_study(direction="maximize", pruner=build_pruner(name, last=40, epoch=10, ideal=ideal))
    for number in range(20):
        asked = study.ask()
        asked.suggest_categorical("optimizer", ("sgd", "adam"))
        for step in (10, 20, 30, 40):
            asked.report(0.9 - 0.02 * number, step)
            if asked.should_prune():
                study.tell(asked, state=TrialState.PRUNED)
                break
        else:
            study.tell(asked, 0.9 - 0.02 * number)
    states = [each.state for each in study.trials]
    assert states[0] == TrialState.COMPLETE
    assert (TrialState.PRUNED in states) == (name != "none")
