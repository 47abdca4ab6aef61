"""What a training loop of the user's own keeps in its checkpoint."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from optitune.training.sharded import sharded_like, whole


class KeptObjects:
    """Objects with `state_dict` and `load_state_dict`, by name."""

    def __init__(self) -> None:
        self.objects: dict[str, Any] = {}

    @property
    def networks(self) -> dict[str, nn.Module]:
        """Those that are networks."""
        return {name: each for name, each in self.objects.items() if isinstance(each, nn.Module)}

    def state_dict(self) -> dict[str, Any]:
        """The state of each."""
        return {name: _plain(each.state_dict()) for name, each in self.objects.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put each where `state_dict` found it."""
        for name, each in self.objects.items():
            _load(each, state[name])

    def outline(self) -> dict[str, Any]:
        """The names of the networks."""
        return {"networks": list(self.networks)}


def _plain(state: Any) -> Any:
    """A state as a checkpoint takes it: numpy's numbers as Python's, mappings as dicts, what is sharded as a whole."""
    if isinstance(state, Mapping):
        return {key: _plain(each) for key, each in state.items()}
    if isinstance(state, Tensor):
        return whole(state)
    if isinstance(state, list | tuple):
        return type(state)(map(_plain, state)) if type(state) in (list, tuple) else list(map(_plain, state))
    if hasattr(state, "item") and getattr(state, "ndim", 1) == 0:
        return state.item()
    return state


def _load(each: Any, state: Any) -> None:
    if isinstance(each, nn.Module):
        own = each.state_dict()
        state = {key: sharded_like(value, own[key]) if key in own else value for key, value in state.items()}
    each.load_state_dict(state)
    if not isinstance(each, Optimizer):
        return
    for parameter, values in each.state.items():
        for name, value in values.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape and not value.is_sparse:
                # fused kernels walk weights and state in memory order, which a file does not keep
                value = sharded_like(value, parameter)
                values[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
