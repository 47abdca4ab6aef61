import re
from collections.abc import Callable
from dataclasses import replace
from itertools import product

import optuna
import pytest
import torch
from optuna.trial import TrialState
from torch import nn

from optitune.sampling.parameters import known_good_parameters, suggest
from optitune.sampling.pruner import build_pruner
from optitune.sampling.sampler import SAMPLERS
from optitune.searching import objective
from optitune.searching.objective import Result, ReturnedToQueue, run_trial
from optitune.space.configuration import Configuration
from optitune.storage.studies import versions
from optitune.study import steps as study_steps
from optitune.study.settings import StudySettings
from optitune.tasks.data import Examples
from optitune.tasks.metrics import Metric
from optitune.tasks.models import Cnn
from optitune.tasks.splits import SearchData
from optitune.tasks.task import Task
from optitune.training.loops import begin


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """On so few images an epoch would be evaluated once, at its end."""
    monkeypatch.setattr(study_steps, "EVALUATION_SHARE", 10.0)


@pytest.fixture
def data(images: Examples) -> SearchData:
    return SearchData(images.take(slice(0, 60)), images.take(slice(60, 90)), "sha256:" + "0" * 64)


Once = Callable[..., tuple[optuna.Study, Result]]

TASK = Task(
    name="tiny", model=lambda: Cnn(size=4, channels=(4, 8), hidden=16, classes=3), data=None, channels_last=True
)


def trained(
    data: SearchData,
    settings: StudySettings,
    params: dict,
    study: optuna.Study | None = None,
    task: Task = TASK,
    **kwargs: object,
) -> tuple[Result, optuna.Trial]:
    study = study or optuna.create_study(direction="maximize")
    study.enqueue_trial(params)
    trial = study.ask()
    given = {"reported": (), "on_progress": lambda *_: None, "stopping": lambda: False, **kwargs}
    result = run_trial(trial, settings, task, data, torch.device("cpu"), **given)
    return result, trial


SGD = {"optimizer": "sgd", "lr_factor": 2.0, "one_minus_momentum": 0.1, "nesterov": False, "weight_decay": 1e-4}
STEP = {"step_size": 1, "gamma": 1.0}
SHORT = StudySettings(optimizers=("sgd",), epochs=10, batch_size=5, precision="fp32")


def test_a_good_configuration_completes_and_reports_four_times_an_epoch(data: SearchData) -> None:
    seen: list[float | None] = []

    def on_progress(configuration: Configuration, progress: object) -> None:
        seen.append(progress.epoch if progress else None)  # type: ignore[attr-defined]

    result, trial = trained(data, SHORT, SGD | STEP, on_progress=on_progress)
    frozen = trial.study.trials[0]
    assert result.outcome == "complete"
    assert result.value == frozen.intermediate_values[120] > 0.6
    assert list(frozen.intermediate_values) == list(range(3, 121, 3))
    assert seen[0] is None
    assert seen[-1] == 10
    assert frozen.user_attrs["lr"] == 0.1
    assert frozen.user_attrs["configuration"]["optimizer"]["settings"]["momentum"] == 0.9


@pytest.mark.parametrize(
    ("train_examples", "validation_examples", "times"),
    [(55_000, 5_000, 4), (12_000, 5_000, 2), (5_000, 5_000, 1), (500, 5_000, 1), (1_150, 287, 1), (55_000, 300, 4)],
)
def test_evaluations_take_little_of_the_time(
    train_examples: int, validation_examples: int, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    assert study_steps.evaluations_per_epoch(train_examples, validation_examples) == times


def test_a_diverging_configuration_is_named_and_reported_as_the_worst(data: SearchData) -> None:
    images = Examples(data.train.inputs, data.train.targets, max_pixel=1e-30)
    result, trial = trained(SearchData(images, data.validation, data.checksum), SHORT, SGD | STEP)
    assert result.outcome == "diverged"
    step = re.fullmatch(r"diverged at step ([1-3]): loss (nan|inf)", result.reason)
    assert step is not None
    assert trial.study.trials[0].intermediate_values == {int(step[1]): 0.0}


def learners(start: float = 0.1, at: float = 0.6, end: float = 0.9, number: int = 5) -> optuna.Study:
    """A study of complete trials that start and end so, and are at `at` from step 51 on until the last evaluation."""
    direction = "maximize" if end > start else "minimize"
    study = optuna.create_study(direction=direction, pruner=optuna.pruners.NopPruner())
    curve = {3: start} | dict.fromkeys(range(51, 120, 3), at) | {120: end}
    study.add_trials([optuna.trial.create_trial(value=end, intermediate_values=curve)] * number)
    return study


def test_a_network_that_learns_nothing_ends_as_no_progress(data: SearchData) -> None:
    # images without any content, so that guessing is all there is
    blank = replace(data.train, inputs=torch.zeros_like(data.train.inputs))
    void = replace(data.validation, inputs=torch.zeros_like(data.validation.inputs))
    nothing = SearchData(blank, void, data.checksum)
    result, _ = trained(nothing, SHORT, SGD | STEP, learners())
    assert result.outcome == "pruned"
    assert result.reason.startswith("no progress after 8.5 epochs: all examples get the same outputs, and accuracy 3")
    assert result.reason.endswith("is no better than guessing, which all others that learned had surpassed by then")
    for pruner in ("none", "median"):
        result, _ = trained(nothing, SHORT.model_copy(update={"pruner": pruner}), SGD | STEP, learners())
        assert result.outcome == "complete", "the rule is that of our pruner alone"
    result, _ = trained(nothing, SHORT, known_good_parameters(SHORT)[0], learners())
    assert result.outcome == "complete", "known-good settings are never called stuck"
    for held_back in (learners(number=4), learners(at=0.34)):
        result, _ = trained(nothing, SHORT, SGD | STEP, held_back)
        assert result.outcome == "complete", "too few learned so far, or learned from guessing later than this"


def test_a_network_that_learns_while_accuracy_stands_still_is_let_live() -> None:
    """Three in a hundred are positive: for a while the others' share is as good as an accuracy gets."""
    noise = torch.Generator().manual_seed(0)
    inputs = 0.2 * torch.randn(900, 4, generator=noise)
    rare = Examples(inputs, (inputs[:, 0] > inputs[:, 0].quantile(0.97)).long())
    data = SearchData(rare.take(slice(0, 600)), rare.take(slice(600, 900)), "sha256:" + "0" * 64)
    task = Task(name="rare", model=lambda: nn.Linear(4, 2), data=None)
    seen = []
    settings = SHORT.model_copy(update={"epochs": 3})
    drawn = SGD | STEP | {"lr_factor": 0.1, "one_minus_momentum": 1.0}
    result, _ = trained(data, settings, drawn, task=task, on_progress=lambda _, row: seen.append(row))
    share = float((data.validation.targets == 0).double().mean())
    judged = [row.validation for row in seen if row is not None]
    assert result.outcome == "complete"
    assert all(each.value <= share for each in judged)
    assert judged[-1].loss < judged[0].loss


class Always(optuna.pruners.BasePruner):
    def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
        return True


def test_a_hopeless_trial_is_pruned_with_its_reason(data: SearchData) -> None:
    study = optuna.create_study(direction="maximize", pruner=Always())
    result, _ = trained(data, SHORT, SGD | STEP, study)
    assert (result.outcome, result.value) == ("pruned", None)
    assert result.reason.startswith("pruned at epoch 0.")


def test_a_stopped_trial_is_given_back_untold(data: SearchData) -> None:
    study = optuna.create_study(direction="maximize")
    with pytest.raises(ReturnedToQueue):
        trained(data, SHORT, SGD | STEP, study, stopping=lambda: True)
    assert study.trials[0].state == TrialState.RUNNING


def test_a_repeated_trial_reports_only_what_it_had_not(data: SearchData) -> None:
    result, trial = trained(data, SHORT, SGD | STEP, reported={3: 0.1, 6: 0.1})
    assert result.outcome == "complete"
    assert min(trial.study.trials[0].intermediate_values) == 9


def test_the_same_trial_gives_the_same_curve(data: SearchData, configured: Callable[..., Configuration]) -> None:
    curves = [trained(data, SHORT, SGD | STEP)[1].study.trials[0].intermediate_values for _ in range(2)]
    assert curves[0] == curves[1]


@pytest.fixture
def once(monkeypatch: pytest.MonkeyPatch) -> Once:
    """Data -> a study with one trial and that trial's result; from then on nothing can be trained."""

    def make(data: SearchData, pruner: optuna.pruners.BasePruner | None = None) -> tuple[optuna.Study, Result]:
        monkeypatch.setattr(objective, "begin", begin)
        made = optuna.create_study(direction="maximize", pruner=pruner)
        made.set_user_attr("versions", versions())
        result, trial = trained(data, SHORT, SGD | STEP, made)
        tell(trial, result)
        monkeypatch.setattr(objective, "begin", None)
        return made, result

    return make


def tell(trial: optuna.Trial, result: Result) -> None:
    trial.set_user_attr("outcome", result.outcome)
    if result.reason:
        trial.set_user_attr("reason", result.reason)
    trial.study.tell(trial, result.value, TrialState.COMPLETE if result.outcome == "complete" else TrialState.PRUNED)


@pytest.mark.parametrize(("pruner", "ahead"), [("optitune", {"48": -2.0, "96": -1.0}), ("none", None)])
def test_a_trial_tells_our_pruner_alone_what_is_ahead(pruner: str, ahead: dict | None, data: SearchData) -> None:
    settings = StudySettings.model_validate({**SHORT.document(), "pruner": pruner})
    _, trial = trained(data, settings, SGD | {"step_size": 4, "gamma": 0.1})
    assert trial.study.trials[0].user_attrs.get("lr_ahead") == ahead


def test_an_equal_configuration_is_given_the_result_and_not_trained(data: SearchData, once: Once) -> None:
    study, first = once(data)
    for number in (1, 2):
        result, trial = trained(data, SHORT, SGD | STEP, study)
        tell(trial, result)
        assert (result.outcome, result.value, result.seconds) == ("complete", first.value, 0.0)
        assert result.reason == "same configuration as trial 0"
        one, again = study.trials[0], study.trials[number]
        assert again.intermediate_values == one.intermediate_values
        assert again.user_attrs["same_as"] == 0
        assert {key: again.user_attrs[key] for key in ("configuration", "device", "lr")} == {
            key: one.user_attrs[key] for key in ("configuration", "device", "lr")
        }
    with pytest.raises(TypeError):  # another one would be trained
        trained(data, SHORT, SGD | STEP | {"lr_factor": 2.5}, study)


def test_a_diverged_or_pruned_configuration_ends_as_it_did(data: SearchData, once: Once) -> None:
    broken = SearchData(
        Examples(data.train.inputs, data.train.targets, max_pixel=1e-30), data.validation, data.checksum
    )
    diverged, first = once(broken)
    pruned, second = once(data, pruner=Always())
    for study, before, outcome in ((diverged, first, "diverged"), (pruned, second, "pruned")):
        result, trial = trained(data, SHORT, SGD | STEP, study)
        tell(trial, result)
        assert (result.outcome, result.value) == (outcome, None)
        assert result.reason == f"same configuration as trial 0: {before.reason}"
        one, again = study.trials
        assert again.intermediate_values == one.intermediate_values
        assert (again.state, again.value) == (one.state, one.value)


def test_a_trial_taken_up_again_reports_what_it_had_not_of_an_equal_ones_curve(data: SearchData, once: Once) -> None:
    study, first = once(data)
    curve = study.trials[0].intermediate_values
    study.enqueue_trial(SGD | STEP)
    killed = study.ask()
    suggest(killed, SHORT, SHORT.space())
    for step in (3, 6):
        killed.report(curve[step], step)
    again = optuna.trial.Trial(study, killed._trial_id)
    result = objective.run_trial(
        again, SHORT, TASK, data, torch.device("cpu"), {3: 0, 6: 0}, lambda *_: None, lambda: False
    )
    assert result.value == first.value
    assert study.trials[1].intermediate_values == curve


def test_an_equal_configuration_of_another_device_is_trained(data: SearchData, once: Once) -> None:
    study, _ = once(data)
    study.enqueue_trial(SGD | STEP)
    with pytest.raises(TypeError):
        objective.run_trial(study.ask(), SHORT, TASK, data, torch.device("meta"), (), lambda *_: None, lambda: False)


@pytest.mark.parametrize(
    ("sizes", "accumulation"),
    [([5, 4, 12, 60], 1), ([12, 4, 5, 7, 30], 1), ([4, 60], 1), ([60, 4], 1), (12, [1, 2, 5]), ([12, 5], [1, 3])],
    ids=str,
)
def test_trials_of_any_batch_size_report_at_the_same_steps(
    sizes: int | list[int], accumulation: int | list[int], data: SearchData
) -> None:
    settings = StudySettings.model_validate(
        {**SHORT.document(), "epochs": 4, "batch_size": sizes, "accumulation": accumulation}
    )
    several, counts = (each if isinstance(each, list) else [each] for each in (sizes, accumulation))
    curves = {}
    for size, count in product(several, counts):
        fed = {"batch_size": size} if len(several) > 1 else {}
        fed |= {"accumulation": count} if len(counts) > 1 else {}
        result, trial = trained(data, settings, SGD | STEP | fed)
        assert result.outcome == "complete"
        curves[size, count] = trial.study.trials[0].intermediate_values
        training = trial.user_attrs["configuration"]["training"]
        assert (training["batch_size"], training["accumulation"]) == (size, count)
    usual = study_steps.usual_steps(settings, len(data.train))
    ends = [usual * epoch for epoch in (1, 2, 3, 4)]
    steps = set(curves[several[0], counts[0]])
    for curve in curves.values():
        assert set(curve) <= steps
        assert set(curve) >= set(ends)
        assert max(curve) == ends[-1]


@pytest.mark.parametrize(
    ("said", "steps"),
    [
        ({"batch_size": 50}, 20),
        ({"batch_size": [32, 64]}, 16),  # by 64, the usual one, where that competes
        ({"batch_size": [200, 100]}, 5),  # else by the first
        ({"batch_size": 50, "accumulation": 3}, 7),
        ({"batch_size": [32, 64], "accumulation": [2, 1]}, 16),
        ({"batch_size": 50, "accumulation": [2, 4]}, 10),
    ],
    ids=str,
)
def test_the_steps_by_which_trials_are_compared_are_those_of_the_usual_batch(said: dict, steps: int) -> None:
    assert study_steps.usual_steps(StudySettings.model_validate(said), 1000) == steps


def squares(metric: Metric | str, max_pixel: float = 255.0) -> tuple[Task, SearchData]:
    """A task of guessing each image's brightness, and its data."""
    noise = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (90, 1, 4, 4), generator=noise, dtype=torch.uint8)
    whole = Examples(pixels, pixels.double().mean((1, 2, 3)).float() / 255, max_pixel=max_pixel)
    data = SearchData(whole.take(slice(0, 60)), whole.take(slice(60, 90)), "sha256:" + "0" * 64)
    model = lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, 1))  # noqa: E731
    return Task(name="squares", model=model, data=None, loss="mse", metric=metric), data


MSE = StudySettings(optimizers=("sgd",), epochs=10, batch_size=5, precision="fp32", loss="mse")


@pytest.mark.parametrize(
    ("metric", "direction"), [("mse", "minimize"), ("mae", "minimize"), ("loss", "minimize"), ("r2", "maximize")]
)
def test_a_trial_is_judged_by_the_metric_of_its_task(metric: str, direction: str) -> None:
    task, data = squares(metric)
    study = optuna.create_study(direction=direction)
    result, trial = trained(data, MSE, SGD | STEP | {"lr_factor": 0.4}, study, task=task)
    curve = study.trials[0].intermediate_values
    assert result.outcome == "complete"
    assert result.value == curve[max(curve)]
    first, last = curve[min(curve)], curve[max(curve)]
    assert last < first / 2 if direction == "minimize" else last > max(first, 0.5)
    assert trial.user_attrs["configuration"]["training"]["loss"] == "mse"


@pytest.mark.parametrize(("metric", "worst"), [("mse", None), ("mae", None), ("loss", None), ("accuracy", 0.0)])
def test_a_diverged_trial_reports_the_worst_there_is_and_nothing_where_there_is_none(
    metric: str, worst: float | None, data: SearchData
) -> None:
    task, numbers = squares(metric, max_pixel=1e-30)
    if metric == "accuracy":
        task, numbers = TASK, replace(data, train=replace(data.train, max_pixel=1e-30))
    study = optuna.create_study(direction=task.judge.direction)
    result, trial = trained(numbers, MSE if task is not TASK else SHORT, SGD | STEP, study, task=task)
    assert (result.outcome, result.value) == ("diverged", None)
    assert list(study.trials[0].intermediate_values.values()) == [worst] * (worst is not None)
    tell(trial, result)
    # the sampler draws on, and never takes it for a good one
    study.sampler = SAMPLERS["tpe"](0)
    suggest(study.ask(), MSE, MSE.space())


def test_a_diverged_trial_of_small_batches_is_not_taken_to_have_come_further(data: SearchData) -> None:
    broken = replace(data, train=replace(data.train, max_pixel=1e-30))
    settings = StudySettings.model_validate({**SHORT.document(), "batch_size": [60, 1]})
    _, trial = trained(broken, settings, SGD | STEP | {"batch_size": 1})
    # an epoch has one step of the usual batch
    assert list(trial.study.trials[0].intermediate_values) == [1]


@pytest.mark.parametrize("metric", ["mse", "mae", "r2"])
def test_a_network_that_learns_no_numbers_ends_as_no_progress(metric: str) -> None:
    task, data = squares(metric)
    noise = torch.randn(90, generator=torch.Generator().manual_seed(0))
    blank = SearchData(
        replace(data.train, inputs=torch.zeros_like(data.train.inputs), targets=noise[:60]),
        replace(data.validation, inputs=torch.zeros_like(data.validation.inputs), targets=noise[60:]),
        data.checksum,
    )
    study = learners() if metric == "r2" else learners(2.0, 0.5, 0.1)
    result, _ = trained(blank, MSE, SGD | STEP, study, task=task)
    assert result.outcome == "pruned"
    assert re.match(r"no progress after \S+ epochs: (.+), and (\S+) \S+ is no better than guessing, ", result.reason)


def test_of_a_metric_of_ones_own_no_trial_is_called_stuck() -> None:
    never = Metric("constant", "maximize", lambda outputs, targets: 0.0)
    task, data = squares(never)
    result, _ = trained(data, MSE, SGD | STEP | {"lr_factor": 0.4}, task=task)
    assert (result.outcome, result.value) == ("complete", 0.0)


def test_a_hopeless_trial_of_a_minimised_metric_is_pruned_and_a_good_one_is_not() -> None:
    task, data = squares("mse")
    study = optuna.create_study(direction="minimize", pruner=build_pruner("optitune", 120, 12, ideal=0.0))
    outcomes = []
    for number, lr_factor in enumerate((3.0, 3.5, 4.0, 4.5, 5.0, 2.0, 7.0)):
        result, trial = trained(
            data, MSE, SGD | STEP | {"lr_factor": lr_factor, "one_minus_momentum": 1.0}, study, task=task
        )
        assert trial.number == number
        tell(trial, result)
        outcomes.append(result.outcome)
    assert outcomes == [*["complete"] * 5, "pruned", "complete"]
    told = r"pruned at epoch \S+: mse \S+, forecast to end at \S+, with luck at \S+; \S+ has the best \S+"
    assert re.fullmatch(told, study.trials[5].user_attrs["reason"])
