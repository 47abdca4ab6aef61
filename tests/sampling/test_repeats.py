"""Which configuration is repeated from another seed, and which run of it a trial is."""

from collections import Counter
from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from optitune.sampling.repeats import ENOUGH, EVERY, FIRST, Repeat, is_due, next_repeat, repeat_of
from optitune.sampling.sampler import FairSampler
from optitune.storage.trials import SAME_AS
from optitune.study.repeated import REPEATS, RUN

KNOWN_GOOD = [{"optimizer": "sgd", "lr": 1.0}, {"optimizer": "adam", "lr": 1.0}]


def trial(number: int, value: float | None, lr: float, **attrs: Any) -> FrozenTrial:
    found = create_trial(
        state=TrialState.PRUNED if value is None else TrialState.COMPLETE,
        value=value,
        params={"lr": lr},
        distributions={"lr": FloatDistribution(0.0, 10.0)},
        user_attrs=attrs,
    )
    found.number = number
    return found


def again(number: int, value: float | None, of: FrozenTrial, run: int = 1) -> FrozenTrial:
    return trial(number, value, of.params["lr"], **{RUN: run, REPEATS: of.number})


def test_the_first_trials_repeat_nothing_and_then_one_of_several_does() -> None:
    due = [number for number in range(FIRST + 3 * EVERY) if is_due(number)]
    assert due == [FIRST, FIRST + EVERY, FIRST + 2 * EVERY]


def test_the_one_with_the_fewest_runs_is_repeated_of_the_leader_its_near_ties_and_the_best_known_good() -> None:
    known_good = [{"lr": 1.0}, {"lr": 2.0}]
    trials = [trial(0, 0.80, 1.0), trial(1, 0.85, 2.0), trial(2, 0.9, 3.0), trial(3, 0.8995, 4.0), trial(4, 0.6, 5.0)]
    trials += [trial(5, 0.5, 6.0), trial(6, None, 7.0)]
    order = []
    for number in range(7, 13):
        chosen = next_repeat(trials, known_good, maximize=True)
        assert chosen is not None
        order.append(chosen.number)
        assert chosen.value is not None
        trials.append(again(number, chosen.value, chosen, order.count(chosen.number)))
    assert order == [2, 3, 1, 2, 3, 1]


def test_where_less_is_better_the_least_is_repeated() -> None:
    trials = [trial(0, 0.9, 1.0), trial(1, 0.1, 2.0), trial(2, 0.5, 3.0)]
    chosen = next_repeat(trials, [], maximize=False)
    assert chosen is not None
    assert chosen.number == 1


def test_what_was_lucky_is_not_repeated_any_further() -> None:
    trials = [trial(0, 0.9, 1.0), trial(1, 0.895, 2.0), trial(2, 0.5, 3.0)]
    trials.append(again(3, 0.5, trials[0]))
    chosen = next_repeat(trials, [], maximize=True)
    assert chosen is not None
    assert chosen.number == 1


def test_what_diverged_from_another_seed_is_repeated_no_more() -> None:
    trials = [trial(0, 0.9, 1.0), trial(1, 0.5, 2.0), trial(2, 0.4, 3.0)]
    trials.append(again(3, None, trials[0]))
    chosen = next_repeat(trials, [], maximize=True)
    assert chosen is not None
    assert chosen.number == 1


def test_enough_runs_are_enough() -> None:
    first = trial(0, 0.9, 1.0)
    trials = [first, trial(1, 0.1, 2.0), *(again(run + 1, 0.9, first, run) for run in range(1, ENOUGH))]
    assert next_repeat(trials, [], maximize=True) is None
    assert next_repeat([], [], maximize=True) is None
    assert next_repeat([trial(0, None, 1.0)], [], maximize=True) is None


def test_a_copy_of_a_result_is_no_configuration_of_its_own() -> None:
    trials = [trial(0, 0.9, 1.0), trial(1, 0.9, 1.0, **{SAME_AS: 0}), trial(2, 0.5, 2.0)]
    trials.append(again(3, 0.91, trials[0]))
    chosen = next_repeat(trials, [], maximize=True)
    assert chosen is not None
    assert chosen.number == 0


def drawn(study: optuna.Study) -> tuple[optuna.Trial, Repeat | None]:
    asked = study.ask()
    asked.suggest_categorical("optimizer", ["sgd", "adam"])
    asked.suggest_float("lr", 0.1, 10.0, log=True)
    found = repeat_of(asked)
    if found is not None:
        asked.set_user_attr(REPEATS, found.number)
        asked.set_user_attr(RUN, found.run)
    return asked, found


def searched(trials: int, repeats: bool = True) -> optuna.Study:
    sampler = FairSampler(seed=0, known_good=KNOWN_GOOD, repeats=repeats)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for _ in range(trials):
        asked, _ = drawn(study)
        study.tell(asked, -abs(asked.params["lr"] - 3.0))
    return study


def test_a_study_repeats_its_best_configurations_run_after_run() -> None:
    trials = searched(FIRST + 6 * EVERY).trials
    repeats = [each for each in trials if RUN in each.user_attrs]
    assert [each.number for each in repeats] == [number for number in range(len(trials)) if is_due(number)]
    for each in repeats:
        assert each.params == trials[each.user_attrs[REPEATS]].params
    runs = Counter(each.user_attrs[REPEATS] for each in repeats)
    for number, count in runs.items():
        assert [each.user_attrs[RUN] for each in repeats if each.user_attrs[REPEATS] == number] == list(
            range(1, count + 1)
        )
    assert {0, 1} & runs.keys(), "the best known-good one is repeated, too"


def test_a_study_that_was_stopped_repeats_on_as_if_it_had_not_been() -> None:
    whole, part = searched(FIRST + 2 * EVERY + 1), searched(FIRST + 3)
    part.sampler = FairSampler(seed=0, known_good=KNOWN_GOOD, repeats=True)
    while len(part.trials) < len(whole.trials):
        asked, _ = drawn(part)
        part.tell(asked, -abs(asked.params["lr"] - 3.0))
    assert [each.params for each in part.trials] == [each.params for each in whole.trials]
    assert [each.user_attrs for each in part.trials] == [each.user_attrs for each in whole.trials]


def test_nothing_is_repeated_unless_asked_for() -> None:
    study = searched(FIRST + 1, repeats=False)
    assert len({tuple(each.params.items()) for each in study.trials}) == FIRST + 1


@pytest.mark.parametrize("sampler", [optuna.samplers.RandomSampler(seed=0), FairSampler()])
def test_a_trial_of_another_sampler_is_no_repeat_even_of_equal_parameters(sampler: Any) -> None:
    study = optuna.create_study(sampler=sampler)
    for _ in range(FIRST + 1):
        study.enqueue_trial({"optimizer": "sgd", "lr": 1.0})
        asked, found = drawn(study)
        assert found is None
        study.tell(asked, 1.0)


def test_an_interrupted_repeat_stays_the_run_it_was() -> None:
    study = searched(FIRST)
    asked, found = drawn(study)
    assert found is not None
    frozen = study.trials[asked.number]
    # others have repeated the same meanwhile
    study.add_trial(again(0, 1.0, trial(found.number, 1.0, asked.params["lr"]), run=7))
    taken_over = optuna.trial.Trial(study, frozen._trial_id)
    taken_over.suggest_categorical("optimizer", ["sgd", "adam"])
    taken_over.suggest_float("lr", 0.1, 10.0, log=True)
    assert repeat_of(taken_over) == found
    assert taken_over.params == study.trials[found.number].params
