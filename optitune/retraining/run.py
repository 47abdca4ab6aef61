"""Full training of one configuration over fresh seeds, and the one evaluation of each on the sealed test set."""

import hashlib
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast, get_args

import torch

from optitune.common.files import clear, exclusive_lock, make_folder, move_aside
from optitune.common.summary import Summary
from optitune.common.text import Unit
from optitune.errors import OptituneError, UsageError
from optitune.retraining import code as code_files
from optitune.retraining import length as lengths
from optitune.retraining import results
from optitune.retraining.folder import FILES, add_length, write
from optitune.retraining.results import FoundLength, FullPlan, Keep, TriedLength, finished_seeds, summaries
from optitune.retraining.seeds import Trainer, View
from optitune.retraining.sentences import length_found
from optitune.retraining.worker import DIVERGED
from optitune.storage import study_checks
from optitune.storage.request import StageRequest
from optitune.storage.urls import open_storage
from optitune.study.best_config import BestConfig
from optitune.study.custom_optimizers import find_modules
from optitune.tasks import loading, split_checks, splits
from optitune.tasks.data import SAFETENSORS_SCRATCH, Part
from optitune.tasks.loop_task import LoopTask
from optitune.tasks.scaling import Scaling
from optitune.tasks.task import Task
from optitune.training import task_code
from optitune.training.device import resolve_device, resolve_precision
from optitune.training.preflight import check_configuration, fresh_model
from optitune.workers.loop_probe import FirstCall, tried_apart
from optitune.workers.ranks import check_ranks

SEEDS_APART = 1_000_003
"""Full trainings use seeds far from the search's, so that none of its luck is inherited."""


AUTO: Literal["auto"] = "auto"

RESULTS = ("model.safetensors", "curves.png")
"""Files without which results are written again."""

LONGER, SEEDS = 3, 3
"""How many times as long as a trial a full training is, and how many there are, if nothing else is said."""


@dataclass(frozen=True, kw_only=True)
class RetrainRequest(StageRequest):
    """To train a configuration in full.

    Attributes:
        name: of the folder that the results go to.
        config: what to train.
        epochs: a number, `auto` to find one on held-out validation data, or None for three times the search's.
        keep: `last`, or `best` to hold out the validation part and to keep the weights of the epoch that is best on it.
        seeds: how many trainings.
        seed: another seed, other trainings.
        precision: `auto` for the search's.
    """

    name: str
    config: BestConfig
    epochs: int | Literal["auto"] | None = None
    keep: str = "last"
    seeds: int = SEEDS
    seed: int = 0
    precision: str = "auto"


@dataclass(frozen=True)
class RetrainOutcome:
    """What a full training left; `trained` is False where all of it was there already.

    `other_data` says that the data differ from those the configuration was found on, `remarks` what a user should know
    of the data, `unwritten` why the note for optuna-dashboard could not be written, `kept` the epoch of each seed whose
    weights were kept, `length` how the number of epochs was found, if it was.
    """

    name: str
    plan: FullPlan
    unit: Unit
    test_value: Summary
    test_loss: Summary | None
    folder: Path
    seconds: float
    trained: bool
    other_data: bool
    remarks: tuple[str, ...] = ()
    kept: tuple[int | None, ...] = ()
    length: FoundLength | None = None
    unwritten: str = ""

    def document(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "name": self.name,
            "task": self.plan.task,
            "epochs": self.plan.epochs,
            "length": self.length and self.length.document(),
            "keep": self.plan.keep,
            "kept_epochs": list(self.kept) if self.plan.keep == "best" else None,
            "seeds": len(self.plan.seeds),
            "metric": self.unit.metric,
            "test_value": asdict(self.test_value),
            "test_loss": self.test_loss and asdict(self.test_loss),
            "folder": str(self.folder),
            "seconds": self.seconds,
        }


def make_plan(
    request: RetrainRequest, device: torch.device, data: splits.FullData, network: str, code: str, scaled: bool = False
) -> FullPlan:
    """Make the plan of a full training.

    Args:
        request: what the user asked for.
        device: to train on; it decides what precision `auto` is.
        data: to train and test on.
        network: fingerprint of the network.
        code: fingerprint of the task's code.
        scaled: whether targets are scaled.

    Raises:
        UsageError: it has no epoch or no seed.
    """
    config = request.config
    epochs = LONGER * config.epochs if request.epochs in (None, AUTO) else request.epochs
    if not isinstance(epochs, int) or epochs < 1 or request.seeds < 1:
        raise UsageError(f"epochs = {epochs!r}, seeds = {request.seeds}: must be at least 1, and epochs may be 'auto'")
    if request.keep not in get_args(Keep):
        raise UsageError(f"keep = {request.keep!r}: must be last or best")
    if request.precision not in ("auto", "fp32", "bf16"):
        raise UsageError(f"precision = {request.precision!r}: must be auto, fp32 or bf16")
    wanted = config.precision if request.precision == "auto" else request.precision
    return FullPlan(
        task=config.task,
        configuration=config.configuration.stretched(epochs / config.epochs),
        epochs=epochs,
        precision=resolve_precision(wanted, device),
        seeds=tuple(config.seed + SEEDS_APART + 1000 * request.seed + number for number in range(request.seeds)),
        data_checksum=data.checksum,
        network=network,
        code=code,
        data_digests=dict(data.digests),
        scale_targets=scaled,
        keep=cast(Keep, request.keep),
    )


@dataclass(frozen=True)
class Prepared:
    """A full training that is known to be right, before anything is written.

    Attributes:
        device: to train on.
        task: to train.
        data: to train and test on.
        code: of the task.
        about: fingerprints of network and code, and whether targets are scaled.
        folder: of the results.
        held: the data with the validation part held out; None where it is not needed.
        other_data: whether the data differ from those that the configuration was found on.
        remarks: what a user should know of the data.
    """

    device: torch.device
    task: Task
    data: splits.FullData
    code: task_code.Record
    about: tuple[str, str, bool]
    folder: Path
    held: splits.SearchData | None
    other_data: bool
    remarks: tuple[str, ...]


def retrain(request: RetrainRequest, view: View) -> RetrainOutcome:
    """Train in full over fresh seeds, test each once, and write the folder of results.

    Raises:
        UsageError: task, data and configuration do not fit each other.
        OptituneError: the data cannot be had, a training diverges, or the results cannot be written.
        Interrupted: the user stopped it; the epochs done are kept and taken up by the same request.
    """
    began = time.monotonic()
    prepared = prepare(request)
    task, data, held, about, folder = prepared.task, prepared.data, prepared.held, prepared.about, prepared.folder
    remarks, config = list(prepared.remarks), request.config
    training = Trainer(request, task, prepared.device, prepared.code, view)
    with exclusive_lock(folder):
        length = None
        if held is not None and request.epochs == AUTO:
            length = _find_length(request, training, held, about, folder)
            request = replace(request, epochs=length.epochs)
        if held is not None and request.keep == "best":
            data = replace(data, train=held.train, checksum=held.checksum, digests=held.digests)
            if not task.own_validation:
                remarks.append(
                    f"{len(held.validation)} examples are held out to choose the epoch that is kept; "
                    f"{len(held.train)} are trained on"
                )
        plan = make_plan(request, prepared.device, data, *about)
        done = finished_seeds(folder / "metrics.json", plan)
        trained = done is None or not all((folder / name).exists() for name in RESULTS)
        if trained:
            partial = make_folder(partial_of(folder, plan))
            validation = held.validation if held is not None and plan.keep == "best" else None
            done = training.seeds(plan, partial, data.train, lambda: test_of(task, data), validation, remarks)
            if (folder / "metrics.json").exists():
                move_aside(folder)
            origin = {"name": request.name, "study": config.study, "trial": config.trial, **_scaling(task, data)}
            write(folder, partial, origin, plan, task.judge, done, length)
        elif length is not None:
            add_length(folder, length)
        _write_code(request, folder, data, task)
        for each in folder.parent.glob(f"partial/{folder.name}-length-*") if length else ():
            clear(each, FILES, r"\.safetensors|\.json", SAFETENSORS_SCRATCH)
    assert done is not None
    value, loss = summaries(done, task.judge)
    return RetrainOutcome(
        name=request.name,
        plan=plan,
        unit=task.judge.unit,
        test_value=value,
        test_loss=loss,
        folder=folder,
        seconds=round(time.monotonic() - began, 3),
        trained=trained,
        other_data=prepared.other_data,
        remarks=tuple(remarks),
        kept=tuple(seed.kept_epoch for seed in done),
        length=length,
    )


def prepare(request: RetrainRequest, write: bool = True) -> Prepared:
    """Check all that a full training needs.

    Args:
        request: as the user made it.
        write: whether a study that does not know its task's code yet keeps it.

    Raises:
        UsageError: task, data and configuration do not fit each other.
        OptituneError: the data cannot be had.
    """
    device = resolve_device(request.device)
    place = None if request.task is not None else request.located(request.config.task)
    task = loading.judged(request.task or loading.find(place or "", request.data_folder), request.config.reported)
    optimizer = request.config.configuration.optimizer
    find_modules({optimizer.name: optimizer.path}, request.home.folder.parent)
    config = request.config
    paths, tries = {optimizer.name: optimizer.path} if optimizer.path else {}, (config.configuration,)
    check_ranks(request.ranks, task, device)
    studies_dir, ranks = request.home.folder.parent, request.ranks
    call = FirstCall(tries, config.epochs, config.precision, str(device), paths, studies_dir, ranks=ranks)
    task = tried_apart(task, place, request.data_folder, call)
    if isinstance(task, LoopTask) and request.keep == "best":
        raise UsageError(
            "keep = best: is for tasks of ours: a loop of your own judges on one set, which is the test set in a full "
            "training; leave it, or find the length with --epochs auto"
        )
    data = splits.full_data(task)
    if request.config.metric != task.judge.name:
        raise UsageError(
            f"task '{task.name}' is judged by '{task.judge.name}' now, but this configuration was found by "
            f"'{request.config.metric}': search again, or judge by that"
        )
    other_data = split_checks.others(task, data, {**config.data_digests, "checksum": config.data_checksum})
    network = check_configuration(task, data.train, request.config.configuration)
    study_checks.same_scaling(task, config.scaling)
    record = task_code.record(task, fresh_model(task), config.task)
    about = (network, _code(request, task, record, network, write), task.scale_targets)
    folder = request.home.folder / "retrain" / request.name
    # what is wrong with the request is said before anything trains
    make_plan(request, device, data, *about)

    remarks = ("the validation data are not trained on",) if task.own_validation else ()
    held = splits.held_out(task, data) if request.epochs == AUTO or request.keep == "best" else None
    return Prepared(device, task, data, record, about, folder, held, other_data, remarks)


def test_of(task: Task, data: splits.FullData) -> Part:
    return data.sealed if data.sealed is not None else splits.load_test(task)


def _write_code(request: RetrainRequest, folder: Path, data: splits.FullData, task: Task) -> None:
    """Write code and configuration beside the results, unless they are there."""
    found = results.load(folder)
    if found is not None and not all((folder / name).exists() for name in (code_files.CONFIG, code_files.CODE)):
        code_files.write(folder, request.config, found, _scaling(task, data).get("scaling", {}), request.seed)


def _scaling(task: Task, data: splits.FullData) -> dict[str, Any]:
    """Mean and deviation that bring the saved network's outputs back into the targets' unit, where there are any."""
    return {"scaling": Scaling.of(data.train).document()} if task.scale_targets else {}


def _code(request: RetrainRequest, task: Task, code: task_code.Record, network: str, write: bool) -> str:
    """The digest of the task's code, which must be what the study's trials were trained with, if it is there.

    Raises:
        UsageError: it has changed, or the metric has.
    """
    home = request.home
    opened = home.load(open_storage(home.url, create=False)) if home.url.exists() else None
    if opened is None:
        return str(code.get("id", ""))
    study_checks.same_metric(opened, task.judge)
    return study_checks.same_code(opened, request.config.task, code, network, write=write)


def partial_of(folder: Path, plan: FullPlan, what: str = "") -> Path:
    """Where the unfinished trainings of a plan lie; another plan has another place.

    Args:
        folder: of the results.
        plan: of the trainings.
        what: they are for, as the beginning of a name; empty for the results themselves.
    """
    return folder.parent / "partial" / f"{folder.name}-{what}{_digest(plan)}"


def _digest(plan: FullPlan) -> str:
    return hashlib.sha256(plan.model_dump_json().encode()).hexdigest()[:12]


def _find_length(
    request: RetrainRequest,
    training: Trainer,
    held: splits.SearchData,
    about: tuple[str, str, bool],
    folder: Path,
) -> FoundLength:
    """Find the number of epochs, see `length.find`; what an earlier call found of just this is taken.

    Args:
        request: what the user asked for.
        training: how to train.
        held: what is trained on, and what each length is judged on.
        about: fingerprints of network and code, and whether targets are scaled.
        folder: of the results.
    """
    before = known_length(request, training.device, held, about, folder)
    if before is not None:
        return before
    first, metric = request.config.epochs, training.task.judge

    def train(epochs: int) -> TriedLength:
        plan = _plan_of_length(request, training.device, held, about, epochs)
        partial = make_folder(partial_of(folder, plan, "length-"))
        try:
            (result,) = training.seeds(plan, partial, held.train, lambda: held.validation, None, [], "validation")
        except OptituneError:
            # a longer training may diverge where a shorter one does not
            if epochs == first or not (partial / DIVERGED.format(0)).exists():
                raise
            return TriedLength(epochs=epochs, value=None, seconds=0.0)
        # the result stays, for what is killed later
        clear(partial, FILES, r"\.safetensors", SAFETENSORS_SCRATCH)
        return TriedLength(epochs=epochs, value=result.test_value, seconds=result.seconds)

    made_with = _digest(_plan_of_length(request, training.device, held, about, first))
    found = FoundLength(tried=tuple(lengths.find(first, train, metric)), made_with=made_with)
    training.view.note(length_found(found, metric.unit))
    return found


def known_length(
    request: RetrainRequest, device: torch.device, held: splits.SearchData, about: tuple[str, str, bool], folder: Path
) -> FoundLength | None:
    """The number of epochs that an earlier call found of just this; None where there is none.

    Args:
        request: what the user asked for.
        device: to train on.
        held: what is trained on, and what each length is judged on.
        about: fingerprints of network and code, and whether targets are scaled.
        folder: of the results.
    """
    before = results.load(folder)
    made_with = _digest(_plan_of_length(request, device, held, about, request.config.epochs))
    length = before.length if before is not None else None
    return length if length is not None and length.made_with == made_with else None


def _plan_of_length(
    request: RetrainRequest, device: torch.device, held: splits.SearchData, about: tuple[str, str, bool], epochs: int
) -> FullPlan:
    data = splits.FullData(held.train, None, held.checksum, held.digests)
    return make_plan(replace(request, epochs=epochs, seeds=1, keep="last"), device, data, *about)
