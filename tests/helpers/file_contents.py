"""What files hold that tests write: a best.toml, the IDX files of MNIST; and when two states are the same."""

import struct
from typing import Any

import torch
from torch import Tensor

DOCUMENT: dict[str, Any] = {
    "study": "digits",
    "task": "digits",
    "trial": 7,
    "metric": "accuracy",
    "value": 0.97,
    "epochs": 3,
    "train_examples": 1150,
    "validation_examples": 287,
    "precision": "fp32",
    "seed": 0,
    "data_checksum": "sha256:" + "0" * 64,
    "configuration": {
        "optimizer": {
            "name": "sgd",
            "settings": {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-4},
        },
        "schedule": {"name": "step", "settings": {"step_size": 1, "gamma": 0.7}, "warmup": 0.1},
        "training": {
            "batch_size": 64,
            "accumulation": 2,
            "clip_norm": 1.0,
            "l1": 1e-6,
            "loss": "cross-entropy",
            "label_smoothing": 0.1,
            "decay_biases": False,
            "groups": {"fc*": 10.0},
        },
    },
    "versions": {"torch": "2.9.0"},
}
"""A whole best.toml."""


def idx(numbers: Tensor, magic: int | None = None) -> bytes:
    """A tensor of bytes in the format of the MNIST files."""
    head = struct.pack(f">{1 + numbers.ndim}I", magic or 0x0800 + numbers.ndim, *numbers.shape)
    return head + numbers.to(torch.uint8).numpy().tobytes()


def random_images(n: int, size: int = 28) -> Tensor:
    generator = torch.Generator().manual_seed(n)
    return torch.randint(0, 256, (n, size, size), dtype=torch.uint8, generator=generator)


def same(left: Any, right: Any) -> bool:
    """Whether two states are equal in every value, type, dtype and order."""
    if type(left) is not type(right):
        return False
    if isinstance(left, Tensor):
        return left.dtype == right.dtype and torch.equal(left, right)
    if isinstance(left, dict):
        keys = zip(left, right, strict=False)
        return len(left) == len(right) and all(same(a, b) and same(left[a], right[b]) for a, b in keys)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return repr(left) == repr(right)
