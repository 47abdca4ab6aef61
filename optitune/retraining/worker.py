"""What a worker process of a full training does: train seeds one by one, and test each once."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import nn

from optitune.common import checkpoint
from optitune.common.files import write_text
from optitune.common.text import plural
from optitune.errors import OptituneError
from optitune.retraining.events import SeedFinished, SeedProgress
from optitune.retraining.mistakes import MISTAKES, confusion, save_mistakes, worst_mistakes
from optitune.retraining.records import EpochRecord, SeedResult
from optitune.retraining.results import FullPlan, seed_result
from optitune.storage import studies
from optitune.study.custom_optimizers import find_modules
from optitune.study.steps import QUICK_EXAMPLES
from optitune.tasks import loading, splits, user_code
from optitune.tasks.dividing import Share
from optitune.tasks.metrics import Metric
from optitune.tasks.task import Task
from optitune.tasks.user_code import keeping
from optitune.training import task_code
from optitune.training.engine import Training
from optitune.training.evaluation import evaluate
from optitune.training.loops import Loop, begin
from optitune.training.plan import Plan, training_plan
from optitune.training.progress import Diverged, Progress
from optitune.training.run import Run
from optitune.training.run_facts import files_of
from optitune.training.weights import bare
from optitune.workers.pool import Channel
from optitune.workers.process import configure_worker_process
from optitune.workers.ranked_loop import RankJob, with_ranks

TRAIN, TEST = "train.safetensors", "test.safetensors"
"""What is trained on and tested on, within the folder of unfinished trainings, where all workers find it."""

WEIGHTS = "seed-{}-weights.safetensors"
"""The weights that a loop of the user's own has trained."""

JUDGED = "judged"
"""What is judged on, among what workers are given with their data."""

DIVERGED = "seed-{}-diverged.json"
"""There where the seed of that number diverged."""


def work(
    channel: Channel,
    plan: FullPlan,
    numbers: list[int],
    partial: Path,
    source: loading.Source,
    data_dir: Path,
    device_name: str,
    ranks: int = 1,
) -> None:
    """Train and test seeds in a worker process, one after the other.

    What is tested on is in the file `TEST`: the test set, or a validation part where the length is looked for.

    Args:
        channel: to the parent process.
        plan: of the full training.
        numbers: of the seeds, from 0.
        partial: folder of the unfinished trainings.
        source: where the task comes from.
        data_dir: where torchvision's files lie.
        device_name: as torch names it.
        ranks: how many processes train each seed together.

    Raises:
        OptituneError: the data cannot be had, or a training diverges.
    """
    about = {"versions": studies.versions(), "device": device_name, "settings": plan.configuration.model_dump_json()}
    name = f"retrain-{partial.name}-worker-{channel.worker + 1}"
    with keeping(partial.parents[2], name, "the full training", about):
        configure_worker_process()
        device = torch.device(device_name)
        task = loading.find(source, data_dir)
        optimizer = plan.configuration.optimizer
        paths, studies_dir = {optimizer.name: optimizer.path}, partial.parents[2].parent
        find_modules(paths, studies_dir)
        parts, kept = splits.opened(partial / TRAIN, task)
        task = loading.judged(task, kept.get(loading.METRIC))
        code = json.loads(kept.get(task_code.KEY, "{}"))
        task_code.check_unchanged(task, source, code)
        ranked = RankJob(source, kept.get(loading.METRIC, ""), data_dir, paths, studies_dir, code)
        task = with_ranks(task, ranked, ranks, device, channel)
        train = parts["train"].to(device)
        held = parts["validation"].to(device) if "validation" in parts else None
        for number in numbers:
            if seed_result(partial, plan, number) is not None:
                # tested once, by a worker that died after it
                continue
            seed = plan.seeds[number]
            judged = QUICK_EXAMPLES if held is None else len(held)
            how = training_plan(plan.configuration, task, plan.epochs, seed, plan.precision, max_eval_examples=judged)
            training = begin(task, how, train, held, device)
            share = Share("retrain", test=kept.get(JUDGED) != "validation", checksum=plan.data_checksum)
            run = _train(training, how, share, device, plan, number, partial, channel)
            if run is None:
                return
            if isinstance(training, Loop):
                result = _of_loop(run, seed, partial, number)
            else:
                result = _tested(training, run, task, plan, number, partial, device)
            document = {"plan": plan.model_dump(), "runs": [asdict(result)]}
            write_text(partial / f"seed-{number}.json", json.dumps(document))
            channel.send(SeedFinished(channel.worker, number, result.test_value))


def _tested(
    training: Training, run: Run, task: Task, plan: FullPlan, number: int, partial: Path, device: torch.device
) -> SeedResult:
    """Judge a network on the test set."""
    epochs = _rows(run.history)
    chosen = _best(epochs, task.judge) if plan.keep == "best" else None
    if chosen is not None:
        _load_weights(training, weights_file(partial, plan, number))
    test = splits.opened(partial / TEST, task)[0]["test"].to(device)
    model, ignored = training.model, training.eval_loss.ignored
    with user_code.calling(task.name, "the network on the test set"):
        evaluation = evaluate(model, test, training.eval_loss, task.judge, plan.precision, training.scaling)
    if number == 0:
        mistakes = worst_mistakes(model, test, evaluation.predicted, plan.precision, ignored)
        if mistakes is not None:
            save_mistakes(mistakes, partial / MISTAKES)
    return SeedResult(
        seed=run.plan.seed,
        test_value=evaluation.value,
        test_loss=evaluation.loss,
        seconds=round(run.seconds, 3),
        epochs=tuple(epochs),
        confusion_matrix=confusion(test, evaluation.predicted, ignored),
        kept_epoch=chosen,
    )


def _of_loop(run: Run, seed: int, partial: Path, number: int) -> SeedResult:
    """What a loop reported last, on the test set that `run.split` gave it."""
    last = run.history[-1].validation
    assert last is not None
    weights = run.weights()
    checkpoint.save({"training": {"model": weights}, "names": list(weights)}, partial / WEIGHTS.format(number))
    # what it reported of the test set before counts for nothing
    rows = [replace(row, validation=None) for row in run.history]
    return SeedResult(
        seed=seed,
        test_value=last.value,
        test_loss=None,
        seconds=round(run.seconds, 3),
        epochs=tuple(_rows(rows)),
        confusion_matrix=(),
    )


def _rows(history: list[Progress]) -> list[EpochRecord]:
    return [
        EpochRecord(
            *(round(each.epoch), each.lr, each.train_loss, each.train_value),
            validation_value=each.validation.value if each.validation else None,
        )
        for each in history
    ]


def weights_file(partial: Path, plan: FullPlan, number: int) -> Path:
    """The file with the weights of a seed that was trained: its last checkpoint, or its best epoch.

    Args:
        partial: folder of the unfinished trainings.
        plan: of the full training.
        number: of the seed, from 0.
    """
    of_loop = partial / WEIGHTS.format(number)
    return of_loop if of_loop.exists() else partial / f"seed-{number}{'-best' * (plan.keep == 'best')}.safetensors"


def _best(epochs: list[EpochRecord], metric: Metric) -> int:
    """The epoch with the best validation value, the first of equals."""
    return max(epochs, key=lambda row: metric.score(row.validation_value or 0.0)).epoch


def _save_weights(training: Training, path: Path) -> None:
    """Save network and loss as a checkpoint has them."""
    state = training.state_dict()
    names = list(bare(training.model).state_dict())
    checkpoint.save({"training": {key: state[key] for key in ("model", "loss")}, "names": names}, path)


def _load_weights(training: Training, path: Path) -> None:
    state = checkpoint.load(path)["training"]
    training.model.load_state_dict(state["model"])
    if isinstance(training.loss.own, nn.Module):
        training.loss.own.load_state_dict(state["loss"])


def _train(
    training: Training | Loop,
    how: Plan,
    share: Share,
    device: torch.device,
    plan: FullPlan,
    number: int,
    partial: Path,
    channel: Channel,
) -> Run | None:
    """Train, from the checkpoint in `partial` if there is one of this plan; None if stopped on the way."""

    def on_report(history: list[Progress], new: bool) -> bool:
        rows = _rows(history if isinstance(training, Training) else [replace(history[-1], validation=None)])
        if isinstance(training, Training) and plan.keep == "best" and _best(rows, how.metric) == rows[-1].epoch:
            # also where a killed process wrote its checkpoint and not yet this
            _save_weights(training, weights_file(partial, plan, number))
        channel.send(SeedProgress(channel.worker, number, rows[-1], new))
        return False

    run = Run(
        how,
        on_report,
        channel.stopping,
        partial / f"seed-{number}.safetensors",
        plan.model_dump(mode="json"),
        device=device,
        share=share,
        folder=files_of(partial.parents[2], f"retrain-{partial.name}-seed-{number}"),
        keep_end=True,
    )
    try:
        run.run(training)
    except Diverged as diverged:
        write_text(partial / DIVERGED.format(number), json.dumps(str(diverged)))
        raise OptituneError(
            f"seed {how.seed} {diverged}: this configuration is not stable over "
            f"{plural(plan.epochs, 'epoch')}; try another trial number, or a lower lr in best.toml"
        ) from None
    return run if run.done else None
