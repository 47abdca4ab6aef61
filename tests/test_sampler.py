import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.samplers import RandomSampler, TPESampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from optitune import sampler as samplers
from optitune.objective import first_parameters, suggest
from optitune.sampler import SAMPLERS, KnownGoodFirst, WindowedTPE, build_sampler, forgotten
from optitune.settings import StudySettings

SETTINGS = StudySettings(optimizers=("sgd", "adam", "rmsprop"), schedules=("step", "cosine"))
SPACE = SETTINGS.space()


def draws(sampler: optuna.samplers.BaseSampler, trials: int, study: optuna.Study | None = None) -> list[dict]:
    study = study or optuna.create_study(direction="maximize", sampler=sampler)
    study.sampler = sampler
    for _ in range(trials):
        trial = study.ask()
        suggest(trial, SETTINGS, SPACE)
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


def ended(number: int, value: float, state: TrialState = TrialState.COMPLETE) -> FrozenTrial:
    trial = create_trial(
        params={"lr_factor": 1.0},
        distributions={"lr_factor": FloatDistribution(0.1, 10)},
        value=value if state == TrialState.COMPLETE else None,
        state=state,
    )
    trial.number = number
    return trial


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samplers, "MOST", 12)
    monkeypatch.setattr(samplers, "LEADERS", 4)


@pytest.mark.usefixtures("few")
def test_the_best_and_the_latest_are_not_forgotten() -> None:
    trials = [ended(number, (number * 7) % 20) for number in range(20)]
    trials[1] = ended(1, 0.0, TrialState.PRUNED)
    trials.append(ended(20, 0.0, TrialState.RUNNING))
    best = {number for number in range(20) if (number * 7) % 20 >= 16}
    assert forgotten(trials, StudyDirection.MAXIMIZE) == set(range(12)) - best
    worst = {number for number in range(20) if (number * 7) % 20 < 4}
    assert forgotten(trials, StudyDirection.MINIMIZE) == set(range(12)) - worst
    assert forgotten(trials[:12], StudyDirection.MAXIMIZE) == set()


@pytest.mark.usefixtures("few")
def test_our_sampler_draws_as_tpe_does_until_it_forgets() -> None:
    ours = draws(KnownGoodFirst(lambda seed: WindowedTPE(seed=seed), 0), 16)
    plain = draws(KnownGoodFirst(lambda seed: TPESampler(seed=seed), 0), 16)
    assert ours[:13] == plain[:13]
    assert ours != plain


@pytest.mark.usefixtures("few")
def test_what_is_forgotten_has_no_part_in_a_draw() -> None:
    drawn = []
    for early in (0.0, 0.1):
        study = optuna.create_study(direction="maximize", sampler=WindowedTPE(seed=0))
        for number in range(30):
            trial = ended(number, early if number < 10 else 0.5 + number / 100)
            trial.params = {"lr_factor": 0.2 + early if number < 10 else 1 + number / 10}
            study.add_trial(trial)
        drawn.append(study.ask().suggest_float("lr_factor", 0.1, 10))
    assert drawn[0] == drawn[1]


def test_optunas_own_sampler_is_left_as_it_is() -> None:
    assert type(SAMPLERS["tpe"](0)) is TPESampler
    assert type(SAMPLERS["optitune"](0)) is WindowedTPE
