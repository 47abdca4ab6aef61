"""Training steps as CUDA graphs: recorded once and replayed, so that launching many small kernels takes one call.

A graph replays the same kernels on the same memory, so inputs, outputs and gradients lie in buffers that never move.
Source: torch documentation, CUDA graphs.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Protocol

import torch
from torch import Tensor, nn

Step = Callable[[Tensor], tuple[Tensor, Tensor]]
"""A function of the indices of a batch, (n,), int64, that gives its loss, (), and metric, (), and leaves gradients."""

Given = tuple[Tensor, Tensor]

WARM_UP_STEPS = 3
"""Steps that are run before one is recorded: libraries choose their kernels in the first ones."""


class Recorder(Protocol):
    """Records steps on one type of device."""

    def warm_up(self, step: Step, places: Tensor) -> Given:
        """Run `step` on the stream on which it will be recorded."""

    def record(self, step: Step, places: Tensor) -> tuple[Given, Callable[[], None]]:
        """Record `step`: its outputs, in fixed memory, and a function that computes them anew from `places`.

        Raises:
            RuntimeError: the step cannot be recorded.
        """


class CudaGraphs:
    """A recorder of CUDA graphs on a stream of their own, as torch's documentation asks for."""

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
"""Recorders by type of device; on others, steps are run without recording."""


class Replayed:
    """A training step that is recorded and replayed where possible.

    Args:
        step: to record; it cannot be recorded if it waits for the device.
        parameters: that the step computes gradients of.
        batch_size: examples of a full batch; other batches are run without recording.
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
        """Try to record the step; if it fails once, it is not tried again."""
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
