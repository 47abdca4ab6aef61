"""Checkpoints: a nested state of tensors and plain values in one safetensors file, without pickle.

Plain values and the nesting are JSON in the file's header. safetensors checks only sizes, so each tensor and the header
have a CRC-32 of their own: a flipped bit, or a block that a crash kept from the disk, is noticed.
"""

import json
import zlib
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from optitune.common.files import replacing
from optitune.errors import OptituneError


def save(state: Any, path: Path, durable: bool = True) -> None:
    """Write a state to a file, all of it or nothing.

    Args:
        state: nested dicts (keys str or int), lists and tuples of tensors, numbers, strings, booleans and None.
        path: of the file, which is replaced.
        durable: whether to wait for the disk; if not, a crash of the machine may damage the file, which `load` notices.

    Raises:
        OptituneError: the file cannot be written.
        TypeError: `state` holds a value of another type.
    """
    content = dumps(state)
    with replacing(path, durable) as scratch:
        # not the library's `save_file`, which leaves a scratch file of its own behind when it is killed
        scratch.write_bytes(content)


def dumps(state: Any) -> bytes:
    """The bytes that `save` writes.

    Raises:
        TypeError: `state` holds a value of another type; the message names its place.
    """
    tensors: dict[str, Tensor] = {}
    outline = json.dumps(_outline(state, tensors))
    about = {"outline": outline, "checksum": str(zlib.crc32(outline.encode()))}
    return to_bytes(tensors, about)


def load(path: Path) -> Any:
    """Read the state that `save` wrote; every tensor on the CPU in memory of its own, aligned as torch aligns it.

    Raises:
        OptituneError: the file is damaged or not a checkpoint.
    """
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata()
            if about["checksum"] != str(zlib.crc32(about["outline"].encode())):
                raise ValueError("its outline has another checksum")
            return _filled(json.loads(about["outline"]), {name: file.get_tensor(name) for name in file.keys()})
    except FAULTS as error:
        raise OptituneError(
            f"{path} is damaged or not a checkpoint ({error}): delete it and run the same command again"
        ) from error


FAULTS = (SafetensorError, OSError, TypeError, KeyError, ValueError, RuntimeError)
"""What reading a damaged file may raise: safetensors and torch have no error of their own for all of it."""


def _checksum(tensor: Tensor) -> int:
    """CRC-32 of dtype, shape and bytes of a tensor on the CPU."""
    shape = zlib.crc32(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
    return zlib.crc32(tensor.flatten().view(torch.uint8).numpy().data, shape)


def _outline(value: Any, tensors: dict[str, Tensor], place: str = "") -> Any:
    if isinstance(value, Tensor) and value.layout == torch.sparse_coo:
        parts = [value._indices(), value._values(), list(value.shape), value.is_coalesced()]
        return {"sparse": [_outline(each, tensors, place) for each in parts]}
    if isinstance(value, Tensor) and value.layout == torch.strided and not value.is_quantized:
        name = str(len(tensors))
        # a copy: the file wants tensors that lie in plain order and share no memory
        tensors[name] = value.detach().to("cpu", copy=True).contiguous()
        return {"tensor": [name, _checksum(tensors[name])]}
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str | int):
                raise TypeError(f"{place[1:]}: a key of type {type(key).__name__} cannot be kept in a checkpoint")
        return {"dict": [[key, _outline(item, tensors, f"{place}.{key}")] for key, item in value.items()]}
    if type(value) in (list, tuple):
        return {type(value).__name__: [_outline(item, tensors, f"{place}.{n}") for n, item in enumerate(value)]}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    kind = f"a tensor of {value.dtype}, {value.layout}" if isinstance(value, Tensor) else type(value).__name__
    raise TypeError(f"{place[1:]}: {kind} cannot be kept in a checkpoint".removeprefix(": "))


def _filled(outline: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(outline, dict):
        return outline
    ((kind, content),) = outline.items()
    if kind == "tensor":
        name, checksum = content
        if _checksum(tensors[name]) != checksum:
            raise ValueError(f"tensor {name} has another checksum")
        # where torch itself would put it: kernels choose by the alignment of memory, and so do their last bits
        return tensors[name].clone()
    if kind == "sparse":
        indices, values, shape, coalesced = (_filled(item, tensors) for item in content)
        return torch.sparse_coo_tensor(indices, values, shape, is_coalesced=coalesced, check_invariants=True)
    if kind == "dict":
        return {key: _filled(item, tensors) for key, item in content}
    return {"list": list, "tuple": tuple}[kind](_filled(item, tensors) for item in content)
