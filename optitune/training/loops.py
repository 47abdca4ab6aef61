"""Where a training is made: a task of ours by the engine, or one that the user's own loop trains."""

from dataclasses import dataclass

import torch
from torch import Tensor

from optitune.common.randomness import seed_everything
from optitune.tasks.data import Part
from optitune.tasks.loop_task import LoopTask
from optitune.tasks.metrics import Metric
from optitune.tasks.task import Task
from optitune.tasks.user_code import code_place, running
from optitune.training.build import build
from optitune.training.engine import Training
from optitune.training.evaluation import Evaluation
from optitune.training.plan import Plan
from optitune.training.run import UNMOVED, Run


@dataclass
class Loop:
    """A training by a loop of the user's own.

    Attributes:
        task: whose function trains.
        steps_per_epoch: that a divergence counts in: it is noticed at reports alone.
    """

    task: LoopTask
    steps_per_epoch: int = 1

    def drive(self, run: Run) -> None:
        """Call the loop.

        Raises:
            UsageError: it does something that a loop must not.
            Stopped: the run says so.
        """
        run.place = code_place(self.task.train)
        seed_everything(run.seed)
        with run.peers.group(), running():
            try:
                self.task.train(run)
            except SystemExit:
                # a script may end so
                if not run.done:
                    raise
        run.finish()

    def guessing(self, metric: Metric, found: Evaluation, targets: Tensor | None) -> tuple[float | None, str]:
        """A value that stays the same to the last bit stands for that of guessing: the outputs are the loop's own.

        Args:
            metric: of the task.
            found: the last evaluation.
            targets: that it was judged on; not known of a loop.
        """
        return found.value if found.same else None, f"the last {UNMOVED} values are the same"


def begin(task: Task, plan: Plan, train: Part, validation: Part | None, device: torch.device) -> Training | Loop:
    """A training at its begin.

    Args:
        task: to train.
        plan: of the training.
        train: to train on; placeholders where the loop is the user's own.
        validation: to judge on; None to train without looking.
        device: to train on.

    Raises:
        UsageError: the task does not give a network.
    """
    if isinstance(task, LoopTask):
        return Loop(task)
    model = build(task, plan.seed, device)
    return Training(model, plan, train.to(device), None if validation is None else validation.to(device))


def used(training: Training | Loop, run: Run) -> tuple[int, int]:
    """Bytes of what the optimizers keep, and of the weights that were trained."""
    if run.elsewhere is not None:
        return run.elsewhere.state_bytes, run.elsewhere.weight_bytes
    if isinstance(training, Training):
        optimizers, parameters = [training.optimizer], training.parameters
    else:
        optimizers = list(run.optimizers.values())
        parameters = [each for module in run.trained.values() for each in module.parameters() if each.requires_grad]
    state = [value for each in optimizers for own in each.state.values() for value in own.values()]
    tensors = [value for value in state if isinstance(value, torch.Tensor)]
    return sum(map(_nbytes, tensors)), sum(each.nbytes for each in parameters)


def _nbytes(tensor: torch.Tensor) -> int:
    parts = (tensor._indices(), tensor._values()) if tensor.is_sparse else (tensor,)
    return sum(part.nbytes for part in parts)
