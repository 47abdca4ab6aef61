"""optitune's objective in an Optuna study of one's own."""

from typing import Any

import optuna
import pytest
import torch
from torch import nn

from optitune import Objective, Task
from optitune.errors import UsageError
from optitune.sampling.repeats import FIRST
from optitune.space.configuration import Configuration


def task(**fields: Any) -> Task:
    """Is the sum of four numbers large, or how large is it?"""
    inputs = torch.rand(200, 4, generator=torch.Generator().manual_seed(0)) - 0.5
    return Task(**{"model": lambda: nn.Linear(4, 2), "data": (inputs, (inputs.sum(1) > 0).long()), **fields})


def sums(**fields: Any) -> Task:
    inputs = torch.rand(200, 4, generator=torch.Generator().manual_seed(0)) - 0.5
    return task(model=lambda: nn.Linear(4, 1), data=(inputs, inputs.sum(1)), loss="mse", metric="mse", **fields)


def optimized(objective: Objective, trials: int, **study: Any) -> optuna.Study:
    made = optuna.create_study(
        **{"direction": objective.direction, "sampler": optuna.samplers.RandomSampler(seed=0), **study}
    )
    made.optimize(objective, n_trials=trials)
    return made


def test_a_plain_study_maximises_it() -> None:
    objective = Objective(task(), optimizers=("sgd", "adam"), epochs=4, batch_size=16, device="cpu")
    assert objective.direction == "maximize"
    study = optimized(objective, 6)
    assert study.best_value > 0.8
    assert study.best_value == max(trial.value for trial in study.trials if trial.value is not None)
    assert {trial.params["optimizer"] for trial in study.trials} == {"sgd", "adam"}


def test_a_plain_study_minimises_it() -> None:
    objective = Objective(sums(), optimizers=("sgd", "adam"), epochs=4, batch_size=16, device="cpu")
    assert objective.direction == "minimize"
    study = optimized(objective, 6)
    # that of answering the mean, whatever the input
    assert study.best_value < float(sums().data[1].var())  # type: ignore[index]
    assert study.best_value == min(trial.value for trial in study.trials if trial.value is not None)


@pytest.mark.parametrize(
    ("made", "wrong", "message"),
    [
        (task, "minimize", "the study is to minimize, but the metric 'accuracy' to maximize: create it with "),
        (sums, "maximize", "the study is to maximize, but the metric 'mse' to minimize: create it with "),
    ],
)
def test_a_study_of_the_wrong_direction_is_refused(made: Any, wrong: str, message: str) -> None:
    objective = Objective(made(), optimizers="sgd", epochs=1, device="cpu")
    with pytest.raises(UsageError) as caught:
        optimized(objective, 1, direction=wrong)
    assert str(caught.value) == message + "optuna.create_study(direction=objective.direction)"


def test_the_whole_configuration_of_a_trial_is_kept_with_it() -> None:
    objective = Objective(
        task(),
        optimizers="adam",
        epochs=1,
        batch_size=16,
        device="cpu",
        adam={"beta2": 0.98, "lr": 0.01},
        groups={"bias": 2.0},
    )
    (trial,) = optimized(objective, 1).trials
    configuration = Configuration.model_validate(trial.user_attrs["configuration"])
    assert configuration.optimizer.name == "adam"
    assert configuration.optimizer.settings["betas"][1] == 0.98  # type: ignore[index]
    assert configuration.training.groups == {"bias": 2.0}
    assert trial.user_attrs["lr"] == configuration.lr == 0.01
    assert trial.user_attrs["outcome"] == "complete"


def test_the_same_parameters_are_the_same_training() -> None:
    objective = Objective(task(), optimizers="sgd", epochs=2, batch_size=16, device="cpu")
    first = optimized(objective, 1)
    torch.manual_seed(99)
    second = optuna.create_study(direction=objective.direction)
    second.enqueue_trial(first.trials[0].params)
    second.optimize(objective, n_trials=1)
    assert second.trials[0].intermediate_values == first.trials[0].intermediate_values
    assert second.trials[0].value == first.trials[0].value


class Merciless(optuna.pruners.BasePruner):
    """Prunes whoever has reported."""

    def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
        return trial.last_step is not None


def test_the_studys_own_pruner_prunes() -> None:
    objective = Objective(task(), optimizers="sgd", epochs=3, batch_size=16, device="cpu")
    study = optimized(objective, 2, pruner=Merciless())
    assert [trial.state for trial in study.trials] == [optuna.trial.TrialState.PRUNED] * 2
    assert {trial.user_attrs["outcome"] for trial in study.trials} == {"pruned"}
    untouched = optimized(objective, 2, pruner=optuna.pruners.NopPruner())
    assert all(trial.state == optuna.trial.TrialState.COMPLETE for trial in untouched.trials)
    assert len(untouched.trials[0].intermediate_values) > len(study.trials[0].intermediate_values)


class PrunesRepeats(optuna.pruners.BasePruner):
    def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
        return trial.number >= FIRST


def test_our_sampler_repeats_the_best_from_another_seed_and_to_its_end() -> None:
    objective = Objective(sums(), optimizers=("sgd", "adam"), epochs=2, batch_size=16, device="cpu", pruner="none")
    study = optimized(objective, FIRST + 1, sampler=objective.sampler, pruner=PrunesRepeats())
    repeat = study.trials[FIRST]
    first = study.trials[repeat.user_attrs["repeats"]]
    assert first.value == min(trial.values[0] for trial in study.trials[:FIRST])
    assert repeat.user_attrs["run"] == 1
    assert repeat.params == first.params
    assert repeat.user_attrs["configuration"] == first.user_attrs["configuration"]
    assert "same_as" not in repeat.user_attrs
    assert repeat.state == optuna.trial.TrialState.COMPLETE
    assert repeat.intermediate_values != first.intermediate_values, "another seed has another curve"
    other = Objective(sums(), optimizers=("sgd", "adam"), epochs=2, batch_size=16, device="cpu", pruner="none", seed=1)
    alike = optuna.create_study(direction="minimize")
    alike.enqueue_trial(first.params)
    alike.optimize(other, n_trials=1)
    assert alike.trials[0].intermediate_values == repeat.intermediate_values, "the study's seed and one more"


def test_a_trial_that_diverges_is_pruned_and_the_study_goes_on() -> None:
    objective = Objective(sums(), optimizers="sgd", epochs=2, batch_size=16, device="cpu", lr=1e30)
    study = optimized(objective, 2)
    assert [trial.state for trial in study.trials] == [optuna.trial.TrialState.PRUNED] * 2
    assert {trial.user_attrs["outcome"] for trial in study.trials} == {"diverged"}


def test_a_built_in_task_is_named(tmp_path: Any) -> None:
    objective = Objective("digits", optimizers="sgd", epochs=1, train_examples=200, device="cpu", data_dir=tmp_path)
    assert objective.task.name == "digits"
    (trial,) = optimized(objective, 1).trials
    assert trial.value is None or 0 <= trial.value <= 1


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"epoch": 3}, "Objective: epoch = 3: unknown key 'epoch': did you mean 'epochs' or 'eps'?"),
        ({"groups": {"fc*": 2.0}}, 'groups."fc*": fits no parameter of the network that is left'),
        ({"optimizers": "adm"}, "unknown optimizer 'adm': did you mean 'adam' or 'radam'?"),
        ({"train_examples": 1000}, "has 128 examples to train on"),
    ],
    ids=lambda each: "" if isinstance(each, str) else next(iter(each)),
)
def test_what_does_not_fit_is_refused_before_there_is_a_study(said: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        Objective(task(), **said)
    assert message in str(caught.value)


def test_a_task_that_does_not_fit_is_refused_before_there_is_a_study() -> None:
    with pytest.raises(UsageError, match="task 'task': the model gives 1 logit, but the classes go from 0 to 1"):
        Objective(task(model=lambda: nn.Linear(4, 1)))
    with pytest.raises(UsageError, match="unknown task 'digit': did you mean 'digits'"):
        Objective("digit")
