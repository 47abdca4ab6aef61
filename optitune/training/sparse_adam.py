"""Adam for a network with sparse embeddings, as one optimizer.

It needs nothing but torch, and nothing else of this package: exported code holds the text of the class.
"""

import typing

import torch


class SparseAndDenseAdam(torch.optim.Adam):
    """Lazy Adam for parameters whose gradients are sparse, Adam for all others.

    Of a sparse gradient, moments and weights move only in the rows that it has, as torch.optim.SparseAdam has it, which
    takes no dense gradients beside them (torch documentation, SparseAdam).

    Args:
        params: parameters, or groups of them.
        lr: of both parts.
        betas: of both parts.
        eps: of both parts.
    """

    def __init__(
        self,
        params: "torch.optim.optimizer.ParamsT",
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps)

    @torch.no_grad()
    def step(self, closure: object = None) -> object:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()  # type: ignore[operator]
        sparse = [
            (group, weight, weight.grad)
            for group in self.param_groups
            for weight in group["params"]
            if weight.grad is not None and weight.grad.is_sparse
        ]
        for _, weight, _ in sparse:
            weight.grad = None
        super().step()
        for group, weight, gradient in sparse:
            weight.grad = gradient
            self._lazily(group, weight, gradient.coalesce())
        return loss

    def _lazily(self, group: "dict[str, typing.Any]", weight: torch.Tensor, gradient: torch.Tensor) -> None:
        state = self.state[weight]
        beta1, beta2 = group["betas"]
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(weight), torch.zeros_like(weight)
        state["step"] += 1
        rows, values = gradient.indices()[0], gradient.values()
        mean = state["exp_avg"][rows].lerp(values, 1 - beta1)
        square = state["exp_avg_sq"][rows].lerp(values.square(), 1 - beta2)
        state["exp_avg"][rows], state["exp_avg_sq"][rows] = mean, square
        steps = float(state["step"])
        lr = group["lr"] * (1 - beta2**steps) ** 0.5 / (1 - beta1**steps)
        weight.index_add_(0, rows, mean / (square.sqrt() + group["eps"]), alpha=-lr)
