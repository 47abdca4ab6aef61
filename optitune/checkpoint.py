"""A nested state of tensors and plain values in one safetensors file, never pickle.

The tensors are the file's tensors; everything else, and how they nest, is JSON in its header, so a
checkpoint is one file and is whole or not there.
"""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from optitune.errors import OptituneError
from optitune.files import replacing


def save(state: Any, path: Path) -> None:
    """Write `state`: dicts (keys str or int), lists, tuples, tensors, numbers, strings, booleans and None.

    Raises:
        OptituneError: the file cannot be written.
        TypeError: something else is in `state`.
    """
    tensors: dict[str, Tensor] = {}
    outline = json.dumps(_outline(state, tensors))
    with replacing(path) as scratch:
        save_file(tensors, scratch, metadata={"outline": outline})


def load(path: Path) -> Any:
    """What `save` wrote.

    Raises:
        OptituneError: the file is damaged or not a checkpoint.
    """
    try:
        with safe_open(path, framework="pt") as file:
            names = file.keys()
            return _filled(json.loads(file.metadata()["outline"]), {name: file.get_tensor(name) for name in names})
    except (SafetensorError, OSError, TypeError, KeyError, ValueError) as error:
        raise OptituneError(
            f"{path} is damaged or not a checkpoint ({error}): delete it and run the same command again"
        ) from error


def _outline(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        name = str(len(tensors))
        # a copy: the file wants tensors that lie in plain order and share no memory
        tensors[name] = value.detach().to("cpu", copy=True).contiguous()
        return {"tensor": name}
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str | int):
                raise TypeError(f"a key of type {type(key).__name__} cannot be kept in a checkpoint")
        return {"dict": [[key, _outline(item, tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return {type(value).__name__: [_outline(item, tensors) for item in value]}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{type(value).__name__} cannot be kept in a checkpoint")


def _filled(outline: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(outline, dict):
        return outline
    ((kind, content),) = outline.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: _filled(item, tensors) for key, item in content}
    return {"list": list, "tuple": tuple}[kind](_filled(item, tensors) for item in content)
