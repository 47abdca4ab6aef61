"""How many images a second this machine trains on: all workers at once against the loop most people write.

The yardstick is the usual tutorial loop on the MNIST CNN: a DataLoader with per-image transforms, `.item()` at
every step, torch's default number of threads. Against it: as many of our workers as there are cores, each with
one thread, all training at the same time. The two alternate, and medians are compared.

    python -m scripts.bench.training.epoch --data-dir DIR [--rounds 3] [--steps 150] [--accuracy-seeds 0]

Then the roofline: what the arithmetic and the memory traffic of the same training would take alone, at the
highest rates that torch reaches on this machine with all workers at once.

With --accuracy-seeds N both train 3 epochs on the same 10,000 images over N seeds, to show that nothing was
traded away. Prints a table and one line of JSON.
"""

import argparse
import json
import multiprocessing
import platform
import statistics
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from optitune.space.configuration import Configuration, TrainingSettings
from optitune.tasks import builtin, metrics, splits
from optitune.tasks.data import split
from optitune.tasks.datasets import load_train
from optitune.tasks.splits import SearchData
from optitune.training import build
from optitune.training.build import build_loss
from optitune.training.engine import Training
from optitune.training.evaluation import evaluate
from optitune.training.plan import Plan
from optitune.workers.pool import auto
from optitune.workers.process import configure_worker_process
from scripts.bench.yardstick import BATCH, VALIDATION_BATCH, TutorialCnn, tutorial, tutorial_accuracy, tutorial_loader

ADAM = {
    "optimizer": {"name": "adam", "settings": {"lr": 0.001, "betas": [0.9, 0.999], "eps": 1e-8}},
    "schedule": {"name": "constant", "settings": {}},
    "training": {"batch_size": BATCH},
}
ROW = builtin.TASKS["mnist-cnn"]
TASK = ROW.task(Path())
LOSS, ACCURACY = build_loss(TrainingSettings(), None), metrics.find("accuracy")
EPOCHS = 3
IMAGES = 10_000


def training(data: SearchData, precision: str, epochs: int, seed: int) -> Training:
    """Ours, on the same images."""
    plan = Plan(Configuration.model_validate(ADAM), LOSS, ACCURACY, epochs, seed, precision)  # type: ignore[arg-type]
    return Training(build.build(TASK, seed, torch.device("cpu")), plan, data.train)


def one_of_ours(path: Path, precision: str, steps: int, barrier: Any, results: Any) -> None:
    """A worker: warm up, wait for the others, train, say how fast."""
    configure_worker_process()
    data = splits.load(path, TASK)
    warm = SearchData(data.train.take(slice(0, 10 * BATCH)), data.validation, "")
    for _ in training(warm, precision, 1, 0).run():
        pass
    timed = training(SearchData(data.train.take(slice(0, steps * BATCH)), data.validation, ""), precision, 1, 0)
    barrier.wait()
    began = time.perf_counter()
    for _ in timed.run():
        pass
    results.put(steps * BATCH / (time.perf_counter() - began))


def together(target: Any, workers: int, *arguments: Any) -> float:
    """The sum of what `target` gives in processes that run at the same time."""
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(workers), context.Queue()
    processes = [context.Process(target=target, args=(*arguments, barrier, results)) for _ in range(workers)]
    for process in processes:
        process.start()
    found = [results.get() for _ in processes]
    for process in processes:
        process.join()
    return sum(found)


def rate(work: float, once: Any) -> float:
    """The highest rate of 20 calls of `once`, each doing so much work."""
    seconds = []
    for _ in range(20):
        began = time.perf_counter()
        once()
        seconds.append(time.perf_counter() - began)
    return work / min(seconds)


def arithmetic(precision: str, barrier: Any, results: Any) -> None:
    """A worker: the highest FLOP/s of a large matrix product and of the network's largest convolution."""
    configure_worker_process()
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    square = torch.randn(1024, 1024).to(dtype)
    images = torch.randn(BATCH, 32, 14, 14).to(dtype).contiguous(memory_format=torch.channels_last)
    layer = torch.nn.Conv2d(32, 64, 3, padding=1).to(dtype).to(memory_format=torch.channels_last)
    barrier.wait()
    with torch.no_grad():
        product = rate(2 * 1024**3, lambda: square @ square)
        convolution = rate(2 * BATCH * 14 * 14 * 64 * 32 * 9, lambda: layer(images))
    results.put(max(product, convolution))


def copying(barrier: Any, results: Any) -> None:
    """A worker: the highest bytes/s of reading and writing memory beyond the caches."""
    configure_worker_process()
    source, target = torch.zeros(2**26), torch.zeros(2**26)
    barrier.wait()
    results.put(rate(2 * 4 * 2**26, lambda: target.copy_(source)))


def demand(precision: str) -> tuple[float, float]:
    """FLOP and bytes of training on one image, forward and backward.

    Bytes as if every layer read and wrote each of its tensors just once: input and output forward, both and
    their gradients backward; and Adam seven numbers for every weight.
    """
    model = TutorialCnn()
    batch, size, traffic = torch.zeros(BATCH, 1, 28, 28), 2 if precision == "bf16" else 4, 0

    def count(layer: torch.nn.Module, inputs: tuple[torch.Tensor, ...], out: torch.Tensor) -> None:
        nonlocal traffic
        traffic += 3 * size * (inputs[0].numel() + out.numel())

    for layer in model.children():
        layer.register_forward_hook(count)
    with FlopCounterMode(display=False) as counter:
        model(batch).sum().backward()
    traffic += 7 * 4 * sum(weight.numel() for weight in model.parameters())
    return counter.get_total_flops() / BATCH, traffic / BATCH


def accuracies(data: SearchData, loader: Any, judge: Any, seeds: int) -> dict[str, list[float]]:
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
                evaluate(run.model, data.validation, LOSS, ACCURACY, precision).value  # type: ignore[arg-type]
            )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--accuracy-seeds", type=int, default=0)
    options = parser.parse_args()

    data = splits.search_data(ROW.task(options.data_dir), IMAGES)
    labels = load_train(ROW.dataset, options.data_dir).targets
    train, held_out = split(labels, len(labels), ROW.validation)
    loader = tutorial_loader(options.data_dir, train[:IMAGES])
    judge = tutorial_loader(options.data_dir, held_out, batch=VALIDATION_BATCH, shuffle=False)
    workers = auto(None, 0, 1_000)
    path = Path("bench-epoch.safetensors")
    speeds: dict[str, list[float]] = {"tutorial": [], "fp32": [], "bf16": []}
    try:
        splits.save(data, path)
        for _ in range(options.rounds):
            speeds["tutorial"].append(tutorial(loader, options.steps)[1])
            for precision in ("fp32", "bf16"):
                speeds[precision].append(together(one_of_ours, workers, path, precision, options.steps))
    finally:
        path.unlink(missing_ok=True)
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    print(f"{'':10} images/s  against the tutorial loop   ({workers} workers, median of {options.rounds})")
    for name, value in medians.items():
        print(f"{name:10} {value:8.0f}  {value / medians['tutorial']:.2f}x")
    roofline: dict[str, dict[str, float]] = {}
    bandwidth = together(copying, workers)
    for precision in ("fp32", "bf16"):
        ceiling, (flop, traffic) = together(arithmetic, workers, precision), demand(precision)
        bound = 1 / (flop / ceiling + traffic / bandwidth)
        roofline[precision] = {"flops": ceiling, "bytes_per_second": bandwidth, "flop": flop, "bytes": traffic}
        print(
            f"roofline {precision}: {flop / 1e6:.1f} MFLOP an image at {ceiling / 1e9:.0f} GFLOP/s, "
            f"{traffic / 1e6:.2f} MB at {bandwidth / 1e9:.0f} GB/s: {bound:.0f} images/s, "
            f"of which we reach {medians[precision] / bound:.0%}"
        )
    found = accuracies(data, loader, judge, options.accuracy_seeds) if options.accuracy_seeds else {}
    for name, values in found.items():
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        print(f"{name:10} accuracy {statistics.mean(values):.4f}, spread {spread:.4f} ({len(values)} seeds)")
    machine = {"cpu": torch.cpu.get_capabilities()["cpu_name"], "python": platform.python_version()}
    machine["date"] = datetime.now(UTC).date().isoformat()
    document = {
        "images_per_second": speeds,
        "roofline": roofline,
        "accuracy": found,
        "workers": workers,
        "torch": torch.__version__,
    }
    print(json.dumps({**document, **machine}))


if __name__ == "__main__":
    main()
