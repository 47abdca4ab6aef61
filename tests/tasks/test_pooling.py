"""Max-pooling with ReLU: the same bits as torch's, forward and backward."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from optitune.tasks import pooling
from optitune.tasks.pooling import max_pool2d_relu


def reference(images: Tensor) -> Tensor:
    return functional.relu(functional.max_pool2d(images, 2))


def both_ways(function: object, images: Tensor, upstream: Tensor) -> tuple[Tensor, Tensor]:
    """What `function` makes of `images`, and their gradient."""
    images = images.clone(memory_format=torch.preserve_format).requires_grad_()
    out = function(images)  # type: ignore[operator]
    out.backward(upstream)
    assert images.grad is not None
    return out.detach(), images.grad


def drawn(seed: int, shape: tuple[int, int, int, int], dtype: torch.dtype, levels: int) -> tuple[Tensor, Tensor]:
    """Images with few different values, so that windows hold ties, and gradients for what comes out of them."""
    noise = torch.Generator().manual_seed(seed)
    images = torch.randint(-levels, levels + 1, shape, generator=noise).to(dtype) / 2
    n, c, height, width = shape
    upstream = torch.randn(n, c, height // 2, width // 2, generator=noise).to(dtype)
    return images.contiguous(memory_format=torch.channels_last), upstream


def test_numba_is_at_work_here() -> None:
    assert pooling._kernels() is not None


def test_compiled_code_is_kept_outside_the_package_where_it_would_outlive_its_removal() -> None:
    kernels = pooling._kernels()
    assert kernels is not None
    kept = Path(kernels.forward._cache.cache_path)
    assert list(kept.glob("*.nbi"))
    assert not kept.is_relative_to(Path(pooling.__file__).parent)


@given(
    seed=st.integers(0, 2**32),
    n=st.integers(1, 3),
    c=st.integers(1, 40),
    height=st.sampled_from([2, 4, 14]),
    width=st.sampled_from([2, 6, 8]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    levels=st.sampled_from([0, 1, 100]),
)
def test_equals_torch_to_the_last_bit(
    seed: int, n: int, c: int, height: int, width: int, dtype: torch.dtype, levels: int
) -> None:
    images, upstream = drawn(seed, (n, c, height, width), dtype, levels)
    mine, theirs = both_ways(max_pool2d_relu, images, upstream), both_ways(reference, images, upstream)
    assert torch.equal(mine[0], theirs[0])
    assert torch.equal(mine[1], theirs[1])


@pytest.mark.parametrize("dtype", pooling.DTYPES)
@pytest.mark.parametrize("place", range(4))
def test_nan_and_infinity_come_through_from_every_place(dtype: torch.dtype, place: int) -> None:
    for value in (torch.nan, -torch.nan, torch.inf):
        images, upstream = drawn(0, (2, 32, 4, 4), dtype, 3)
        images[0, 5, place // 2, place % 2] = value
        mine, theirs = both_ways(max_pool2d_relu, images, upstream), both_ways(reference, images, upstream)
        assert torch.equal(mine[0], theirs[0]) or torch.isnan(mine[0][0, 5, 0, 0])
        assert torch.equal(torch.isnan(mine[0]), torch.isnan(theirs[0]))
        assert torch.equal(mine[1], theirs[1])


@pytest.mark.parametrize(
    "images",
    [
        torch.randn(2, 3, 5, 6),
        torch.randn(2, 3, 4, 6),
        torch.randn(2, 3, 4, 6, dtype=torch.float64),
        torch.randn(3, 4, 6),
    ],
    ids=["odd height", "channels first", "float64", "no batch"],
)
def test_what_is_not_compiled_is_left_to_torch(images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pooling._MaxPool, "apply", lambda images: pytest.fail("the compiled loops were entered"))
    assert torch.equal(max_pool2d_relu(images), reference(images))


def test_without_numba_it_is_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    images, upstream = drawn(0, (2, 32, 4, 4), torch.float32, 3)
    compiled = both_ways(max_pool2d_relu, images, upstream)
    monkeypatch.setattr(pooling, "_kernels", lambda: None)
    monkeypatch.setattr(pooling._MaxPool, "apply", lambda images: pytest.fail("the compiled loops were entered"))
    plain = both_ways(max_pool2d_relu, images, upstream)
    assert torch.equal(compiled[0], plain[0])
    assert torch.equal(compiled[1], plain[1])


def test_a_gradient_that_lies_channels_first_is_taken_as_it_is_meant() -> None:
    images, upstream = drawn(0, (2, 32, 4, 4), torch.float32, 3)
    assert upstream.is_contiguous()
    laid = upstream.contiguous(memory_format=torch.channels_last)
    assert torch.equal(both_ways(max_pool2d_relu, images, upstream)[1], both_ways(max_pool2d_relu, images, laid)[1])
