"""Training and evaluation: the numbers of a plain loop, the same ones every time, and where they end."""

from collections.abc import Callable
from dataclasses import replace
from math import inf, isnan, nan
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from trainings import dropping, weights, without_clock

from optitune.space.configuration import Configuration, Precision
from optitune.tasks import metrics
from optitune.tasks.data import Examples
from optitune.training import engine, evaluation
from optitune.training.build import build_optimizer, build_schedules
from optitune.training.engine import Training
from optitune.training.evaluation import evaluate
from optitune.training.plan import Plan
from optitune.training.progress import Diverged

Configured = Callable[..., Configuration]
Network = Callable[[int], nn.Module]
Planned = Callable[..., Plan]

ACCURACY = metrics.find("accuracy")

both_precisions = pytest.mark.parametrize("precision", ["fp32", "bf16"])


@pytest.fixture(scope="session")
def planned(configured: Configured) -> Planned:
    """A plan of 3 epochs of 6 steps on `images`, with other values in place of some."""

    def build(configuration: Configuration | None = None, **other: Any) -> Plan:
        chosen = configuration or configured("adam")
        return replace(Plan(chosen, functional.cross_entropy, ACCURACY, 3, seed=5, precision="fp32"), **other)

    return build


def loss_that_turns(value: float, at: int) -> Callable[[Tensor, Tensor], Tensor]:
    """Cross-entropy, but `value` when it is called for the `at`-th time."""
    calls = iter(range(1, 10**6))

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(logits, labels) * (value if next(calls) == at else 1.0)

    return loss


@both_precisions
def test_the_same_seed_gives_the_same_weights_to_the_last_bit(
    precision: Precision, planned: Planned, network: Network, images: Examples
) -> None:
    ended = []
    for _ in range(2):
        model = network(0)
        progress = list(Training(model, planned(precision=precision), images, images).run())
        ended.append((weights(model), without_clock(progress)))
    assert torch.equal(ended[0][0], ended[1][0])
    assert ended[0][1] == ended[1][1]


@both_precisions
def test_another_seed_gives_other_weights(
    precision: Precision, planned: Planned, network: Network, images: Examples
) -> None:
    ended = []
    for seed in (0, 1):
        model = network(0)
        list(Training(model, planned(precision=precision, seed=seed), images).run())
        ended.append(weights(model))
    assert not torch.equal(ended[0], ended[1])


def test_nothing_random_outside_has_a_say(planned: Planned, network: Network, images: Examples) -> None:
    ended = []
    for outside in (1, 2):
        model = network(0)
        torch.manual_seed(outside)
        for _ in Training(model, planned(), images).run():
            torch.rand(outside)
        ended.append(weights(model))
    assert torch.equal(ended[0], ended[1])


def test_the_losses_are_those_of_a_plain_loop(
    planned: Planned, configured: Configured, network: Network, images: Examples, plain_training: Callable[..., Any]
) -> None:
    for name in ("sgd", "adam"):
        plan, model = planned(configured(name, "step")), network(0)
        engines = [row.train_loss for row in Training(network(0), plan, images).run()]
        optimizer = build_optimizer(plan.configuration.optimizer, model, plan.configuration.training)
        (stepped,) = build_schedules(plan.configuration.schedule, optimizer, epochs=3, steps_per_epoch=6)
        plain = list(plain_training(model, optimizer, stepped.scheduler, images, epochs=3, batch_size=16, seed=5))
        assert engines == pytest.approx(plain, rel=1e-5)


def test_an_evaluation_is_that_of_a_plain_loop(
    network: Network, images: Examples, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(evaluation.EVALUATION_BATCH, "cpu", 7)
    model = network(0)
    result = evaluate(model, images, functional.cross_entropy, ACCURACY, "fp32")
    with torch.no_grad():
        logits = model(images.inputs.float() / 127.5 - 1)
    assert result.loss == pytest.approx(functional.cross_entropy(logits, images.targets).item(), rel=1e-6)
    assert torch.equal(result.predicted, logits.argmax(1))
    assert result.value == (logits.argmax(1) == images.targets).double().mean().item()
    assert result.examples == 90


def test_an_evaluation_uses_no_dropout_and_a_training_does(
    planned: Planned, configured: Configured, images: Examples
) -> None:
    model = dropping()
    model.train()
    once, again = (evaluate(model, images, functional.cross_entropy, ACCURACY, "fp32").loss for _ in range(2))
    assert once == again
    (row,) = Training(model, planned(configured(training={"batch_size": 90}), epochs=1), images).run()
    assert row.train_loss != pytest.approx(once, rel=1e-3)


def test_the_first_loss_and_accuracy_are_those_of_the_initial_weights(
    planned: Planned, configured: Configured, network: Network, images: Examples
) -> None:
    before = evaluate(network(0), images, functional.cross_entropy, ACCURACY, "fp32")
    (row,) = Training(network(0), planned(configured(training={"batch_size": 90}), epochs=1), images).run()
    assert row.train_loss == pytest.approx(before.loss, rel=1e-5)
    assert row.train_value == pytest.approx(before.value)


@pytest.mark.parametrize(
    ("evaluations", "steps"),
    [(1, [6, 12, 18]), (2, [3, 6, 9, 12, 15, 18]), (4, [2, 3, 4, 6, 8, 9, 10, 12, 14, 15, 16, 18])],
)
def test_an_epoch_is_interrupted_as_often_as_asked(
    evaluations: int, steps: list[int], planned: Planned, network: Network, images: Examples
) -> None:
    progress = list(Training(network(0), planned(evaluations=evaluations), images, images).run())
    assert [row.step for row in progress] == steps
    assert [row.epoch for row in progress] == pytest.approx([step / 6 for step in steps])
    assert all(row.validation is not None for row in progress)
    seconds = [row.seconds for row in progress]
    assert seconds == sorted(seconds)


def test_an_epoch_is_not_interrupted_more_often_than_it_has_steps(
    planned: Planned, network: Network, images: Examples
) -> None:
    progress = list(Training(network(0), planned(evaluations=50, epochs=1), images).run())
    assert [row.step for row in progress] == [1, 2, 3, 4, 5, 6]


def test_looking_more_often_changes_neither_weights_nor_means(
    planned: Planned, network: Network, images: Examples
) -> None:
    one, other = network(0), network(0)
    (whole,) = Training(one, planned(epochs=1), images, images).run()
    first, second = Training(other, planned(epochs=1, evaluations=2), images, images).run()
    assert torch.equal(weights(one), weights(other))
    # 6 batches: 3 of 16 images, then 16, 16 and the remaining 10
    assert (48 * first.train_loss + 42 * second.train_loss) / 90 == pytest.approx(whole.train_loss)
    assert (48 * first.train_value + 42 * second.train_value) / 90 == pytest.approx(whole.train_value)


def test_progress_tells_the_learning_rate_of_the_steps_just_taken(
    planned: Planned, configured: Configured, network: Network, images: Examples
) -> None:
    configuration = configured("adam", "step", lr=0.01, training={"groups": {"conv1.*": 3.0}})
    progress = list(Training(network(0), planned(configuration, evaluations=2), images).run())
    # over three epochs the known-good step schedule drops once, after the second
    assert configuration.schedule.settings == {"step_size": 2, "gamma": 0.1}
    assert [row.lr for row in progress] == pytest.approx([0.01] * 4 + [0.001] * 2)


def test_a_schedule_that_is_stepped_within_an_epoch_is_told_as_of_the_step_just_taken(
    planned: Planned, configured: Configured, network: Network, images: Examples
) -> None:
    configuration = configured("adam", "linear", epochs=3, lr=0.01)
    progress = list(Training(network(0), planned(configuration, evaluations=2), images).run())
    assert [row.lr for row in progress] == pytest.approx([0.01 * (1 - (row.step - 1) / 18) for row in progress])


def test_the_last_evaluation_alone_uses_all_validation_images(
    planned: Planned, network: Network, images: Examples
) -> None:
    model = network(0)
    progress = list(Training(model, planned(evaluations=2, max_eval_examples=20), images, images).run())
    assert [row.validation.examples for row in progress if row.validation] == [20, 20, 20, 20, 20, 90]
    last = progress[-1].validation
    assert last is not None
    assert last.loss == evaluate(model, images, functional.cross_entropy, ACCURACY, "fp32").loss


def test_a_quick_evaluation_uses_the_first_validation_images(
    planned: Planned, network: Network, images: Examples
) -> None:
    model = network(0)
    row = next(Training(model, planned(max_eval_examples=20), images, images).run())
    assert row.validation is not None
    quick = evaluate(model, images.take(slice(0, 20)), functional.cross_entropy, ACCURACY, "fp32")
    assert (row.validation.loss, row.validation.value) == (quick.loss, quick.value)


def test_without_validation_images_there_is_no_evaluation(planned: Planned, network: Network, images: Examples) -> None:
    assert [row.validation for row in Training(network(0), planned(), images).run()] == [None] * 3


def test_an_absurd_learning_rate_diverges_at_the_step_after_the_first(
    planned: Planned, configured: Configured, network: Network, images: Examples
) -> None:
    training = Training(network(0), planned(configured("sgd", lr=1e25)), images, images)
    with pytest.raises(Diverged, match=r"diverged at step 2: loss (nan|inf)") as caught:
        list(training.run())
    assert caught.value.step == 2


@pytest.mark.parametrize("evaluations", [1, 2])
@pytest.mark.parametrize("value", [nan, inf])
@pytest.mark.parametrize("step", [1, 6, 7, 18])
def test_divergence_is_told_with_its_step(
    step: int, value: float, evaluations: int, planned: Planned, network: Network, images: Examples
) -> None:
    plan = planned(loss=loss_that_turns(value, at=step), evaluations=evaluations)
    with pytest.raises(Diverged) as caught:
        list(Training(network(0), plan, images).run())
    assert caught.value.step == step


def test_a_training_goes_on_for_no_more_than_the_guards_steps_after_diverging(
    planned: Planned, configured: Configured, network: Network, images: Examples, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(engine.GUARD_STEPS, "cpu", 4)
    calls = []

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        calls.append(len(labels))
        return functional.cross_entropy(logits, labels) * (nan if len(calls) == 6 else 1.0)

    with pytest.raises(Diverged) as caught:
        list(Training(network(0), planned(configured(training={"batch_size": 5}), loss=loss), images).run())
    assert (caught.value.step, len(calls)) == (6, 8)


def test_bfloat16_agrees_with_float32_within_its_precision(
    planned: Planned, network: Network, images: Examples
) -> None:
    ended = []
    for precision in ("fp32", "bf16"):
        *_, last = Training(network(0), planned(precision=precision), images, images).run()
        assert last.validation is not None
        ended.append((last.train_loss, last.validation.loss))
    for single, half in zip(*ended, strict=True):
        assert single != half
        assert single == pytest.approx(half, rel=0.02)


def test_the_weights_stay_in_float32_in_both_precisions(planned: Planned, network: Network, images: Examples) -> None:
    model = network(0)
    list(Training(model, planned(precision="bf16"), images).run())
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_a_training_may_be_dropped_half_way_and_gone_on_with(
    planned: Planned, network: Network, images: Examples
) -> None:
    straight, dropped = network(0), network(0)
    list(Training(straight, planned(), images).run())
    training = Training(dropped, planned(), images)
    run = training.run()
    next(run)
    del run
    assert training.epoch == 1
    assert [row.epoch for row in training.run()] == [2, 3]
    assert torch.equal(weights(straight), weights(dropped))


def test_a_training_that_nobody_asks_of_does_nothing(planned: Planned, network: Network, images: Examples) -> None:
    model = network(0)
    before = weights(model)
    training = Training(model, planned(), images)
    training.run()
    assert torch.equal(weights(model), before)
    assert training.epoch == 0


def test_trainings_may_be_interleaved(planned: Planned, network: Network, images: Examples) -> None:
    alone = network(0)
    list(Training(alone, planned(), images).run())
    models = [network(0), network(0)]
    for _ in zip(*(Training(model, planned(), images).run() for model in models), strict=True):
        torch.rand(3)
    assert torch.equal(weights(models[0]), weights(alone))
    assert torch.equal(weights(models[1]), weights(alone))


def test_a_finished_training_has_nothing_left(planned: Planned, network: Network, images: Examples) -> None:
    training = Training(network(0), planned(), images)
    list(training.run())
    assert list(training.run()) == []


def test_training_leaves_its_images_as_they_were(planned: Planned, network: Network, images: Examples) -> None:
    before = images.checksum()
    list(Training(network(0), planned(), images, images).run())
    assert images.checksum() == before


def test_a_loss_that_is_not_a_number_is_evaluated_as_such(network: Network, images: Examples) -> None:
    model = network(0)
    with torch.no_grad():
        next(model.parameters()).fill_(nan)
    assert isnan(evaluate(model, images, functional.cross_entropy, ACCURACY, "fp32").loss)
