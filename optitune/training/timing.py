"""How long trainings take on this machine, from about a second of real steps."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median
from typing import Any

import torch

from optitune.errors import OptituneError
from optitune.tasks.data import Part, Streamed
from optitune.tasks.dividing import Share
from optitune.tasks.loop_task import LoopTask
from optitune.tasks.task import Task
from optitune.training.build import build
from optitune.training.engine import Training
from optitune.training.evaluation import evaluate
from optitune.training.plan import Plan
from optitune.training.preflight import undisturbed
from optitune.training.probe import Probe, called
from optitune.training.progress import Diverged

TIMED_S = 1.0
"""How long real steps are timed, over all trainings together."""

FIRST_STEPS, MOST_STEPS = 2, 50
"""Steps of the first try, and how many are timed at once at most."""


@dataclass(frozen=True)
class Pace:
    """How fast one training is, on one of the processors that workers use.

    Attributes:
        step: seconds of an optimizer step.
        fastest: the same at the best moment, which other processes disturb least.
        judged: seconds to judge one example.
        state: bytes of a checkpoint: weights, and what the optimizer keeps.
    """

    step: float
    fastest: float
    judged: float
    state: int

    def seconds(self, plan: Plan, steps: int, judged: int) -> float:
        """How long a training takes.

        Args:
            plan: of the training.
            steps: optimizer steps of an epoch.
            judged: examples that its last evaluation uses; 0 to train without evaluations.
        """
        looks = plan.epochs * plan.evaluations - 1
        return plan.epochs * steps * self.step + self.judged * (looks * min(judged, plan.max_eval_examples) + judged)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on one thread, as workers do, and leave the caller's random numbers as they are."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with undisturbed():
            yield
    finally:
        torch.set_num_threads(threads)


def paces(
    task: Task, plans: Sequence[Plan], train: Part, judged: Part, device: torch.device, limit_s: float = TIMED_S
) -> list[Pace]:
    """Time real steps of several trainings, each for its share of the time.

    Args:
        task: gives the network.
        plans: of the trainings.
        train: examples to train on.
        judged: examples to judge on.
        device: to train on.
        limit_s: how long to measure in all; a first step and an evaluation of each are timed however long they take,
            until twice this time is over; what is left then is taken to be like the rest.

    Returns:
        A pace for each plan.
    """
    if isinstance(task, LoopTask):
        with _one_thread():
            return [_pace_of_loop(task, plan, device, limit_s / len(plans)) for plan in plans]
    found: list[Pace] = []
    with _one_thread():
        # the first step and evaluation of a process choose and compile what all later ones use
        _pace(task, plans[0], train, judged, device, 0.0)
        began = time.perf_counter()
        for plan in plans:
            if found and time.perf_counter() - began > 2 * limit_s:
                break
            found.append(_pace(task, plan, train, judged, device, limit_s / len(plans)))
    rest = len(plans) - len(found)
    step, fastest, judge = (
        sum(getattr(each, name) for each in found) / len(found) for name in ("step", "fastest", "judged")
    )
    return found + [Pace(step, fastest, judge, max(each.state for each in found))] * rest


def _pace_of_loop(task: LoopTask, plan: Plan, device: torch.device, limit_s: float) -> Pace:
    """The time between steps, with all that the loop does; what it judges is not known from that."""
    run = Probe(replace(plan, epochs=10_000), device, Share("search"), limit_s)
    called(task, run)
    took = [after - before for before, after in pairwise(run.times)][1:]
    if not took:
        raise OptituneError(f"task '{task.name}': its optimizer took too few steps to be timed")
    return Pace(median(took), min(took), 0.0, run.state_bytes)


def _pace(task: Task, plan: Plan, train: Part, judged: Part, device: torch.device, limit_s: float) -> Pace:
    step, fastest, training = _step(task, plan, train, device, FIRST_STEPS, 0.0)
    if (number := min(MOST_STEPS, round(limit_s / 2 / max(step, 1e-6)))) > FIRST_STEPS:
        step, fastest, training = _step(task, plan, train, device, number, limit_s)
    batch = plan.configuration.training.batch_size
    some = judged.take(slice(0, batch * max(1, min(20, round(limit_s / 2 / max(step, 1e-4)))))).to(device)

    def judge() -> float:
        before = time.perf_counter()
        evaluate(training.model, some, training.eval_loss, plan.metric, plan.precision, training.scaling)
        return (time.perf_counter() - before) / len(some)

    judged_s = judge()
    if judged_s * len(some) < limit_s:
        judged_s = min(judged_s, judge())
    return Pace(step, fastest, judged_s, _bytes(training.state_dict()))


def _step(
    task: Task, plan: Plan, train: Part, device: torch.device, number: int, limit_s: float
) -> tuple[float, float, Training]:
    """Seconds of a step, measured over so many at a time until the time is over, also the fewest; and the training."""
    settings = plan.configuration.training
    few = train.take(slice(0, number * settings.batch_size * settings.accumulation)).to(device)
    # without end, since it is the clock that ends it
    training = Training(build(task, plan.seed, device), replace(plan, epochs=10_000), few)
    rows, times = training.run(), [0.0]
    with suppress(Diverged):
        while len(times) == 1 or (times[-1] < limit_s and len(times) < 100):
            times.append(next(rows).seconds)
    took = [after - before for before, after in pairwise(times)] or [training.seconds]
    # the first steps make what a training makes once, such as an optimizer's state
    rest = took[1:] or took
    return median(rest) / training.steps_per_epoch, min(rest) / training.steps_per_epoch, training


def _bytes(value: Any) -> int:
    """Memory of the tensors in a nested structure."""
    if isinstance(value, torch.Tensor):
        return value.nbytes if not value.is_sparse else _bytes([value._indices(), value._values()])
    if isinstance(value, Mapping):
        return sum(map(_bytes, value.values()))
    return sum(map(_bytes, value)) if isinstance(value, list | tuple) else 0


def shared_bytes(*parts: Part) -> int:
    """What the file takes by which worker processes share examples."""
    return sum(_bytes(part.places if isinstance(part, Streamed) else [part.inputs, part.targets]) for part in parts)
