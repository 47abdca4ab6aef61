"""The two loops of 2x2 max-pooling with ReLU, compiled by Numba when this module is imported.

Arrays have their channels last, so that the innermost loop runs over neighbours in memory and the
compiler compares a vector of channels at once. Compiled code is kept on disk between runs.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numba
import numpy as np
from numba.extending import overload

from optitune.common.files import cache_folder


def _number(value: Any) -> Any:
    """What an element of an array is as a number; compiled only."""
    raise NotImplementedError


@overload(_number, inline="always", strict=False)
def _compiled_number(value: Any) -> Callable[[Any], Any]:
    if isinstance(value, numba.types.Integer):
        # bfloat16 comes as its bits, which are the upper half of a float32's
        return lambda value: np.int32(np.int32(value) << 16).view(np.float32)
    return lambda value: value


@contextmanager
def _kept_outside_the_package() -> Iterator[None]:
    """Let Numba keep compiled code in the user's cache, unless NUMBA_CACHE_DIR names another place.

    Files beside this module would outlive `pip uninstall`, and a folder `optitune` in which only they are left is
    a package to Python: an editable installation could no longer be imported.
    """
    config: Any = numba.config
    place = config.CACHE_DIR
    config.CACHE_DIR = place or str(cache_folder() / "numba")
    try:
        yield
    finally:
        config.CACHE_DIR = place


def _compile(loops: Callable[..., None]) -> Callable[..., None]:
    arrays = "[:,:,:,::1]"
    signatures = [f"void({kind}{arrays}, int8{arrays}, {kind}{arrays})" for kind in ("int16", "float32")]
    try:
        with _kept_outside_the_package():
            compiled: Callable[..., None] = numba.njit(signatures, cache=True)(loops)
    except (RuntimeError, OSError):  # there is no place to keep it, or no room
        compiled = numba.njit(signatures)(loops)
    return compiled


@_compile
def forward(pooled: Any, winners: Any, images: Any) -> None:
    """Write the largest of every window of `images`, at least 0, and its place: 0 to 3 in reading order, 4 for none.

    Args:
        pooled: (n, h, w, c), written.
        winners: (n, h, w, c), written.
        images: (n, 2h, 2w, c).
    """
    nothing = images.dtype.type(0)
    for n in range(pooled.shape[0]):
        for i in range(pooled.shape[1]):
            for j in range(pooled.shape[2]):
                upper, lower = images[n, 2 * i], images[n, 2 * i + 1]
                a, b, c, d = upper[2 * j], upper[2 * j + 1], lower[2 * j], lower[2 * j + 1]
                into, places = pooled[n, i, j], winners[n, i, j]
                for channel in range(pooled.shape[3]):
                    best, largest, winner = nothing, _number(nothing), 4
                    other = _number(a[channel])
                    # nan, which alone differs from itself, wins as it does in torch
                    if other > largest or other != other:
                        best, largest, winner = a[channel], other, 0
                    other = _number(b[channel])
                    if other > largest or other != other:
                        best, largest, winner = b[channel], other, 1
                    other = _number(c[channel])
                    if other > largest or other != other:
                        best, largest, winner = c[channel], other, 2
                    other = _number(d[channel])
                    if other > largest or other != other:
                        best, largest, winner = d[channel], other, 3
                    into[channel] = best
                    places[channel] = winner


@_compile
def backward(gradients: Any, winners: Any, images: Any) -> None:
    """Write the gradient of every window of `images`: what came through it at its place, 0 elsewhere.

    Args:
        gradients: (n, h, w, c).
        winners: (n, h, w, c), as `forward` wrote them.
        images: (n, 2h, 2w, c), written.
    """
    for n in range(gradients.shape[0]):
        for i in range(gradients.shape[1]):
            for place in range(4):
                row = images[n, 2 * i + place // 2]
                for j in range(gradients.shape[2]):
                    given, places, into = gradients[n, i, j], winners[n, i, j], row[2 * j + place % 2]
                    for channel in range(gradients.shape[3]):
                        into[channel] = given[channel] if places[channel] == place else 0
