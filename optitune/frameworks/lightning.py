"""A training by the Trainer of Lightning."""

import logging
from typing import Any

from optitune.errors import UsageError
from optitune.frameworks.common import check_place, keep, metric_in
from optitune.tasks.user_code import caller_place
from optitune.training.run import Run


def fit(run: Run, trainer: Any, module: Any, *data: Any, metric: str = "", **options: Any) -> None:
    """Train a module by a `lightning.Trainer` with the optimizer and the schedule of a run; report every epoch.

    In place of `trainer.fit(module, ...)`, with the same arguments. The Trainer's length and its interval of validation
    are set here, and it saves no checkpoints: a training goes on from the run's checkpoint. `configure_optimizers` of
    the module is replaced, unless that optimizes by hand (`automatic_optimization = False`): there it has to return
    optimizers from `run.optimizer`.

    Args:
        run: the training.
        trainer: to train by, on one device.
        module: to train.
        data: as `Trainer.fit` takes them: data loaders of both parts of `run.split`, or a data module.
        metric: the name that the module logs the value to report under, such as `val_accuracy`; default: that of the
            study.
        options: of `Trainer.fit`, by name.

    Raises:
        UsageError: the Trainer cannot be used so, or the module does not log the metric.

    Example:
        >>> def train(run):
        ...     train_set, judge_set = run.split(dataset)
        ...     loaders = DataLoader(train_set, batch_size=32, shuffle=True), DataLoader(judge_set)
        ...     fit(run, Trainer(accelerator="cpu"), MyModule(), *loaders, metric="val_accuracy")
    """
    from lightning.pytorch.callbacks import Callback, Checkpoint, ModelSummary, ProgressBar

    check_place(run, trainer.strategy.root_device, trainer.world_size, "Trainer(accelerator=..., devices=1)")
    # it describes the machine again at every training
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    epochs, key = run.epochs(), metric or run.plan.metric.name

    class Reports(Callback):
        def on_train_start(self, trainer: Any, module: Any) -> None:
            keep(run, module)
            run.adopt()
            progress = trainer.fit_loop.epoch_progress.current
            progress.processed = progress.completed = run.epoch
            self.left = iter(epochs)

        def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
            next(self.left)
            self.total, self.count = 0.0, 0

        def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int) -> None:
            loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
            if loss is not None:
                self.total, self.count = self.total + loss.detach() * trainer.accumulate_grad_batches, self.count + 1

        def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
            value = metric_in(trainer.callback_metrics, key, f"call self.log('{key}', value) in validation_step")
            run.report(value, loss=self.total / self.count if self.count else None)

    def configure_optimizers() -> dict[str, Any]:
        optimizer = run.optimizer(module)
        steps = trainer.estimated_stepping_batches / trainer.max_epochs
        if not steps.is_integer():
            raise UsageError(
                f"the Trainer is given training data without a length{caller_place()}: give it a DataLoader"
            )
        schedule = {"scheduler": run.scheduler(optimizer, int(steps)), "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    if module.automatic_optimization:
        module.configure_optimizers = configure_optimizers
    # checkpoints are the run's; bars and summaries are for one training alone
    others = [each for each in trainer.callbacks if not isinstance(each, Checkpoint | ProgressBar | ModelSummary)]
    trainer.callbacks = [*others, Reports()]
    trainer.fit_loop.max_epochs, trainer.check_val_every_n_epoch = len(epochs), 1
    trainer.fit(module, *data, **options)
