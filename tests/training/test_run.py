"""A training loop of the user's own: the same split, optimizer, schedule and ending in every stage; wrong loops."""

import threading
from collections.abc import Callable
from math import nan
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import Subset, TensorDataset

from optitune.errors import UsageError
from optitune.sampling.parameters import known_good
from optitune.space.configuration import Configuration
from optitune.study.settings import StudySettings
from optitune.tasks import loading
from optitune.tasks.data import Examples
from optitune.tasks.dividing import Share
from optitune.tasks.grouping import Fold
from optitune.tasks.loop_task import LoopTask
from optitune.tasks.metrics import reported
from optitune.tasks.splits import full_data, held_out
from optitune.tasks.task import Task
from optitune.training import probe
from optitune.training.build import build
from optitune.training.engine import Training
from optitune.training.loop_parts import hook_steps
from optitune.training.loops import Loop
from optitune.training.muon import MuonWithAdamW
from optitune.training.plan import Plan, training_plan
from optitune.training.progress import Diverged, Progress
from optitune.training.run import Run

EPOCHS = 3
BATCH = 10
CPU = torch.device("cpu")

INPUTS = torch.randn(100, 4, generator=torch.Generator().manual_seed(0))
TARGETS = (INPUTS.sum(1) > 0).long()


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))


def train(run: Any) -> None:
    """The loop that a built-in task has, written by hand."""
    (x, y), (held, truth) = run.split((INPUTS, TARGETS))
    model = net().to(run.device)
    optimizer = run.optimizer(model)
    steps = len(x) // BATCH + (len(x) % BATCH > 1)
    scheduler = run.scheduler(optimizer, steps_per_epoch=steps)
    run.keep(model=model, optimizer=optimizer, scheduler=scheduler)
    for _ in run.epochs():
        total = 0.0
        places = torch.randperm(len(x))
        for batch in places.split(BATCH)[:steps]:
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(x[batch]), y[batch])
            loss.backward()
            optimizer.step()
            scheduler.step()
            total += loss.item() * len(batch)
        with torch.no_grad():
            right = (model(held).argmax(1) == truth).float()
        run.report(right.mean(), loss=total / len(x), each=right)


@pytest.fixture
def planned(configured: Callable[..., Configuration]) -> Callable[..., Plan]:
    def plan(name: str = "adam", epochs: int = EPOCHS, seed: int = 5, **other: Any) -> Plan:
        configuration = configured(name, **other)
        training = configuration.training.model_copy(update={"batch_size": BATCH, "loss": "loop"})
        task = LoopTask(train=train, name="loop").judged_by("accuracy")
        return training_plan(configuration.model_copy(update={"training": training}), task, epochs, seed, "fp32")

    return plan


def ran(loop: Callable[[Any], None], plan: Plan, stop_after: int = 1_000, **how: Any) -> Run:
    seen: list[Progress] = []

    def report(history: list[Progress], new: bool) -> bool:
        if new:
            seen.append(history[-1])
        return False

    run = Run(plan, report, lambda: len(seen) >= stop_after, **how)
    run.run(Loop(LoopTask(train=loop, name="loop")))
    return run


def values(run: Run) -> list[tuple[float, float, float | None]]:
    return [(row.epoch, row.validation.value if row.validation else nan, row.train_loss) for row in run.history]


def test_a_loop_has_the_curve_of_the_built_in_one(planned: Callable[..., Plan]) -> None:
    plan = planned()
    task = Task(model=net, data=(INPUTS, TARGETS), loss=functional.cross_entropy, name="task")
    data = held_out(task, full_data(task))
    theirs = training_plan(plan.configuration, task, EPOCHS, 5, "fp32")
    training = Training(build(task, 5, CPU), theirs, data.train, data.validation)
    built_in = [(row.epoch, row.validation.value, row.train_loss) for row in training.run() if row.validation]
    own = values(ran(train, plan))
    assert [row[:2] for row in own] == [row[:2] for row in built_in]
    assert [row[2] for row in own] == pytest.approx([row[2] for row in built_in], rel=1e-5)


def test_a_loop_that_is_stopped_again_and_again_has_the_numbers_of_one_that_was_not(
    planned: Callable[..., Plan], tmp_path: Path
) -> None:
    straight = ran(train, planned())
    for _ in range(EPOCHS):
        run = ran(train, planned(), stop_after=1, path=tmp_path / "t.safetensors", identity=1)
    assert run.done
    assert values(run) == values(straight)


def test_a_loop_that_keeps_nothing_begins_anew(planned: Callable[..., Plan], tmp_path: Path) -> None:
    def forgetful(run: Any) -> None:
        for epoch in run.epochs():
            run.report(epoch / 10)

    for _ in range(2):
        run = ran(forgetful, planned(), stop_after=2, path=tmp_path / "t.safetensors", identity=1)
        assert [row.epoch for row in run.history] == [1, 2]


def test_a_loop_that_catches_every_error_is_ended_all_the_same(planned: Callable[..., Plan]) -> None:
    def stubborn(run: Any) -> None:
        for _ in run.epochs():
            try:
                run.report(0.5)
            except BaseException:  # noqa: S112
                continue

    assert [row.epoch for row in ran(stubborn, planned(), stop_after=1).history] == [1]


@pytest.mark.parametrize(
    ("share", "sizes"),
    [
        (Share("search"), (64, 16)),
        (Share("search", train_examples=20), (20, 16)),
        (Share("compare", fold=Fold(58, 6, 2)), (58, 6)),
        (Share("retrain", test=True), (80, 20)),
        (Share("retrain"), (64, 16)),
    ],
)
def test_every_stage_gets_its_part_and_none_but_the_last_the_test_set(
    share: Share, sizes: tuple[int, int], planned: Callable[..., Plan]
) -> None:
    found: list[tuple[list[int], list[int]]] = []
    stages: list[str] = []

    def loop(run: Any) -> None:
        found.append(run.split(100))
        stages.append(run.stage)
        for _ in run.epochs():
            run.report(0.5)

    ran(loop, planned(), share=share)
    ran(loop, planned(), share=Share("retrain", test=True))
    (trained, judged), (_, test) = found
    assert stages == [share.stage, "retrain"]
    assert (len(trained), len(judged)) == sizes
    assert not set(trained) & set(judged)
    assert share.test or not set(test) & {*trained, *judged}


@pytest.mark.parametrize(
    "data",
    [
        (INPUTS, TARGETS),
        {"a": INPUTS, "b": TARGETS},
        TensorDataset(INPUTS, TARGETS),
        INPUTS.numpy(),
        list(range(100)),
        100,
    ],
    ids=["pair", "dict", "data set", "array", "list", "number"],
)
def test_data_come_back_in_their_own_form(data: Any, planned: Callable[..., Plan]) -> None:
    held = INPUTS[:7]
    forms: list[Any] = []

    def loop(run: Any) -> None:
        forms.extend(run.split(data, validation=lambda: held))
        for _ in run.epochs():
            run.report(0.5)

    ran(loop, planned())
    first, second = forms
    assert second is held
    if isinstance(data, dict):
        assert {key: len(part) for key, part in first.items()} == {"a": 80, "b": 80}
    elif isinstance(data, tuple):
        assert [len(part) for part in first] == [80, 80]
    else:
        assert len(first) == 80
        form = {int: list, TensorDataset: Subset}.get(type(data), type(data))
        assert type(first) is form


def test_several_optimizers_have_a_learning_rate_each(planned: Callable[..., Plan]) -> None:
    plan = planned()
    training = plan.configuration.training.model_copy(update={"groups": {"critic.*": 0.5}})
    plan = training_plan(
        plan.configuration.model_copy(update={"training": training}),
        LoopTask(train=train).judged_by("accuracy"),
        1,
        0,
        "fp32",
    )
    lrs: list[float] = []

    def loop(run: Any) -> None:
        for name, trained in (("actor", net()), ("critic", net().parameters())):
            lrs.append(run.optimizer(trained, name=name).param_groups[0]["lr"])
        for _ in run.epochs():
            run.report(0.5)

    ran(loop, plan)
    assert lrs == [plan.configuration.lr, plan.configuration.lr / 2]


def forgets_to_report(run: Any) -> None:
    for _ in run.epochs():
        pass


def reports_nothing(run: Any) -> None:
    pass


def reports_twice(run: Any) -> None:
    for _ in run.epochs():
        run.report(0.5)
        run.report(0.5)


def reports_a_word(run: Any) -> None:
    run.report("good")


def reports_percent(run: Any) -> None:
    run.report(93.5)


def reports_nan(run: Any) -> None:
    run.report(nan, loss=0.5)


def ends_early(run: Any) -> None:
    for _ in run.epochs():
        run.report(0.5)
        break


def keeps_a_list(run: Any) -> None:
    run.keep(history=[])


def reports_too_few(run: Any) -> None:
    run.split(100)
    run.report(0.5, each=[0.5, 0.5])


def divides_twice(run: Any) -> None:
    run.split(100)
    run.split(100)


def divides_a_stream(run: Any) -> None:
    run.split(iter([1, 2]))


def reports_in_a_thread(run: Any) -> None:
    found: list[BaseException] = []

    def report() -> None:
        try:
            run.report(0.5)
        except UsageError as error:
            found.append(error)

    thread = threading.Thread(target=report)
    thread.start()
    thread.join()
    raise found[0]


@pytest.mark.parametrize(
    ("loop", "words"),
    [
        (forgets_to_report, "epoch 1 ended without a run.report"),
        (reports_nothing, "the loop ended without a run.report"),
        (reports_twice, "twice in epoch 1"),
        (reports_a_word, "value = 'good': must be a number"),
        (reports_percent, "must be from 0 to 1; give a share, not percent"),
        (reports_nan, "the accuracy is nan, while the loss is 0.5"),
        (ends_early, "ended after 1 of 3 epochs"),
        (keeps_a_list, "run.keep(history=...): is of type list, without state_dict"),
        (reports_too_few, "each has shape (2,), but must have a value for each of the 16 examples"),
        (divides_twice, "called twice"),
        (divides_a_stream, "without a length"),
        (reports_in_a_thread, "in a thread"),
    ],
)
def test_a_wrong_loop_is_named_with_its_line(
    loop: Callable[[Any], None], words: str, planned: Callable[..., Plan]
) -> None:
    with pytest.raises(UsageError) as caught:
        ran(loop, planned())
    assert words in str(caught.value)
    assert f"({__file__}, line " in str(caught.value)


@pytest.mark.parametrize("broken", ["loss", "value", "weight"])
def test_a_loop_diverges_by_its_loss_its_value_or_a_weight(broken: str, planned: Callable[..., Plan]) -> None:
    def loop(run: Any) -> None:
        model = net()
        run.optimizer(model)
        if broken == "weight":
            with torch.no_grad():
                model[0].weight.fill_(nan)  # type: ignore[index, operator, union-attr]
        for _ in run.epochs():
            run.report(nan if broken == "value" else 0.5, loss=nan if broken == "loss" else None)

    with pytest.raises(Diverged, match="diverged in epoch 1"):
        ran(loop, planned())


def uses_its_own_optimizer(run: Any) -> None:
    for _ in run.epochs():
        run.report(0.5)


def never_steps(run: Any) -> None:
    run.optimizer(net())
    for _ in run.epochs():
        run.report(0.5)


def takes_no_schedule(run: Any) -> None:
    model = net()
    optimizer = run.optimizer(model)
    for _ in run.epochs():
        model(INPUTS).sum().backward()
        optimizer.step()
        run.report(0.5)


def leaves(run: Any) -> None:
    raise SystemExit(3)


@pytest.mark.parametrize(
    ("loop", "words"),
    [
        (uses_its_own_optimizer, "takes no optimizer"),
        (never_steps, "takes no step before the first report"),
        (takes_no_schedule, "takes no schedule"),
        (leaves, "leaves by sys.exit(3)"),
    ],
)
def test_a_first_call_finds_what_a_loop_leaves_out(
    loop: Callable[[Any], None], words: str, planned: Callable[..., Plan]
) -> None:
    task = LoopTask(train=loop, name="loop").judged_by("accuracy")
    with pytest.raises(UsageError) as caught:
        probe.tried(task, [planned().configuration], EPOCHS, "fp32", CPU, wanted={"schedule"})
    assert words in str(caught.value)
    assert f"({__file__}, line " in str(caught.value)


def test_a_first_call_has_a_folder_that_is_gone_afterwards(planned: Callable[..., Plan]) -> None:
    seen: list[Path] = []

    def loop(run: Any) -> None:
        (run.folder / "notes.txt").write_text("begun")
        seen.append(run.folder)
        train(run)

    task = LoopTask(train=loop, name="loop").judged_by("accuracy")
    probe.tried(task, [planned().configuration], EPOCHS, "fp32", CPU)
    assert len(seen) == 1
    assert not seen[0].exists()


def test_a_setting_that_the_loop_never_reads_is_refused(planned: Callable[..., Plan]) -> None:
    task = LoopTask(train=train, name="loop").judged_by("accuracy")
    with pytest.raises(UsageError, match=r"batch_size: the study sets it, but the loop .* never reads it"):
        probe.tried(task, [planned().configuration], EPOCHS, "fp32", CPU, wanted={"batch_size"})


def test_data_that_differ_at_every_call_are_refused(planned: Callable[..., Plan]) -> None:
    def shuffles(run: Any) -> None:
        run.split(INPUTS[torch.randperm(100)])
        run.settings["lr"]
        for _ in run.epochs():
            run.report(0.5)

    task = LoopTask(train=shuffles, name="loop").judged_by("accuracy")
    found = probe.tried(task, [planned().configuration], EPOCHS, "fp32", CPU)
    assert isinstance(found, LoopTask)
    with pytest.raises(UsageError, match="differ from reading to reading"):
        ran(shuffles, planned(), share=Share("search", checksum=found.known.checksum))
    assert isinstance(full_data(found).train, Examples)


def test_a_function_of_two_is_refused_and_one_of_none_gives_a_task() -> None:
    def two(run: Any, lr: float) -> None:
        """Not a loop."""

    with pytest.raises(UsageError, match=r"two\(run, lr\) takes 2 parameters"):
        loading.loop_of(two, "file.py:two")
    assert loading.loop_of(lambda: None, "file.py:none") is None
    assert loading.loop_of(train, "file.py:train") is not None


@pytest.mark.parametrize(
    ("text", "words"), [("distance", "none of"), ("distance:up", "'up' is no direction"), (":minimize", "NAME")]
)
def test_a_metric_of_ones_own_says_its_direction(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        reported(text)
    assert reported("distance:minimize").direction == "minimize"
    assert reported("accuracy").built_in


def test_hooks_of_a_step_are_called_once_where_a_class_calls_the_step_of_another() -> None:
    # torch wraps the step of every class that was made once
    torch.optim.AdamW([torch.zeros(1, requires_grad=True)])
    weight = torch.zeros(2, 2, requires_grad=True)
    optimizer = MuonWithAdamW([{"params": [weight], "matrix": True}])
    seen: list[str] = []
    hook_steps(optimizer, lambda: seen.append("before"), lambda: seen.append("after"))
    for _ in range(2):
        weight.grad = torch.ones(2, 2)
        optimizer.step()
    assert seen == ["before", "after"] * 2


@pytest.mark.parametrize("name", ["plain_loop.py", "gan_loop.py"])
def test_the_examples_pass_with_all_optimizers_that_compete(name: str) -> None:
    examples = Path(__file__).parents[2] / "docs" / "examples"
    task = loading.find(f"{examples / name}:train", Path())
    assert isinstance(task, LoopTask)
    tries = list(known_good(StudySettings()).values())
    assert len(tries) == 8
    asked = "accuracy" if name == "plain_loop.py" else "distance:minimize"
    found = probe.tried(task.judged_by(asked), tries, EPOCHS, "fp32", CPU, wanted={"schedule"})
    assert isinstance(found, LoopTask)
