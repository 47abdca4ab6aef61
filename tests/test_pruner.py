from statistics import median

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState, create_trial

from optitune.pruner import PRUNERS, MedianOfSameOptimizer, build_pruner

CHOICE = {"optimizer": CategoricalDistribution(("sgd", "adam"))}


def study_of(*curves: tuple[str, dict[int, float], TrialState]) -> optuna.Study:
    study = optuna.create_study(direction="maximize")
    for optimizer, curve, state in curves:
        value = list(curve.values())[-1] if state == TrialState.COMPLETE else None
        study.add_trial(
            create_trial(
                params={"optimizer": optimizer},
                distributions=CHOICE,
                intermediate_values=curve,
                value=value,
                state=state,
            )
        )
    return study


def running(optimizer: str, curve: dict[int, float]) -> optuna.trial.FrozenTrial:
    return create_trial(
        params={"optimizer": optimizer}, distributions=CHOICE, intermediate_values=curve, state=TrialState.RUNNING
    )


GOOD = [("sgd", {10: 0.90, 20: 0.95}, TrialState.COMPLETE)] * 3


def test_a_trial_behind_the_median_of_its_optimizer_is_pruned() -> None:
    assert MedianOfSameOptimizer().prune(study_of(*GOOD), running("sgd", {10: 0.5}))


def test_a_trial_at_the_median_goes_on() -> None:
    assert not MedianOfSameOptimizer().prune(study_of(*GOOD), running("sgd", {10: 0.90}))


def test_another_optimizers_trials_do_not_count() -> None:
    assert not MedianOfSameOptimizer().prune(study_of(*GOOD), running("adam", {10: 0.5}))


def test_two_trials_are_too_few_to_judge_by() -> None:
    assert not MedianOfSameOptimizer().prune(study_of(*GOOD[:2]), running("sgd", {10: 0.5}))


def test_pruned_trials_count_as_far_as_they_came() -> None:
    study = study_of(*GOOD[:2], ("sgd", {10: 0.85}, TrialState.PRUNED))
    assert MedianOfSameOptimizer().prune(study, running("sgd", {10: 0.5}))
    assert not MedianOfSameOptimizer().prune(study, running("sgd", {10: 0.5, 20: 0.6}))


def test_the_best_so_far_is_compared_not_the_last() -> None:
    assert not MedianOfSameOptimizer().prune(study_of(*GOOD), running("sgd", {10: 0.96, 20: 0.1}))


def test_the_warmup_is_never_judged() -> None:
    pruner = MedianOfSameOptimizer(warmup=10)
    assert not pruner.prune(study_of(*GOOD), running("sgd", {10: 0.5}))
    assert pruner.prune(study_of(*GOOD), running("sgd", {10: 0.5, 20: 0.5}))


def test_a_trial_without_a_report_goes_on() -> None:
    assert not MedianOfSameOptimizer().prune(study_of(*GOOD), running("sgd", {}))


def test_lower_is_better_where_the_study_minimises() -> None:
    study = optuna.create_study(direction="minimize")
    for _ in range(3):
        study.add_trial(
            create_trial(params={"optimizer": "sgd"}, distributions=CHOICE, intermediate_values={10: 0.2}, value=0.2)
        )
    assert MedianOfSameOptimizer().prune(study, running("sgd", {10: 0.5}))
    assert not MedianOfSameOptimizer().prune(study, running("sgd", {10: 0.1}))


@pytest.mark.parametrize("name", PRUNERS)
def test_every_pruner_answers_through_a_whole_study(name: str) -> None:
    study = optuna.create_study(direction="maximize", pruner=build_pruner(name, last=40, epoch=10))
    pruned = 0
    for number in range(20):
        trial = study.ask()
        trial.suggest_categorical("optimizer", ("sgd", "adam"))
        for step in (10, 20, 30, 40):
            trial.report(0.9 - 0.01 * number, step)
            if trial.should_prune():
                pruned += 1
                study.tell(trial, state=TrialState.PRUNED)
                break
        else:
            study.tell(trial, 0.9)
    assert (pruned == 0) == (name == "none")


def test_trials_that_end_between_two_looks_count_too() -> None:
    pruner, study = MedianOfSameOptimizer(), study_of(*GOOD[:2])
    assert not pruner.prune(study, running("sgd", {10: 0.5}))
    study.add_trial(study_of(GOOD[0]).trials[0])
    assert pruner.prune(study, running("sgd", {10: 0.5}))
    assert not pruner.prune(study_of(*GOOD[:2]), running("sgd", {10: 0.5}))


CURVES = st.lists(
    st.tuples(
        st.sampled_from(("sgd", "adam")),
        st.dictionaries(st.sampled_from((10, 20, 30, 40)), st.floats(0, 1), min_size=1),
        st.sampled_from((TrialState.COMPLETE, TrialState.PRUNED)),
    ),
    min_size=3,
    max_size=12,
)


@given(CURVES, st.dictionaries(st.sampled_from((10, 20, 30)), st.floats(0, 1), min_size=1))
def test_the_median_is_over_the_best_so_far_of_all_that_came_as_far(curves: list, own: dict[int, float]) -> None:
    pruner, step = MedianOfSameOptimizer(), max(own)
    study = study_of(*curves[:2])
    pruner.prune(study, running("sgd", own))
    for trial in study_of(*curves[2:]).trials:
        study.add_trial(trial)
    reached = [curve for optimizer, curve, _ in curves if optimizer == "sgd" and step in curve]
    best = [max(value for at, value in curve.items() if at <= step) for curve in reached]
    assert pruner.prune(study, running("sgd", own)) == (len(best) >= 3 and max(own.values()) < median(best))
