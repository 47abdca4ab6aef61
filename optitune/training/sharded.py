"""Tensors of which every rank holds a part, as `fully_shard` makes them: the part, the whole, and back."""

from typing import Any

from torch import Tensor


def is_sharded(tensor: Any) -> bool:
    """Whether each rank holds a part of it."""
    return hasattr(tensor, "device_mesh")


def own_part(tensor: Tensor) -> Tensor:
    """What this rank holds of a tensor; one that is not sharded, whole."""
    found: Tensor = tensor.to_local() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]
    return found


def whole(value: Any) -> Any:
    """A tensor that is sharded as a plain one; anything else unchanged. To be called on every rank alike."""
    return value.full_tensor() if is_sharded(value) else value


def sharded_like(value: Tensor, other: Any) -> Tensor:
    """A plain tensor sharded as another one is; unchanged where that is not. To be called on every rank alike.

    Args:
        value: the whole, of any device.
        other: of the same shape.
    """
    if not is_sharded(other) or is_sharded(value):
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(other.device), other.device_mesh, other.placements)
