"""A training step recorded once and replayed: on a GPU a hundred launches of small kernels become one.

A graph replays the same kernels on the same memory, so what goes in and comes out lies in buffers that
never move, gradients included. Measured nowhere yet: written after the documentation of CUDA graphs in torch.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Protocol

import torch
from torch import Tensor, nn

Step = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Places of a batch, int64, (n,), to its loss, (), and number of correct answers, (); leaves gradients behind."""

Given = tuple[Tensor, Tensor]

WARM_UP_STEPS = 3
"""Steps taken as they are before one is recorded: libraries choose their kernels in the first ones."""


class Recorder(Protocol):
    """Records steps on one type of device."""

    def warm_up(self, step: Step, places: Tensor) -> Given:
        """Take `step` as it is, where it will be recorded."""

    def record(self, step: Step, places: Tensor) -> tuple[Given, Callable[[], None]]:
        """What `step` will give for what lies in `places`, in memory that stays, and what makes it do so.

        Raises:
            RuntimeError: the step cannot be recorded.
        """


class CudaGraphs:
    """Steps as CUDA graphs, recorded and warmed up on a stream of their own, as torch's documentation asks for."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def warm_up(self, step: Step, places: Tensor) -> Given:
        current = torch.cuda.current_stream(places.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            given = step(places)
        current.wait_stream(self._stream)
        return given

    def record(self, step: Step, places: Tensor) -> tuple[Given, Callable[[], None]]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(places.device), torch.cuda.graph(graph, stream=self._stream):
            given = step(places)
        return given, graph.replay


RECORDERS: Mapping[str, Callable[[torch.device], Recorder]] = MappingProxyType({"cuda": CudaGraphs})
"""By the type of device; on others, steps are taken as they are."""


class Replayed:
    """A step that is recorded as soon as that is possible, and taken as it is where it is not.

    Args:
        step: must not wait for the device, or it cannot be recorded.
        parameters: whose gradients the step leaves.
        batch_size: images of a full batch; others are not worth recording.
    """

    def __init__(self, step: Step, parameters: Sequence[nn.Parameter], batch_size: int) -> None:
        self._step = step
        self._parameters = parameters
        self._batch_size = batch_size
        device = parameters[0].device
        recorder = RECORDERS.get(device.type)
        self._recorder = recorder(device) if recorder is not None else None
        self._warm_up = WARM_UP_STEPS
        self._replay: Callable[[], None] | None = None
        self._places: Tensor
        self._given: Given
        self._gradients: list[Tensor | None]

    def __call__(self, places: Tensor) -> Given:
        if self._recorder is None or len(places) != self._batch_size:
            return self._take(self._step, places)
        if self._warm_up:
            self._warm_up -= 1
            return self._take(partial(self._recorder.warm_up, self._step), places)
        if self._replay is None and not self._recorded(self._recorder, places):
            return self._take(self._step, places)
        assert self._replay is not None
        self._places.copy_(places)
        # a batch that was not replayed has put its own gradients in their place
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            parameter.grad = gradient
        self._replay()
        loss, correct = self._given
        return loss.clone(), correct.clone()

    def _take(self, step: Step, places: Tensor) -> Given:
        self._forget_gradients()
        return step(places)

    def _recorded(self, recorder: Recorder, places: Tensor) -> bool:
        """Whether the step could be recorded; if not, it never is."""
        self._places = places.clone()
        self._forget_gradients()
        try:
            self._given, self._replay = recorder.record(self._step, self._places)
        except RuntimeError:  # a network that looks at its own numbers, say
            self._recorder = None
            return False
        self._gradients = [parameter.grad for parameter in self._parameters]
        return True

    def _forget_gradients(self) -> None:
        for parameter in self._parameters:
            parameter.grad = None
