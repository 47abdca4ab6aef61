"""How long a search takes: ours against the one most people write by hand, and when ours is as good.

The plain search is `yardstick.plain_search`: one process, Optuna's default TPE sampler and median pruner, one wide
range of learning rates. Against it: the whole command `optitune search`, start-up included, on the CPU. Both train on
the same images, are judged on the same validation images, and run in turn.

Then the winner of the plain search and the best-so-far configurations of ours, in the order in which ours found them,
are trained by one and the same loop (our engine, float32) over seeds that neither search used. The first of ours whose
mean validation accuracy is at least the plain winner's is as good as it; the time is when its trial ended.

    python -m scripts.bench.search.duration --data-dir DIR [--trials 50] [--epochs 5] [--train-examples 12000]
        [--seeds 5] [--rounds 1] [--seed 0]

Prints a table (medians over the rounds) and one line of JSON; tells on stderr how far it is.
"""

import argparse
import json
import multiprocessing
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from math import inf, isinf, sqrt
from pathlib import Path
from statistics import fmean, median, stdev

import torch

from optitune.space.configuration import Configuration, TrainingSettings
from optitune.storage import studies
from optitune.storage import trials as storage_trials
from optitune.tasks import builtin, metrics, splits
from optitune.tasks.data import split
from optitune.tasks.datasets import load_train
from optitune.training import build
from optitune.training.build import build_loss
from optitune.training.engine import Training
from optitune.training.evaluation import evaluate
from optitune.training.plan import Plan
from optitune.training.progress import Diverged
from optitune.workers.pool import auto
from optitune.workers.process import configure_worker_process
from scripts.bench.yardstick import BATCH, VALIDATION_BATCH, Ended, Search, incumbents, plain_search, tutorial_loader

ROW = builtin.TASKS["mnist-cnn"]
TASK = ROW.task(Path())
LOSS, ACCURACY = build_loss(TrainingSettings(), None), metrics.find("accuracy")
STUDY = "bench-search"
CPU = torch.device("cpu")
FRESH_SEEDS = 2_000_003
"""Where the seeds of the judgement begin, far from those of the searches."""

DEFAULTS = {"--trials": 50, "--epochs": 5, "--train-examples": 12_000, "--seeds": 5, "--rounds": 1, "--seed": 0}

Scores = tuple[float, ...]
"""Validation accuracy by seed."""


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def our_search(options: argparse.Namespace, seed: int) -> Search:
    """Run `optitune search` as a user would, and read its study."""
    # an open SQLite file cannot be removed on every system
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        flags = {
            "--task": TASK.name,
            "--study": STUDY,
            "--studies-dir": folder,
            "--data-dir": options.data_dir,
            "--trials": options.trials,
            "--epochs": options.epochs,
            "--batch-size": BATCH,
            "--train-examples": options.train_examples,
            "--seed": seed,
            "--device": CPU,
        }
        words = [str(word) for pair in flags.items() for word in pair]
        command = [sys.executable, "-m", "optitune", "search", "--json", *words]
        began, clock = datetime.now(), time.perf_counter()
        subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
        seconds = time.perf_counter() - clock
        opened = studies.location(Path(folder), STUDY, None).open()
        trials = [
            Ended(
                row.number,
                (trial.datetime_complete - began).total_seconds(),
                row.outcome,
                row.value,
                row.configuration,
                row.curve[-1][0] / -(-options.train_examples // BATCH) if row.curve and row.same_as is None else 0.0,
            )
            for row, trial in zip(storage_trials.records(opened), opened.get_trials(deepcopy=False), strict=True)
            if trial.datetime_complete is not None and row.configuration is not None
        ]
    return Search(seconds, trials)


def error(values: Sequence[float]) -> float:
    """The standard error of the mean."""
    return stdev(values) / sqrt(len(values))


def ahead(scores: Scores, others: Scores) -> Scores:
    """By how much each is above the other of the same seed."""
    return tuple(own - other for own, other in zip(scores, others, strict=True))


def train_and_judge(path: Path, epochs: int, configuration: Configuration, seed: int) -> float:
    """Train in full, in the plain search's own precision, and give the accuracy on all validation images."""
    data = splits.load(path, TASK)
    plan = Plan(configuration, LOSS, ACCURACY, epochs, seed, "fp32")
    training = Training(build.build(TASK, seed, CPU), plan, data.train)
    try:
        for _ in training.run():
            pass
    except Diverged:
        return 0.0
    return evaluate(training.model, data.validation, LOSS, ACCURACY, "fp32").value


@dataclass(frozen=True)
class Round:
    """Both searches of one round, and how they were judged.

    Attributes:
        wanted: the plain winner's scores.
        walk: the trials of ours that were scored on the way to one as good.
        as_good: that one, or None.
        winner: our winner's scores.
    """

    plain: Search
    ours: Search
    wanted: Scores
    walk: list[tuple[Ended, Scores]]
    as_good: Ended | None
    winner: Scores


def judge(plain: Search, ours: Search, score: Callable[[Configuration], Scores]) -> Round:
    """Score the plain winner, ours in order until one is as good, and our winner."""
    wanted = score(incumbents(plain.trials)[-1].configuration)
    say(f"  plain winner: {fmean(wanted):.5f} ± {error(wanted):.5f}")
    candidates = incumbents(ours.trials)
    walk: list[tuple[Ended, Scores]] = []
    as_good = None
    for trial in candidates:
        scores = score(trial.configuration)
        walk.append((trial, scores))
        gap = ahead(scores, wanted)
        say(f"  our trial {trial.number} at {trial.seconds:.1f} s: ahead by {fmean(gap):+.5f} ± {error(gap):.5f}")
        if fmean(scores) >= fmean(wanted):
            as_good = trial
            break
    winner = walk[-1][1] if walk[-1][0] is candidates[-1] else score(candidates[-1].configuration)
    return Round(plain, ours, wanted, walk, as_good, winner)


def figures(result: Round) -> dict[str, float]:
    """The numbers that are compared; what never came took for ever."""
    found = incumbents(result.plain.trials)[-1].seconds
    as_good = result.as_good.seconds if result.as_good else inf
    gap = ahead(result.winner, result.wanted)
    return {
        "plain_seconds": result.plain.seconds,
        "our_seconds": result.ours.seconds,
        "faster": result.plain.seconds / result.ours.seconds,
        "plain_epochs": sum(trial.epochs for trial in result.plain.trials),
        "our_epochs": sum(trial.epochs for trial in result.ours.trials),
        "plain_found_seconds": found,
        "as_good_seconds": as_good,
        "as_good_faster": result.plain.seconds / as_good,
        "as_good_faster_than_found": found / as_good,
        "plain_mean": fmean(result.wanted),
        "plain_spread": stdev(result.wanted),
        "our_mean": fmean(result.winner),
        "our_spread": stdev(result.winner),
        "ahead": fmean(gap),
        "ahead_error": error(gap),
    }


def table(rounds: Sequence[dict[str, float]]) -> str:
    """The medians as a user reads them."""
    middle = {name: median(row[name] for row in rounds) for name in rounds[0]}
    lines = [f"{'':42}{'plain':>8}{'ours':>10}   (median of {len(rounds)})"]
    for what, plain, ours, ratio in (
        ("whole search, s", "plain_seconds", "our_seconds", "faster"),
        ("until as good as the plain winner, s", "plain_seconds", "as_good_seconds", "as_good_faster"),
        ("  plain only until it found it, s", "plain_found_seconds", "as_good_seconds", "as_good_faster_than_found"),
    ):
        end = f"{'never':>10}" if isinf(middle[ours]) else f"{middle[ours]:10.1f}   {middle[ratio]:.2f}x"
        lines.append(f"{what:42}{middle[plain]:8.1f}{end}")
    lines.append(f"{'epochs trained on':42}{middle['plain_epochs']:8.1f}{middle['our_epochs']:10.1f}")
    gap = f"{middle['ahead']:+.5f} ± {middle['ahead_error']:.5f}"
    lines.append(f"{'accuracy of the winner':42}{middle['plain_mean']:8.4f}{middle['our_mean']:10.4f}   {gap}")
    lines.append(f"{'  its spread over seeds':42}{middle['plain_spread']:8.4f}{middle['our_spread']:10.4f}")
    never = sum(isinf(row["as_good_seconds"]) for row in rounds)
    if never:
        lines.append(f"ours never held a configuration as good in {never} of {len(rounds)} rounds")
    return "\n".join(lines)


def one_round(options: argparse.Namespace, data: splits.SearchData, seed: int) -> Round:
    """Both searches, then the judgement."""
    labels = load_train(ROW.dataset, options.data_dir).targets
    train, validation = split(labels, len(labels), ROW.validation)
    loader = tutorial_loader(options.data_dir, train[: options.train_examples])
    judges = tutorial_loader(options.data_dir, validation, VALIDATION_BATCH, shuffle=False)

    def progress(trial: Ended) -> None:
        say(f"  plain trial {trial.number} {trial.state} at {trial.seconds:.1f} s: {trial.value}")

    say(f"seed {seed}: the plain search")
    plain = plain_search(loader, judges, options.trials, options.epochs, seed, progress)
    say(f"  {plain.seconds:.1f} s; ours")
    ours = our_search(options, seed)
    say(f"  {ours.seconds:.1f} s; judging")
    seeds = range(FRESH_SEEDS, FRESH_SEEDS + options.seeds)
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "data.safetensors"
        splits.save(data, path)
        with context.Pool(auto(None, 0, options.seeds), configure_worker_process) as pool:

            def score(configuration: Configuration) -> Scores:
                jobs = [(path, options.epochs, configuration, seed) for seed in seeds]
                return tuple(pool.starmap(train_and_judge, jobs, chunksize=1))

            return judge(plain, ours, score)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True)
    for flag, default in DEFAULTS.items():
        parser.add_argument(flag, type=int, default=default)
    options = parser.parse_args()
    if options.seeds < 2:
        parser.error("--seeds must be at least 2: one training says nothing of its own spread")

    data = splits.search_data(ROW.task(options.data_dir), options.train_examples)
    rounds = [one_round(options, data, options.seed + number) for number in range(options.rounds)]
    numbers = [figures(result) for result in rounds]
    print(table(numbers))
    machine = {"cpu": torch.cpu.get_capabilities()["cpu_name"], "cores": auto(None, 0, 1_000)}
    document = {
        **{name: value for name, value in vars(options).items() if name != "data_dir"},
        "figures": [{name: None if isinf(value) else value for name, value in row.items()} for row in numbers],
        "rounds": [asdict(result) for result in rounds],
    }
    versions = {**studies.versions(), "date": date.today().isoformat()}
    print(json.dumps({**document, **machine, **versions}, default=Configuration.model_dump))


if __name__ == "__main__":
    main()
