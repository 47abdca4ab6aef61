import optuna
import pytest
from optuna.samplers import RandomSampler

from optitune.objective import first_parameters, suggest
from optitune.sampler import SAMPLERS, KnownGoodFirst, build_sampler
from optitune.settings import StudySettings

SETTINGS = StudySettings(optimizers=("sgd", "adam", "rmsprop"), schedules=("step", "cosine"))


def draws(sampler: optuna.samplers.BaseSampler, trials: int, study: optuna.Study | None = None) -> list[dict]:
    study = study or optuna.create_study(direction="maximize", sampler=sampler)
    study.sampler = sampler
    for _ in range(trials):
        trial = study.ask()
        suggest(trial, SETTINGS)
        study.tell(trial, 1 / (1 + trial.number))
    return [trial.params for trial in study.trials]


def test_known_good_settings_come_first_in_their_order() -> None:
    known_good = first_parameters(SETTINGS)
    drawn = draws(build_sampler("optitune", 0, known_good), len(known_good))
    for params, wanted in zip(drawn, known_good, strict=True):
        assert params == {key: value for key, value in wanted.items() if key in params}
    assert [params["optimizer"] for params in drawn] == ["sgd", "adam", "rmsprop", "sgd", "sgd"]
    assert [params["lr_factor"] for params in drawn[:3]] == [1.0, 1.0, 1.0]


def test_a_study_that_was_stopped_draws_on_as_if_it_had_not_been() -> None:
    whole = draws(build_sampler("optitune", 3, []), 14)
    study = optuna.create_study(direction="maximize")
    draws(build_sampler("optitune", 3, []), 12, study)
    assert draws(build_sampler("optitune", 3, []), 2, study) == whole


def test_trials_and_seeds_draw_differently() -> None:
    one = draws(KnownGoodFirst(lambda seed: RandomSampler(seed=seed), 0), 5)
    other = draws(KnownGoodFirst(lambda seed: RandomSampler(seed=seed), 1), 5)
    factors = [params["lr_factor"] for params in one + other]
    assert len(set(factors)) == 10


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_every_sampler_draws_what_torch_can_take(name: str) -> None:
    drawn = draws(build_sampler(name, 0, first_parameters(SETTINGS)), 16)
    assert len({str(params) for params in drawn}) == 16
