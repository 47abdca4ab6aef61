"""Muon for hidden weight matrices and AdamW for all the rest, as one optimizer.

It needs nothing but torch, and nothing else of this package: exported code holds the text of the class.
"""

import torch


class MuonWithAdamW(torch.optim.AdamW):
    """Muon for parameter groups with `matrix=True`, AdamW for the others.

    A step of Muon goes along its momentum with all singular values of that made about equal (Jordan et al. 2024,
    kellerjordan.github.io/posts/muon), scaled to the usual size of AdamW's steps, so that one learning rate and one
    weight decay serve both parts (Liu et al. 2025, arXiv:2502.16982, section 2.2). The weights of a convolution are
    a matrix with one row per output channel, as in Jordan et al.

    Args:
        params: parameters, or groups of them; those of a group with `matrix=True` have two dimensions or more.
        lr: of both parts.
        momentum: of Muon.
        nesterov: whether Muon looks ahead along its momentum.
        weight_decay: of both parts, decoupled from the gradients.
        betas: of AdamW.
        eps: of AdamW.

    Raises:
        ValueError: a setting is not allowed, or a matrix has less than two dimensions.
    """

    def __init__(
        self,
        params: "torch.optim.optimizer.ParamsT",
        lr: float = 1e-3,
        momentum: float = 0.95,
        nesterov: bool = True,
        weight_decay: float = 0.1,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
    ) -> None:
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum {momentum} must be at least 0 and below 1")
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
        of_muon = {"matrix": False, "momentum": momentum, "nesterov": nesterov}
        self.defaults.update(of_muon)
        for group in self.param_groups:
            group.update({**of_muon, **group})
            if group["matrix"] and any(weight.ndim < 2 for weight in group["params"]):
                raise ValueError("a group with matrix=True must hold weights of two dimensions or more")

    @torch.no_grad()
    def step(self, closure: object = None) -> object:  # type: ignore[override]
        groups = self.param_groups
        self.param_groups = [group for group in groups if not group["matrix"]]
        try:
            loss = super().step(closure)
        finally:
            self.param_groups = groups
        for group in groups:
            for weight in group["params"]:
                if group["matrix"] and weight.grad is not None:
                    direction = self._direction(weight, weight.grad, group["momentum"], group["nesterov"])
                    # its entries have a root mean square of 1 / sqrt(longer side), those of AdamW's steps of about 0.2
                    lr = 0.2 * max(direction.shape) ** 0.5 * group["lr"]
                    weight.mul_(1 - group["lr"] * group["weight_decay"])
                    weight.add_(direction.reshape(weight.shape), alpha=-lr)
        return loss

    def _direction(self, weight: torch.Tensor, gradient: torch.Tensor, momentum: float, nesterov: bool) -> torch.Tensor:
        state = self.state[weight]
        if not state:
            # AdamW looks for a count of steps in every state that it loads
            state["step"] = torch.zeros(())
            state["momentum_buffer"] = torch.zeros_like(weight)
        state["step"] += 1
        average = state["momentum_buffer"].lerp_(gradient, 1 - momentum)
        return self._even((gradient.lerp(average, momentum) if nesterov else average).flatten(1))

    @staticmethod
    def _even(matrix: torch.Tensor) -> torch.Tensor:
        """`matrix` with its singular values brought near 1, by five steps of a Newton-Schulz iteration in bfloat16.

        The coefficients, of Jordan et al. 2024, lift small values fast rather than bring all to 1 exactly.
        """
        a, b, c = 3.4445, -4.7750, 2.0315
        tall = matrix.shape[0] > matrix.shape[1]
        even = (matrix.T if tall else matrix).bfloat16()
        even = even / even.norm().clamp(min=1e-7)
        for _ in range(5):
            gram = even @ even.T
            even = torch.addmm(even, torch.addmm(gram, gram, gram, beta=b, alpha=c), even, beta=a)
        return even.T if tall else even
