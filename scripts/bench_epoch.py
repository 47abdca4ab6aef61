"""How many images a second this machine trains on: all workers at once against the loop most people write.

The yardstick is the usual tutorial loop on the MNIST CNN: a DataLoader with per-image transforms, `.item()` at
every step, torch's default number of threads. Against it: as many of our workers as there are cores, each with
one thread, all training at the same time. The two alternate, and medians are compared.

    python scripts/bench_epoch.py --data-dir DIR [--rounds 3] [--steps 150] [--accuracy-seeds 0]

With --accuracy-seeds N both train 3 epochs on the same 10,000 images over N seeds, to show that nothing was
traded away. Prints a table and one line of JSON.
"""

import argparse
import json
import multiprocessing
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from yardstick import BATCH, VALIDATION_BATCH, tutorial, tutorial_accuracy, tutorial_loader

from optitune import tasks
from optitune.configuration import Configuration
from optitune.data import load_train, split
from optitune.engine import Plan, Training, evaluate
from optitune.machine import own_the_process
from optitune.workers import auto

ADAM = {
    "optimizer": {"name": "adam", "settings": {"lr": 0.001, "betas": [0.9, 0.999], "eps": 1e-8}},
    "schedule": {"name": "constant", "settings": {}},
}
EPOCHS = 3
IMAGES = 10_000


def training(data: tasks.SearchData, precision: str, epochs: int, seed: int) -> Training:
    """Ours, on the same images."""
    task = tasks.find("mnist-cnn")
    plan = Plan(Configuration.model_validate(ADAM), task.loss, epochs, BATCH, seed, precision)  # type: ignore[arg-type]
    return Training(tasks.build(task, seed, torch.device("cpu")), plan, data.train)


def one_of_ours(path: Path, precision: str, steps: int, barrier: Any, results: Any) -> None:
    """A worker: warm up, wait for the others, train, say how fast."""
    own_the_process()
    data = tasks.load(path)
    warm = tasks.SearchData(data.train.take(slice(0, 10 * BATCH)), data.validation, "")
    for _ in training(warm, precision, 1, 0).run():
        pass
    timed = training(tasks.SearchData(data.train.take(slice(0, steps * BATCH)), data.validation, ""), precision, 1, 0)
    barrier.wait()
    began = time.perf_counter()
    for _ in timed.run():
        pass
    results.put(steps * BATCH / (time.perf_counter() - began))


def ours(path: Path, precision: str, steps: int, workers: int) -> float:
    """Images a second of all workers together."""
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(workers), context.Queue()
    arguments = (path, precision, steps, barrier, results)
    processes = [context.Process(target=one_of_ours, args=arguments) for _ in range(workers)]
    for process in processes:
        process.start()
    speeds = [results.get() for _ in processes]
    for process in processes:
        process.join()
    return sum(speeds)


def accuracies(data: tasks.SearchData, loader: Any, judge: Any, seeds: int) -> dict[str, list[float]]:
    """Validation accuracy after the same epochs on the same images, by seed."""
    found: dict[str, list[float]] = {"tutorial": [], "fp32": [], "bf16": []}
    for seed in range(seeds):
        model, _ = tutorial(loader, None, EPOCHS, seed)
        found["tutorial"].append(tutorial_accuracy(model, judge))
        for precision in ("fp32", "bf16"):
            run = training(data, precision, EPOCHS, seed)
            for _ in run.run():
                pass
            found[precision].append(
                evaluate(run.model, data.validation, functional.cross_entropy, precision).accuracy  # type: ignore[arg-type]
            )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--accuracy-seeds", type=int, default=0)
    options = parser.parse_args()

    data = tasks.search_data(tasks.find("mnist-cnn"), options.data_dir, IMAGES)
    train, held_out = split(load_train("mnist", options.data_dir).labels, tasks.find("mnist-cnn").validation)
    loader = tutorial_loader(options.data_dir, train[:IMAGES])
    judge = tutorial_loader(options.data_dir, held_out, batch=VALIDATION_BATCH, shuffle=False)
    workers = auto(None, "cpu", 1_000)
    path = Path("bench-epoch.safetensors")
    speeds: dict[str, list[float]] = {"tutorial": [], "fp32": [], "bf16": []}
    try:
        tasks.save(data, path)
        for _ in range(options.rounds):
            speeds["tutorial"].append(tutorial(loader, options.steps)[1])
            for precision in ("fp32", "bf16"):
                speeds[precision].append(ours(path, precision, options.steps, workers))
    finally:
        path.unlink(missing_ok=True)
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    print(f"{'':10} images/s  against the tutorial loop   ({workers} workers, median of {options.rounds})")
    for name, value in medians.items():
        print(f"{name:10} {value:8.0f}  {value / medians['tutorial']:.2f}x")
    found = accuracies(data, loader, judge, options.accuracy_seeds) if options.accuracy_seeds else {}
    for name, values in found.items():
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        print(f"{name:10} accuracy {statistics.mean(values):.4f}, spread {spread:.4f} ({len(values)} seeds)")
    machine = {"cpu": torch.cpu.get_capabilities()["cpu_name"], "python": platform.python_version()}
    document = {"images_per_second": speeds, "accuracy": found, "workers": workers, "torch": torch.__version__}
    print(json.dumps({**document, **machine}))


if __name__ == "__main__":
    main()
