"""What a search costs beside training: its share of the wall clock, its memory, and how both grow with trials.

    python -m scripts.bench.search.overhead --data-dir DIR [--trials 50] [--epochs 5] [--train-examples N]
    python -m scripts.bench.search.overhead --growth [--sizes 50,500,5000] [--storage URL]

The first runs one real search and splits the workers' time, by the times that its trials wrote down, into training,
start-up, sampling and storage, and waiting at the end. Memory is read from /proc every two seconds: Linux only.

The second needs no data: it fills studies with made-up trials and measures what one more trial costs in sampling
and storage, part by part, without any training. With --storage in that empty database, else in SQLite files.

Both print a table and one line of JSON.
"""

import argparse
import datetime
import json
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
import torch
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState

from optitune.sampling import parameters as suggestion
from optitune.sampling.forecast import LR_AHEAD
from optitune.searching import objective
from optitune.searching.best_file import BestFile
from optitune.searching.trial_queue import TrialQueue
from optitune.searching.worker import open_study
from optitune.space.configuration import Configuration
from optitune.space.search_space import LR_FACTOR
from optitune.storage import studies, study_checks
from optitune.storage import trials as storage_trials
from optitune.storage.urls import open_storage, sqlite_url
from optitune.study import steps
from optitune.study.settings import StudySettings
from optitune.tasks import metrics
from optitune.workers.leases import Owner

POLL_S = 2.0
EPOCH_STEPS = 860
"""Steps of an epoch of MNIST in batches of 64."""

FACTS = {"checksum": "sha256:" + 64 * "0", "train_examples": 55_000, "validation_examples": 5_000}
ACCURACY = metrics.find("accuracy")
STARTS = 5


def in_words() -> dict[str, Any]:
    """The machine, the versions and the day."""
    try:
        processor = torch.cpu.get_capabilities()["cpu_name"]
    except (AttributeError, KeyError):
        processor = platform.processor()
    return {"cpu": processor, "date": datetime.date.today().isoformat(), "versions": studies.versions()}


def table(rows: Iterable[tuple[str, ...]]) -> None:
    """Print rows of cells, the first column to the left."""
    for first, *others in rows:
        print(f"{first:36}" + "".join(f"{cell:>13}" for cell in others))


def starting() -> dict[str, float]:
    """Seconds until a process that only shows help is over, and one that only imports click; medians."""
    commands = {
        "optitune --help": [sys.executable, "-m", "optitune", "--help"],
        "import click": [sys.executable, "-c", "import click"],
        "optitune search --help": [sys.executable, "-m", "optitune", "search", "--help"],
    }
    took: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(STARTS):
        for name, command in commands.items():
            began = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            took[name].append(time.perf_counter() - began)
    return {name: round(statistics.median(values), 3) for name, values in took.items()}


# -- one real search -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Span:
    """One trial as its times tell it: who trained it, when it was taken and told, and how long it trained."""

    worker: int
    began: float
    ended: float
    seconds: float


def shares(spans: Iterable[Span], began: float, ended: float) -> dict[str, float]:
    """Where the time of all workers went, in seconds of one worker; the parts add up to workers x wall clock."""
    parts: dict[str, float] = defaultdict(float)
    by_worker: dict[int, list[Span]] = defaultdict(list)
    for span in sorted(spans, key=lambda each: each.began):
        by_worker[span.worker].append(span)
    last = max(each.ended for own in by_worker.values() for each in own)
    for own in by_worker.values():
        parts["training and evaluation"] += sum(each.seconds for each in own)
        parts["start-up, until the first trial"] += own[0].began - began
        parts["within trials: sampling, reports"] += sum(each.ended - each.began - each.seconds for each in own)
        parts["between trials: telling, taking"] += sum(later.began - earlier.ended for earlier, later in pairwise(own))
        parts["tail, nothing left to take"] += last - own[-1].ended
        parts["after the last trial, until exit"] += ended - last
    return dict(parts)


def family(pid: int) -> list[int]:
    """A process and all its descendants."""
    children: dict[int, list[int]] = defaultdict(list)
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = path.read_text()
        except OSError:
            continue
        # the name in brackets may hold anything, brackets too
        children[int(text.rpartition(")")[2].split()[1])].append(int(path.parent.name))
    found = [pid]
    for each in found:
        found += children[each]
    return found


def memory(pid: int) -> dict[str, float]:
    """What a process holds, in MB: resident, its fair share of that, and what is its alone; empty where it is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return {}
    held = {line.split(":")[0]: int(line.split()[1]) / 1000 * 1.024 for line in lines}
    private = held.get("Private_Clean", 0.0) + held.get("Private_Dirty", 0.0)
    return {"rss": held.get("Rss", 0.0), "pss": held.get("Pss", 0.0), "private": private}


def watched(command: list[str]) -> tuple[float, float, dict[int, dict[str, float]], float, int, str]:
    """Run a command to its end.

    Returns:
        (when it began, when it ended, the most that each process held, the most that all held together,
        the command's process, what it printed)
    """
    peaks: dict[int, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    together = 0.0
    with tempfile.TemporaryFile("w+") as output:
        began = time.time()
        process = subprocess.Popen(command, stdout=output, text=True)
        while process.poll() is None:
            now = {pid: memory(pid) for pid in family(process.pid)} if sys.platform == "linux" else {}
            for pid, held in now.items():
                for name, value in held.items():
                    peaks[pid][name] = max(peaks[pid][name], value)
            together = max(together, sum(held.get("pss", 0.0) for held in now.values()))
            try:
                process.wait(POLL_S)
            except subprocess.TimeoutExpired:
                continue
        ended = time.time()
        output.seek(0)
        printed = output.read()
    if process.returncode:
        sys.exit(f"the search failed: {printed}")
    return began, ended, {pid: dict(held) for pid, held in peaks.items()}, together, process.pid, printed


def one_search(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run one real search, print where its time and memory went, and return that as data."""
    command = [sys.executable, "-m", "optitune", "search", "--json", "--data-dir", str(options.data_dir)]
    command += ["--studies-dir", str(folder), "--trials", str(options.trials), "--epochs", str(options.epochs)]
    if options.train_examples:
        command += ["--train-examples", str(options.train_examples)]
    began, ended, peaks, together, parent, printed = watched(command)
    task = json.loads(printed)["task"]
    trials = studies.find(open_storage(sqlite_url(folder / task / "study.db"), create=False), task).trials
    spans = [
        Span(
            trial.user_attrs[storage_trials.OWNER]["pid"],
            trial.datetime_start.timestamp(),
            trial.datetime_complete.timestamp(),
            trial.user_attrs[storage_trials.SECONDS],
        )
        for trial in trials
        if trial.datetime_start and trial.datetime_complete
    ]
    workers = sorted({span.worker for span in spans})
    parts = shares(spans, began, ended)
    total = len(workers) * (ended - began)
    training = parts["training and evaluation"]
    print(f"{len(spans)} trials, wall clock {ended - began:.1f} s, {len(workers)} workers: {total:.1f} s of workers")
    table([(name, f"{value:.2f} s", f"{100 * value / total:.2f} %") for name, value in parts.items()])
    print(f"not training or evaluation: {100 * (total - training) / total:.2f} %")
    named = {"parent": parent} | {f"worker {number}": pid for number, pid in enumerate(workers)}
    held = {name: peaks[pid] for name, pid in named.items() if pid in peaks}
    if held:
        print(f"\npeak memory, MB; all processes together {together:.0f} (Pss)")
        table([("", "Rss", "Pss", "private")])
        table([(name, *(f"{row[key]:.0f}" for key in ("rss", "pss", "private"))) for name, row in held.items()])
    return {
        "trials": len(spans),
        "epochs": options.epochs,
        "train_examples": options.train_examples,
        "wall_s": round(ended - began, 2),
        "workers": len(workers),
        "parts_s": {name: round(value, 2) for name, value in parts.items()},
        "not_training": round((total - training) / total, 4),
        "peak_mb": {name: {key: round(value) for key, value in row.items()} for name, row in held.items()},
        "peak_pss_mb_together": round(together),
    }


# -- how sampling and storage grow ------------------------------------------------------------------------------------


def ahead(configuration: Configuration, epochs: int) -> dict[str, float]:
    """What a trial of this configuration notes of its learning rate."""
    return objective.changes_ahead(configuration.schedule, epochs, steps.EVALUATIONS_PER_EPOCH, EPOCH_STEPS)


def made_up(settings: StudySettings, trials: int) -> list[FrozenTrial]:
    """Finished trials, drawn at random as `parameters.suggest` draws, with curves that depend a little on the draw."""
    chance = random.Random(0)  # noqa: S311
    space = settings.space()
    source = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))
    began = datetime.datetime.now() - datetime.timedelta(days=1)
    for number in range(trials):
        trial = source.ask()
        configuration = suggestion.suggest(trial, settings, space)
        best = 0.99 - 0.01 * abs(trial.params[LR_FACTOR] - 1) - 0.02 * chance.random()
        evaluations = steps.EVALUATIONS_PER_EPOCH * settings.epochs
        pruned = number >= len(settings.optimizers) and chance.random() < 0.4
        reports = chance.randrange(steps.EVALUATIONS_PER_EPOCH + 1, evaluations) if pruned else evaluations
        for step in range(1, reports + 1):
            value = min(1.0, max(0.1, best - 0.2 / step + 0.005 * chance.random()))
            trial.report(value, step * EPOCH_STEPS // steps.EVALUATIONS_PER_EPOCH)
        attributes = {
            storage_trials.OWNER: {"machine": "bench", "pid": 1, "lock": f"/tmp/{number:032x}.lock"},  # noqa: S108
            storage_trials.DEVICE: "cpu",
            "lr": configuration.lr,
            storage_trials.CONFIGURATION: configuration.model_dump(mode="json"),
            storage_trials.OUTCOME: "pruned" if pruned else "complete",
            storage_trials.SECONDS: 10.0,
            storage_trials.EPOCHS: reports / steps.EVALUATIONS_PER_EPOCH,
            LR_AHEAD: ahead(configuration, settings.epochs),
        }
        if pruned:
            attributes[storage_trials.REASON] = "pruned at epoch 2.5: accuracy 0.9123 is behind what this pruner keeps"
        for key, attribute in attributes.items():
            trial.set_user_attr(key, attribute)
        source.tell(trial, None if pruned else value, TrialState.PRUNED if pruned else TrialState.COMPLETE)
    found = source.get_trials(deepcopy=False)
    for number, frozen in enumerate(found):
        frozen.datetime_start = began + datetime.timedelta(seconds=10 * number)
        frozen.datetime_complete = frozen.datetime_start + datetime.timedelta(seconds=10)
    return found


def fill(opened: optuna.Study, engine: sqlalchemy.Engine, trials: Sequence[FrozenTrial]) -> None:
    """Write finished trials into an empty study, in one transaction; through Optuna it would take minutes."""
    rows: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    finite = models.TrialIntermediateValueModel.TrialIntermediateValueType.FINITE
    heading = models.TrialModel.__table__
    with engine.begin() as connection:
        heads = [
            {
                "number": trial.number,
                "study_id": opened._study_id,
                "state": trial.state,
                "datetime_start": trial.datetime_start,
                "datetime_complete": trial.datetime_complete,
            }
            for trial in trials
        ]
        connection.execute(sqlalchemy.insert(heading), heads)
        made = sqlalchemy.select(heading.c.number, heading.c.trial_id).where(heading.c.study_id == opened._study_id)
        # the database numbers the rows, so that it goes on from there
        ids = {row.number: row.trial_id for row in connection.execute(made)}
        for trial in trials:
            key = {"trial_id": ids[trial.number]}
            value = {"objective": 0, "value": trial.value, "value_type": models.TrialValueModel.TrialValueType.FINITE}
            rows[models.TrialValueModel].append(key | value)
            for name, distribution in trial.distributions.items():
                stored = {
                    "param_value": distribution.to_internal_repr(trial.params[name]),
                    "distribution_json": optuna.distributions.distribution_to_json(distribution),
                }
                rows[models.TrialParamModel].append(key | {"param_name": name} | stored)
            for name, attribute in trial.user_attrs.items():
                rows[models.TrialUserAttributeModel].append(key | {"key": name, "value_json": json.dumps(attribute)})
            for step, reported in trial.intermediate_values.items():
                point = {"step": step, "intermediate_value": reported, "intermediate_value_type": finite}
                rows[models.TrialIntermediateValueModel].append(key | point)
        for model, content in rows.items():
            connection.execute(sqlalchemy.insert(model.__table__), content)


def growth(
    settings: StudySettings, home: studies.StudyLocation, trials: list[FrozenTrial], rounds: int
) -> dict[str, float]:
    """Seconds of each part of one more trial, medians, in a study that has these trials already."""
    storage = open_storage(home.url, create=True)
    fill(study_checks.create_or_resume(storage, home.name, settings, FACTS, ACCURACY), storage.engine, trials)
    took: dict[str, list[float]] = defaultdict(list)

    def timed(name: str, call: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        result = call()
        took[name].append(time.perf_counter() - began)
        return result

    parent = home.open()
    keeper = timed("parent's first reading, once", lambda: BestFile(parent, home))
    worker = open_study(home, settings, ACCURACY)
    timed("worker's first reading, once", lambda: worker.get_trials(deepcopy=False))
    sampler, drawn = worker.sampler, worker.sampler.infer_relative_search_space
    sampler.infer_relative_search_space = lambda *given: timed("of which the sampler", lambda: drawn(*given))  # type: ignore[method-assign]
    owner = Owner(home.folder / "workers")
    desk = TrialQueue(worker, len(trials) + rounds + 1, owner, home.folder, home.url.is_sqlite)

    def judge(trial: optuna.Trial) -> None:
        for step in range(1, steps.EVALUATIONS_PER_EPOCH * settings.epochs + 1):
            trial.report(0.97 - 0.2 / step, step * EPOCH_STEPS // steps.EVALUATIONS_PER_EPOCH)
            trial.should_prune()

    def suggest(trial: optuna.Trial) -> None:
        configuration = suggestion.suggest(trial, settings, settings.space())
        trial.set_user_attr(storage_trials.DEVICE, "cpu")
        trial.set_user_attr("lr", configuration.lr)
        trial.set_user_attr(storage_trials.CONFIGURATION, configuration.model_dump(mode="json"))
        trial.set_user_attr(LR_AHEAD, ahead(configuration, settings.epochs))
        storage_trials.trained_before(worker, configuration.model_dump(mode="json"), "cpu")

    for _ in range(rounds + 1):
        began = time.perf_counter()
        trial, _ = timed("take", desk.claim)
        timed("suggest", lambda: suggest(trial))  # noqa: B023
        timed("20 reports, each judged", lambda: judge(trial))  # noqa: B023
        timed("tell", lambda: desk.report(trial, "complete", 0.96, "", 10.0))  # noqa: B023
        timed("complete?", desk.is_complete)
        timed("parent's reading after it", keeper.refresh)
        took["a trial, all of these"].append(time.perf_counter() - began)
    owner.release()
    # the first trial of a process imports and compiles what the others find ready
    return {name: statistics.median(values[1:] or values) for name, values in took.items()}


def growths(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Print what one more trial costs in studies of several sizes, and return that as data."""
    settings = StudySettings(precision="fp32")
    sizes = [int(size) for size in options.sizes.split(",")]
    trials = made_up(settings, max(sizes))
    found = {}
    for size in sizes:
        name = f"of-{size}"
        found[size] = growth(settings, studies.location(folder, name, options.storage), trials[:size], options.rounds)
        shutil.rmtree(folder / name)
    table([("trials in the study", *(f"{size:,}" for size in sizes))])
    table([(part, *(f"{1000 * found[size][part]:.1f} ms" for size in sizes)) for part in found[sizes[0]]])
    started = starting()
    print()
    table([(name, f"{1000 * seconds:.0f} ms") for name, seconds in started.items()])
    rounded = {size: {part: round(value, 5) for part, value in row.items()} for size, row in found.items()}
    return {"growth_s": rounded, "rounds": options.rounds, "start_s": started}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--train-examples", type=int)
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--sizes", default="50,500,5000")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--storage")
    options = parser.parse_args()
    if not options.growth and options.data_dir is None:
        parser.error("name --data-dir, or --growth, which needs no data")
    with tempfile.TemporaryDirectory() as folder:
        found = (growths if options.growth else one_search)(options, Path(folder))
    print(json.dumps(found | in_words()))


if __name__ == "__main__":
    main()
