"""`Run`: all that a training loop of the user's own needs of a search, a comparison or a full training."""

import threading
from collections.abc import Callable, Collection
from pathlib import Path
from time import perf_counter
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from optitune.common.randomness import seed_everything
from optitune.common.text import plural
from optitune.errors import UsageError
from optitune.tasks import dividing
from optitune.tasks.dividing import Division, Share
from optitune.tasks.grouping import Order
from optitune.tasks.task import kind
from optitune.tasks.user_code import caller_place
from optitune.training.build import build_schedules
from optitune.training.epochs import Epochs
from optitune.training.evaluation import Evaluation
from optitune.training.kept_objects import KeptObjects
from optitune.training.loop_parts import LoopScheduler, Trained, as_module, hook_steps, optimizer_of
from optitune.training.plan import Plan
from optitune.training.progress import Diverged, Progress
from optitune.training.ranks import ALONE, Elsewhere, Peers
from optitune.training.reported import check_weights, checked, values_of
from optitune.training.resume import Report
from optitune.training.run_facts import Facts
from optitune.training.sharded import whole
from optitune.training.weights import bare

UNMOVED = 3
"""After how many reports of one and the same value a loop may be called stuck."""


class Run(Facts):
    """One training, as a loop of the user's own sees it.

    Args:
        plan: of the training.
        report: called at every evaluation; see `optitune.training.resume.Report`.
        stopping: asked at every evaluation whether to stop.
        path: of the checkpoint; None to keep none.
        identity: all that decides the training's numbers; see `Record`.
        device: to train on.
        share: which part of the data it gets.
        folder: for files of the loop's own; None for none.
        peers: the processes that train together.
        options: of `Record`.

    Attributes:
        elsewhere: what other processes that ran the loop came to; None where it ran here.

    Example:
        >>> def train(run):
        ...     train_set, judge_set = run.split((inputs, targets))
        ...     model = torch.nn.Linear(4, 1).to(run.device)
        ...     optimizer = run.optimizer(model)
        ...     run.keep(model=model, optimizer=optimizer)
        ...     for epoch in run.epochs():
        ...         loss = torch.nn.functional.mse_loss(model(train_set[0]), train_set[1])
        ...         optimizer.zero_grad()
        ...         loss.backward()
        ...         optimizer.step()
        ...         run.report(float((model(judge_set[0]) - judge_set[1]).square().mean()), loss=float(loss))
    """

    def __init__(
        self,
        plan: Plan,
        report: Report,
        stopping: Callable[[], bool],
        path: Path | None = None,
        identity: Any = None,
        *,
        device: torch.device = torch.device("cpu"),  # noqa: B008
        share: Share = Share(),  # noqa: B008
        folder: Path | None = None,
        peers: Peers = ALONE,
        **options: Any,
    ) -> None:
        super().__init__(
            plan, report, stopping, path, identity, device=device, share=share, folder=folder, peers=peers, **options
        )
        self.elsewhere: Elsewhere | None = None
        self._kept = KeptObjects()
        self._began_epochs = False
        self._within = self._iterated = False
        self._thread = threading.get_ident()
        self._began = perf_counter()
        self._before = 0.0
        self._judged = self._shard = 0
        self._lr: float | None = None
        self.optimizers: dict[str, Optimizer] = {}
        self.trained: dict[str, nn.Module] = {}
        self.schedulers: dict[int, LoopScheduler] = {}
        self.division: Division | None = None
        self.place = ""
        self.steps = 0

    def arguments(self) -> dict[str, Any]:
        """What another process makes a `Run` of this training with, but for what it reports to."""
        kept = {name: getattr(self, f"_{name}") for name in ("path", "identity", "wait", "durable", "keep_end")}
        return {**kept, "share": self._share, "folder": self._folder}

    def split(
        self,
        data: Any,
        validation: Any = 0.2,
        test: Any = None,
        *,
        groups: Any = None,
        split: Order = "random",
        shards: bool = False,
    ) -> tuple[Any, Any]:
        """Divide data into what this training trains on and what it is judged on.

        In a search these are training and validation data; in a comparison other examples are held out in every round,
        or, where validation data are given, those judge every round; in a full training they are all but the test set
        and the given validation data, and the test set, whose value counts at the last epoch alone.

        Args:
            data: all data but test and validation data of their own: a data set, tensors, arrays, a DataFrame, or a
                tuple or dict of these; or a number of examples, for which indices come back.
            validation: share or number of examples to hold out in a search, or data that serve for that alone.
            test: the test set; without one, a fifth of `data` is set apart, which no search and no comparison sees.
            groups: an id for each example of `data`, such as a patient's, as in `optitune.Task`.
            split: `random`, or `time` where `data` are in order of time, as in `optitune.Task`; then all parts are so.
            shards: give each rank its own share of both parts, every so many-th example: as many to train on for each,
                and up to one more to judge on for the first ones. Without, all ranks get the same.

        Returns:
            (to train on, to judge on), each in the form of the data.

        Raises:
            UsageError: the data cannot be divided, or are others than before.
        """
        self._same_thread("run.split")
        if self.division is not None:
            self._fail("run.split was called twice in one training: divide all data by one call, as a tuple or a dict")
        try:
            parts = dividing.parts_of(data, validation, test, self._share, groups, split)
        except UsageError as error:
            raise UsageError(f"{error}{caller_place()}") from None
        self.division, self._judged = parts.division, dividing.length(parts.judged, "validation")
        self.found(parts.checksum, parts.judged if parts.own and not self._share.test else None)
        if not shards or self.ranks == 1:
            return parts.train, parts.judged
        train, judged = dividing.sharded(parts, self.rank, self.ranks)
        self._shard = dividing.length(judged, "validation")
        return train, judged

    def found(self, checksum: str, validation: Any) -> None:
        """The data were divided; for who wants to know.

        Args:
            checksum: of all data but the test set.
            validation: validation data of their own; None where there are none, or they are not wanted.
        """

    def optimizer(self, trained: Trained, name: str = "") -> Optimizer:
        """The optimizer of this training for these parameters.

        Args:
            trained: a module, its `parameters()` or `named_parameters()`.
            name: of one of several optimizers; its parameters are called `NAME.*` in parameter groups, and a search
                has a factor of the learning rate for each name.

        Raises:
            UsageError: there is nothing to train, or two optimizers have one name.
        """
        self._same_thread("run.optimizer")
        if name in self.optimizers:
            again = f"a second time by name '{name}'" if name else "a second time"
            self._fail(
                f"run.optimizer was called {again}: give each a name of its own, run.optimizer(critic, name=...)"
            )
        module = as_module(trained, name)
        optimizer = optimizer_of(module, self.plan.configuration)
        self.trained[name], self.optimizers[name] = module, optimizer
        if len(self.optimizers) == 1:
            factor = float(optimizer.param_groups[0]["lr"]) / self.plan.configuration.lr

            def before_step() -> None:
                self.steps += 1
                self._lr = float(optimizer.param_groups[0]["lr"]) / factor

            hook_steps(optimizer, before_step)
        return optimizer

    def scheduler(self, optimizer: Optimizer, steps_per_epoch: int) -> LoopScheduler:
        """The learning-rate schedule of this training, to be stepped after every step of its optimizer.

        Args:
            optimizer: from `run.optimizer`.
            steps_per_epoch: how many steps an epoch has, such as `len(loader)`.

        Raises:
            UsageError: an argument is of the wrong kind.
        """
        self._same_thread("run.scheduler")
        if not isinstance(optimizer, Optimizer):
            self._fail(f"run.scheduler: is given something {kind(optimizer)}, but must be given an optimizer")
        if not isinstance(steps_per_epoch, int) or isinstance(steps_per_epoch, bool) or steps_per_epoch < 1:
            self._fail(f"run.scheduler(steps_per_epoch={steps_per_epoch!r}): must be a whole number of at least 1")
        parts = build_schedules(self.plan.configuration.schedule, optimizer, self.plan.epochs, steps_per_epoch)
        made = self.schedulers[id(optimizer)] = LoopScheduler(optimizer, parts, steps_per_epoch)
        return made

    def keep(self, **objects: Any) -> None:
        """Keep these in the checkpoint; the first epoch begins with them where a killed training left them.

        Args:
            objects: whatever has `state_dict` and `load_state_dict`, by name: networks, optimizers, schedulers.

        Raises:
            UsageError: one has not.
        """
        self._same_thread("run.keep")
        for name, each in objects.items():
            if not callable(getattr(each, "state_dict", None)) or not callable(getattr(each, "load_state_dict", None)):
                self._fail(
                    f"run.keep({name}=...): is {kind(each)}, without state_dict and load_state_dict, so that it cannot "
                    "be taken up again: keep networks, optimizers and schedulers, and write the rest into run.folder"
                )
        if self._began_epochs or self.history:
            self._fail("run.keep was called after training began: call it before the first epoch")
        self._kept.objects.update(objects)

    def adopt(self) -> None:
        """Go on where the checkpoint ends, if there is one of all that is kept.

        Raises:
            Stopped: the training ends there.
        """
        if self._began_epochs:
            return
        self._began_epochs = True
        if self._kept.objects and self.take_up(self._kept):
            self._before, self._began = self.seconds, perf_counter()

    def _stored(self, steps: int) -> tuple[list[Progress], dict[str, Any]] | None:
        found = super()._stored(steps)
        if self._keeps is self._kept and found is not None and found[1].keys() != self._kept.objects.keys():
            # half of what was kept would be a training that never was
            return None
        return found

    def epochs(self) -> Epochs:
        """The epochs that are left, from 0 on; each is to be reported once before it ends.

        Its length is the number of all epochs.
        """
        self._same_thread("run.epochs")
        return Epochs(self)

    def begin_epoch(self) -> None:
        """Begin an epoch; whatever it draws follows from seed and epoch, also where it is taken up again."""
        self._within = self._iterated = True
        seed_everything((self.plan.seed << 20) + self.epoch + 1)

    def report(self, value: Any, loss: Any = None, each: Any = None) -> None:
        """End an epoch, and end the training here where it is pruned or stopped.

        Args:
            value: of the study's metric, on what `run.split` gave to judge on.
            loss: mean training loss of the epoch; None where it is not known.
            each: the metric of each example judged, in a fixed order, whose mean is the metric, (n,); None where that
                is not known.

        Raises:
            UsageError: it was reported before, or something is no number.
        """
        if self.ended:
            # the loop has caught what ended it
            self.stop()
        self._same_thread("run.report")
        self.adopt()
        try:
            progress = self._reported(value, loss, each)
        except (Diverged, UsageError) as cause:
            # not by itself, since a loop may catch any error
            self.stop(cause)
        for schedule in self.schedulers.values():
            if schedule.observes and progress.train_loss is not None:
                schedule.observe(progress.train_loss)
        self._within = False
        self.progress(progress)
        self._before, self._began = self.seconds, perf_counter()

    def _reported(self, value: Any, loss: Any, each: Any) -> Progress:
        place, epoch = caller_place(), self.epoch + 1
        if self.history and self._iterated and not self._within:
            raise UsageError(f"run.report was called twice in epoch {self.epoch}{place}: report each epoch once")
        if epoch > self.plan.epochs:
            raise UsageError(
                f"run.report was called for epoch {epoch} of {self.plan.epochs}{place}: train for epoch in run.epochs()"
            )
        number, train_loss = checked(value, loss, self.plan.metric, epoch, place)
        check_weights(self.trained.values(), epoch, place)
        if train_loss is None and any(schedule.observes for schedule in self.schedulers.values()):
            raise UsageError(
                f"run.report: the schedule '{self.plan.configuration.schedule.name}' follows the training loss{place}: "
                "report it, too, run.report(value, loss=...)"
            )
        values = None if each is None else values_of(each, number, self._sizes(), place)
        evaluation = Evaluation(float("nan"), number, self._judged, None, values, self._unmoved(number))
        lr = self.plan.configuration.lr if self._lr is None else self._lr
        seconds = self._before + perf_counter() - self._began
        return Progress(self.steps or epoch, epoch, lr, train_loss, None, evaluation, seconds)

    def _sizes(self) -> Collection[int]:
        """How many values of examples may be reported; empty where that is not known."""
        return (self._judged,) if self._judged else ()

    def _unmoved(self, value: float) -> bool:
        """Whether the values before were the same."""
        before = [row.validation.value for row in self.history if row.validation][-UNMOVED + 1 :]
        return len(before) == UNMOVED - 1 and set(before) == {value}

    def finish(self) -> None:
        """The loop has returned.

        Raises:
            UsageError: it ended too soon.
        """
        if self.done or self.ended:
            return
        if not self.history:
            raise UsageError(
                f"the loop ended without a run.report{self.place}: report every epoch, run.report(value, loss=...)"
            )
        raise UsageError(
            f"the loop ended after {self.epoch} of {plural(self.plan.epochs, 'epoch')}{self.place}: train for epoch in "
            "run.epochs(), which ends by itself"
        )

    @property
    def modules(self) -> dict[str, nn.Module]:
        """The networks that were kept, by name, or those that were trained."""
        return self._kept.networks or {name or "model": each for name, each in self.trained.items()}

    @property
    def keeps(self) -> bool:
        """Whether the loop keeps anything."""
        return bool(self._kept.objects)

    @property
    def judged(self) -> int:
        """How many examples it judges on; 0 where that is not known."""
        return self._judged

    def weights(self) -> dict[str, Tensor]:
        """The weights of all networks; with their names before where there are several."""
        if self.elsewhere is not None:
            return self.elsewhere.weights or {}
        states = {
            name: {key: whole(value) for key, value in bare(each).state_dict().items()}
            for name, each in self.modules.items()
        }
        if len(states) == 1:
            return dict(*states.values())
        return {f"{name}.{key}": value for name, state in states.items() for key, value in state.items()}

    def _same_thread(self, doing: str) -> None:
        if threading.get_ident() != self._thread:
            self._fail(
                f"{doing} was called in a thread of the loop's own: call it in the thread that train(run) runs in"
            )

    def _fail(self, text: str) -> NoReturn:
        raise UsageError(text + caller_place())
