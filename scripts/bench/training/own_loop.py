"""What the protocol of trainings costs, and a training loop of the user's own against the built-in one.

One epoch of the MNIST CNN on one thread, three ways in turn: the engine alone, the engine through the protocol that all
stages speak (`optitune.training.resume.Record`), and a loop by hand in the same protocol (`optitune.Run`), with the
same network, data and settings. Their validation accuracies are held against each other as well.

    python -m scripts.bench.training.own_loop --data-dir DIR [--rounds 20] [--steps 60]

Prints the median ratios of processor time with their 95 % intervals, which are order statistics, and one line of JSON.
"""

import argparse
import json
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

import torch
from scipy.stats import binom
from torch.nn import functional

from optitune.space.configuration import Configuration
from optitune.space.losses import OF_LOOP
from optitune.storage import studies
from optitune.tasks import builtin, splits
from optitune.tasks.loop_task import LoopTask
from optitune.tasks.splits import SearchData
from optitune.training.build import build
from optitune.training.engine import Training
from optitune.training.loops import Loop
from optitune.training.plan import training_plan
from optitune.training.resume import Record
from optitune.training.run import Run
from optitune.workers.process import configure_worker_process
from scripts.bench.yardstick import BATCH

ADAM = {"name": "adam", "settings": {"lr": 0.001, "betas": [0.9, 0.999], "eps": 1e-8}}
CPU = torch.device("cpu")
JUDGED = 1_000


def configuration(loss: str) -> Configuration:
    document = {"optimizer": ADAM, "schedule": {"name": "step", "settings": {"step_size": 1, "gamma": 0.5}}}
    return Configuration.model_validate({**document, "training": {"batch_size": BATCH, "loss": loss}})


def by_hand(data: SearchData, task: Any) -> Callable[[Run], None]:
    """The built-in loop as one would write it."""
    x, held, truth = data.train.inputs, data.validation.inputs, data.validation.targets  # type: ignore[union-attr]

    def train(run: Run) -> None:
        model = build(task, run.seed, run.device)
        optimizer = run.optimizer(model)
        scheduler = run.scheduler(optimizer, steps_per_epoch=len(x) // BATCH)
        run.keep(model=model, optimizer=optimizer, scheduler=scheduler)
        for _ in run.epochs():
            losses = []
            model.train()
            for places in torch.randperm(len(x)).split(BATCH):
                images, labels = data.train.batch(places)
                loss = functional.cross_entropy(model(images), labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                scheduler.step()
                losses.append(loss.detach())
            model.eval()
            with torch.no_grad():
                right = torch.cat(
                    [model(data.validation.batch(places)[0]).argmax(1) for places in torch.arange(len(held)).split(500)]
                ).eq(truth)
            run.report(right.float().mean(), loss=torch.stack(losses).mean())

    return train


def interval(ratios: list[float]) -> tuple[float, float]:
    """The 95 % interval of a median, by the binomial distribution of how many lie below it."""
    ordered, place = sorted(ratios), int(binom.ppf(0.025, len(ratios), 0.5))
    return ordered[max(0, place - 1)], ordered[min(len(ratios) - 1, len(ratios) - place)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--steps", type=int, default=60)
    options = parser.parse_args()
    configure_worker_process()
    task = builtin.TASKS["mnist-cnn"].task(options.data_dir)
    whole = splits.search_data(task, options.steps * BATCH)
    data = SearchData(whole.train, whole.validation.take(slice(0, JUDGED)), whole.checksum, whole.digests)
    plan = training_plan(configuration("cross-entropy"), task, 1, 0, "fp32")
    loop = LoopTask(train=by_hand(data, task), name="by hand").judged_by("accuracy")
    loop_plan = training_plan(configuration(OF_LOOP), loop, 1, 0, "fp32")

    def engine() -> float:
        *_, last = Training(build(task, 0, CPU), plan, data.train, data.validation).run()
        return last.validation.value  # type: ignore[union-attr]

    def protocol() -> float:
        record = Record(plan, lambda *_: False, lambda: False)
        record.run(Training(build(task, 0, CPU), plan, data.train, data.validation))
        return record.history[-1].validation.value  # type: ignore[union-attr]

    def own() -> float:
        run = Run(loop_plan, lambda *_: False, lambda: False)
        run.run(Loop(loop))
        return run.history[-1].validation.value  # type: ignore[union-attr]

    ways = {"engine": engine, "protocol": protocol, "own loop": own}
    took: dict[str, list[float]] = {name: [] for name in ways}
    values: dict[str, float] = {}
    for each in range(options.rounds + 1):
        for name, train in ways.items():
            began = time.process_time()
            values[name] = train()
            if each:
                # the first round warms up
                took[name].append(time.process_time() - began)
    document: dict[str, Any] = {"values": values, "rounds": options.rounds, "steps": options.steps}
    for name, other in (("protocol", "engine"), ("own loop", "protocol")):
        ratios = [one / two for one, two in zip(took[name], took[other], strict=True)]
        low, high = interval(ratios)
        document[f"{name} / {other}"] = [median(ratios), low, high]
        print(f"{name} against {other}: {median(ratios):.3f}, {low:.3f} to {high:.3f} ({options.rounds} rounds)")
    print(
        f"milliseconds a step of {BATCH}: "
        + ", ".join(f"{n} {1000 * median(t) / options.steps:.2f}" for n, t in took.items())
    )
    print("validation accuracy: " + ", ".join(f"{name} {value:.4f}" for name, value in values.items()))
    machine = {"cpu": torch.cpu.get_capabilities()["cpu_name"], "date": date.today().isoformat(), **studies.versions()}
    print(json.dumps({**document, **machine}))


if __name__ == "__main__":
    main()
