"""Where a training step's time goes: the layers of the MNIST CNN forward and backward, ours and torch's pooling.

One thread, a batch of 64, ours and torch's taken in turn; the share is that of the whole step as we take it. The whole
step is also taken with torch's pooling.

    python -m scripts.bench.training.layers [--rounds 100]

Prints a table (medians, milliseconds) and one line of JSON.
"""

import argparse
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import date
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn import functional

from optitune.storage import studies
from optitune.tasks import models
from optitune.tasks.models import mnist_cnn
from optitune.tasks.pooling import max_pool2d_relu
from optitune.workers.process import configure_worker_process
from scripts.bench.yardstick import BATCH

Calls = Mapping[str, Callable[[], Any]]
WARM_UP = 10


def pooled(images: Tensor) -> Tensor:
    return functional.relu(functional.max_pool2d(images, 2))


def layers(dtype: torch.dtype) -> dict[str, tuple[Calls, Tensor]]:
    """By name: ours and torch's forward pass, and the gradient that comes back."""
    shapes = {"first convolution": (1, 28), "first pooling, ReLU": (32, 28), "second convolution": (32, 14)}
    shapes["second pooling, ReLU"] = (64, 14)
    given = {}
    for name, (channels, size) in shapes.items():
        images = torch.randn(BATCH, channels, size, size).to(dtype).contiguous(memory_format=torch.channels_last)
        given[name] = images.requires_grad_(channels > 1)
    first = nn.Conv2d(1, 32, 3, padding=1).to(dtype).to(memory_format=torch.channels_last)
    second = nn.Conv2d(32, 64, 3, padding=1).to(dtype).to(memory_format=torch.channels_last)
    linear = nn.Linear(3136, 128).to(dtype)
    given["first linear layer"] = torch.randn(BATCH, 3136).to(dtype).requires_grad_()
    calls: dict[str, dict[str, Callable[[Tensor], Tensor]]] = {
        "first convolution": {"ours": first},
        "first pooling, ReLU": {"ours": max_pool2d_relu, "torch": pooled},
        "second convolution": {"ours": second},
        "second pooling, ReLU": {"ours": max_pool2d_relu, "torch": pooled},
        "first linear layer": {"ours": linear},
    }
    return {
        name: (
            {key: partial(call, given[name]) for key, call in row.items()},
            torch.randn_like(row["ours"](given[name])),
        )
        for name, row in calls.items()
    }


def both_ways(call: Callable[[], Tensor], upstream: Tensor) -> Callable[[], None]:
    """Forward and backward."""
    return lambda: call().backward(upstream)


def medians(calls: Calls, rounds: int) -> dict[str, float]:
    """Milliseconds of each call, taken in turn."""
    took: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds + WARM_UP):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            took[name].append(1000 * (time.perf_counter() - began))
    return {name: statistics.median(values[WARM_UP:]) for name, values in took.items()}


def steps(dtype: torch.dtype) -> dict[str, Calls]:
    """A whole training step, with our pooling and with torch's, and its optimizer alone."""
    model = mnist_cnn().to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    images, labels = torch.randn(BATCH, 1, 28, 28), torch.randint(0, 10, (BATCH,))

    def whole(pooling: Callable[[Tensor], Tensor]) -> None:
        optimizer.zero_grad()
        with patch.object(models, "max_pool2d_relu", pooling):
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
                logits = model(images)
            functional.cross_entropy(logits.float(), labels).backward()
        optimizer.step()

    whole(pooled)
    return {
        "whole step": {"ours": partial(whole, max_pool2d_relu), "torch": partial(whole, pooled)},
        "Adam, fused": {"ours": lambda: optimizer.step()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100)
    options = parser.parse_args()
    configure_worker_process()
    found: dict[str, dict[str, dict[str, float]]] = {}
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        rows: dict[str, dict[str, float]] = {}
        for name, (calls, upstream) in layers(dtype).items():
            rows[name] = medians({key: both_ways(call, upstream) for key, call in calls.items()}, options.rounds)
        rows |= {name: medians(calls, options.rounds) for name, calls in steps(dtype).items()}
        whole = rows["whole step"]["ours"]
        print(f"{precision:24}{'ours':>8}{'torch':>8}{'share':>8}")
        for name, row in rows.items():
            torchs = f"{row['torch']:8.2f}" if "torch" in row else f"{'':8}"
            print(f"{name:24}{row['ours']:8.2f}{torchs}{row['ours'] / whole:8.0%}")
        found[precision] = rows
    machine = {"cpu": torch.cpu.get_capabilities()["cpu_name"], "date": date.today().isoformat(), **studies.versions()}
    print(json.dumps({"ms": found, "rounds": options.rounds, **machine}))


if __name__ == "__main__":
    main()
