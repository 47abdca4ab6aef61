"""A training by the Trainer of Hugging Face."""

from collections.abc import Callable
from math import ceil
from typing import Any

from optitune.errors import UsageError
from optitune.frameworks.common import check_place, keep, metric_in
from optitune.tasks.user_code import caller_place
from optitune.training.run import Run


def fit(run: Run, trainer: Any, metric: str = "", each: Callable[[Any], Any] | None = None) -> None:
    """Train by a `transformers.Trainer` with the optimizer and the schedule of a run; evaluate and report every epoch.

    In place of `trainer.train()`. The Trainer's length, strategies of evaluation, logging and saving, and the seed of
    its sampler are set here: a training goes on from the run's checkpoint, not from one of the Trainer.

    Args:
        run: the training.
        trainer: with a model, a train_dataset and an eval_dataset, both from `run.split`.
        metric: the name, in what `compute_metrics` returns, of the value to report; default: that of the study.
        each: from the `EvalPrediction` that `compute_metrics` gets to the metric of each example, (n,), whose mean is
            the value.

    Raises:
        UsageError: the Trainer cannot be used so, or does not compute the metric.

    Example:
        >>> def train(run):
        ...     train_set, judge_set = run.split(dataset)
        ...     trainer = Trainer(make_model(), arguments, train_dataset=train_set, eval_dataset=judge_set)
        ...     fit(run, trainer)
    """
    from transformers import ProgressCallback, TrainerCallback
    from transformers.trainer_callback import PrinterCallback

    _check(trainer)
    arguments, key = trainer.args, f"eval_{(metric or run.plan.metric.name).removeprefix('eval_')}"
    check_place(run, arguments.device, max(1, arguments.n_gpu) * arguments.world_size, "TrainingArguments(use_cpu=...)")
    epochs = run.epochs()
    values: list[Any] = []

    class Reports(TrainerCallback):
        loss: float | None = None
        training = False

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.left = iter(epochs)

        def on_epoch_begin(self, *_: Any, **__: Any) -> None:
            next(self.left)
            self.training = True

        def on_log(self, arguments: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            self.loss = (logs or {}).get("loss", self.loss)

        def on_evaluate(self, arguments: Any, state: Any, control: Any, metrics: Any = None, **_: Any) -> None:
            if not self.training:
                # by eval_on_start, or after the training
                return
            self.training = False
            value = metric_in(metrics, key, "return it from compute_metrics")
            run.report(value, loss=self.loss, each=values.pop() if each is not None else None)

    compute = trainer.compute_metrics

    def with_each(prediction: Any) -> Any:
        assert each is not None
        values[:] = [each(prediction)]
        return compute(prediction) if compute is not None else {}

    if each is not None:
        trainer.compute_metrics = with_each
    trainer.optimizer = run.optimizer(trainer.model)
    batches = len(trainer.get_train_dataloader())
    trainer.lr_scheduler = run.scheduler(trainer.optimizer, ceil(batches / arguments.gradient_accumulation_steps))
    keep(run, trainer.model)
    run.adopt()
    settings = {"num_train_epochs": len(epochs) - run.epoch, "max_steps": -1, "eval_delay": 0}
    strategies = {"eval_strategy": "epoch", "logging_strategy": "epoch", "save_strategy": "no"}
    # a loss that is nan is to be seen
    others = {"load_best_model_at_end": False, "logging_nan_inf_filter": False}
    for name, value in {**settings, **strategies, **others}.items():
        setattr(arguments, name, value)
    # the sampler adds the epochs since train() began
    trainer.accelerator.dataloader_config.data_seed = (run.seed << 20) + run.epoch
    for shown in (ProgressCallback, PrinterCallback):
        trainer.remove_callback(shown)
    trainer.add_callback(Reports())
    trainer.train()


def _check(trainer: Any) -> None:
    wrong = ""
    if trainer.model_init is not None:
        wrong = "was given model_init, which starts every training from the same weights: give it a model"
    elif trainer.eval_dataset is None:
        wrong = "has no eval_dataset: give it the second part of run.split"
    elif not hasattr(trainer.train_dataset, "__len__"):
        wrong = "has a train_dataset without a length: give it the first part of run.split"
    if wrong:
        raise UsageError(f"the Trainer {wrong}{caller_place()}")
