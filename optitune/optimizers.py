"""The optimizers that can compete: one frozen row each, no torch at import.

A row says what torch is told (`path`, `fixed`), where to start (`known_good`) and where to look
(`ranges`). Adding an optimizer is adding a row.

Names are those of the torch constructor. A constructor argument that is a tuple is spelled out in
the ranges, one name per place (`JOINED`), so that each place is a hyperparameter of its own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from optitune.errors import unknown
from optitune.space import Choice, Float, Range, around

JOINED: Mapping[str, tuple[str, ...]] = MappingProxyType({"betas": ("beta1", "beta2")})

LR_FACTOR = 10.0
"""How far below and above its known-good value a learning rate is looked for. One factor for all
optimizers, so that what a search learns of "ten times the usual" with one serves every other."""


@dataclass(frozen=True)
class Optimizer:
    """One optimizer.

    Attributes:
        name: what a user types.
        path: `module:class` of the torch optimizer.
        known_good: settings that are known to work, tried first; the lr of the first is the unit
            in which this optimizer's learning rates are sampled.
        ranges: where a search looks, by hyperparameter; every `known_good` lies inside.
        source: the paper or documentation of the method and of `known_good`.
        note: when to think of it, in a sentence.
        fixed: arguments that are always passed.
        needs: hyperparameters that torch takes only while another one is above zero.
        fused: whether torch has a fused kernel for it on CPU and CUDA.
    """

    name: str
    path: str
    known_good: tuple[Mapping[str, Any], ...]
    ranges: Mapping[str, Range]
    source: str
    note: str
    fixed: Mapping[str, Any] = field(default_factory=dict)
    needs: Mapping[str, str] = field(default_factory=dict)
    fused: bool = False

    @property
    def lr(self) -> float:
        """The known-good learning rate."""
        return float(self.known_good[0]["lr"])

    def arguments(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """What torch's constructor is given for these hyperparameter `values`."""
        left = {
            name: value
            for name, value in values.items()
            if name not in self.needs or values.get(self.needs[name], 0) > 0
        }
        joined = {
            argument: [left.pop(part) for part in parts]
            for argument, parts in JOINED.items()
            if all(part in left for part in parts)
        }
        return {**self.fixed, **left, **joined}


COMPLEMENT_SOURCE = "Choi et al. 2019, arXiv:1910.05446: momenta are tuned on the scale of 1 - value"
FACTOR_SOURCE = f"known-good value / and * {LR_FACTOR:g}"
EPS_SOURCE = "Choi et al. 2019, arXiv:1910.05446: eps of adaptive methods is worth tuning; narrowed to small networks"


def _lr(known_good: float) -> Float:
    return around(known_good, LR_FACTOR, FACTOR_SOURCE)


BETA1 = Float(0.5, 0.99, "complement", COMPLEMENT_SOURCE)
BETA2 = Float(0.9, 0.9999, "complement", COMPLEMENT_SOURCE)
EPS = Float(1e-10, 1e-4, "log", EPS_SOURCE)
ADAM_KNOWN_GOOD = {"lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8}


def _adam_ranges(lr: float) -> dict[str, Range]:
    return {"lr": _lr(lr), "beta1": BETA1, "beta2": BETA2, "eps": EPS}


ROWS = (
    Optimizer(
        name="sgd",
        path="torch.optim:SGD",
        known_good=(
            {"lr": 0.05, "momentum": 0.9, "nesterov": False, "weight_decay": 1e-4},
            {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-4},
            {"lr": 0.1, "momentum": 0.0, "nesterov": False, "weight_decay": 1e-4},
        ),
        ranges={
            "lr": _lr(0.05),
            "momentum": Float(0.0, 0.99, "complement", COMPLEMENT_SOURCE),
            "nesterov": Choice((False, True), "Sutskever et al. 2013, ICML 28(3):1139"),
            "weight_decay": Float(1e-6, 1e-2, "log", "around 1e-4 of He et al. 2016, arXiv:1512.03385"),
        },
        source="Polyak 1964; Sutskever et al. 2013, ICML 28(3):1139 (momentum, Nesterov); He et al. 2016, "
        "arXiv:1512.03385 (momentum 0.9, weight decay 1e-4)",
        note="Plain, with momentum, or Nesterov's. Often the best once its lr and schedule are tuned.",
        needs={"nesterov": "momentum"},
        fused=True,
    ),
    Optimizer(
        name="adam",
        path="torch.optim:Adam",
        known_good=(ADAM_KNOWN_GOOD,),
        ranges=_adam_ranges(1e-3),
        source="Kingma & Ba 2015, arXiv:1412.6980 (lr 0.001, betas 0.9 and 0.999, eps 1e-8)",
        note="Moments of the gradient and of its square; works untuned. Its decoupled weight decay is adamw.",
        fused=True,
    ),
    Optimizer(
        name="adamw",
        path="torch.optim:AdamW",
        known_good=({**ADAM_KNOWN_GOOD, "weight_decay": 1e-2},),
        ranges={
            **_adam_ranges(1e-3),
            "weight_decay": Float(1e-4, 1.0, "log", "Loshchilov & Hutter 2019, arXiv:1711.05101, around torch's 0.01"),
        },
        source="Loshchilov & Hutter 2019, arXiv:1711.05101; torch documentation (weight_decay 0.01)",
        note="Adam with weight decay that does not pass through the moments.",
        fused=True,
    ),
    Optimizer(
        name="nadam",
        path="torch.optim:NAdam",
        known_good=({**ADAM_KNOWN_GOOD, "lr": 2e-3},),
        ranges=_adam_ranges(2e-3),
        source="Dozat 2016, ICLR workshop; torch documentation (lr 0.002)",
        note="Adam with Nesterov's momentum.",
    ),
    Optimizer(
        name="radam",
        path="torch.optim:RAdam",
        known_good=(ADAM_KNOWN_GOOD,),
        ranges=_adam_ranges(1e-3),
        source="Liu et al. 2020, arXiv:1908.03265",
        note="Adam that waits with adapting until the second moment can be trusted: a warm-up built in.",
    ),
    Optimizer(
        name="adamax",
        path="torch.optim:Adamax",
        known_good=({**ADAM_KNOWN_GOOD, "lr": 2e-3},),
        ranges=_adam_ranges(2e-3),
        source="Kingma & Ba 2015, arXiv:1412.6980, section 7.1 (lr 0.002)",
        note="Adam with the largest past gradient in place of the second moment.",
    ),
    Optimizer(
        name="rmsprop",
        path="torch.optim:RMSprop",
        known_good=({"lr": 1e-3, "alpha": 0.99, "momentum": 0.0, "eps": 1e-8},),
        ranges={
            "lr": _lr(1e-3),
            "alpha": Float(0.9, 0.999, "complement", COMPLEMENT_SOURCE),
            "momentum": Float(0.0, 0.95, "complement", COMPLEMENT_SOURCE),
            "eps": EPS,
        },
        source="Tieleman & Hinton 2012, Coursera lecture 6.5 (lr 0.001); torch documentation (alpha 0.99, eps 1e-8)",
        note="The gradient over a running mean of its size; torch's default lr of 0.01 is too high for most networks.",
    ),
    Optimizer(
        name="adagrad",
        path="torch.optim:Adagrad",
        known_good=({"lr": 1e-2, "eps": 1e-10},),
        ranges={"lr": _lr(1e-2), "eps": Float(1e-10, 1e-4, "log", EPS_SOURCE)},
        source="Duchi et al. 2011, JMLR 12:2121; torch documentation (lr 0.01, eps 1e-10)",
        note="Steps shrink with every gradient seen; good for rare features, slow late in training.",
        fused=True,
    ),
    Optimizer(
        name="adadelta",
        path="torch.optim:Adadelta",
        known_good=({"lr": 1.0, "rho": 0.9, "eps": 1e-6},),
        ranges={
            "lr": _lr(1.0),
            "rho": Float(0.8, 0.99, "complement", "Zeiler 2012, arXiv:1212.5701, table 2"),
            "eps": Float(1e-8, 1e-4, "log", "Zeiler 2012, arXiv:1212.5701, table 2"),
        },
        source="Zeiler 2012, arXiv:1212.5701; torch documentation (lr 1.0, rho 0.9, eps 1e-6)",
        note="Finds its own step size from past steps; lr 1.0 is the method as published.",
    ),
    Optimizer(
        name="asgd",
        path="torch.optim:ASGD",
        known_good=({"lr": 0.1, "lambd": 1e-4, "alpha": 0.75},),
        ranges={
            "lr": _lr(0.1),
            "lambd": Float(1e-6, 1e-2, "log", "around torch's default of 1e-4"),
            "alpha": Float(0.5, 1.0, "linear", "Polyak & Juditsky 1992, SIAM J. Control Optim. 30(4):838: 1/2 to 1"),
        },
        source="Polyak & Juditsky 1992, SIAM J. Control Optim. 30(4):838; lr as for plain sgd",
        note="Plain SGD with a decaying step; torch starts the averaging late (t0), as here.",
    ),
    Optimizer(
        name="adafactor",
        path="torch.optim:Adafactor",
        known_good=({"lr": 1e-2, "beta2_decay": -0.8, "d": 1.0},),
        ranges={
            "lr": _lr(1e-2),
            "beta2_decay": Float(-1.0, -0.5, "linear", "Shazeer & Stern 2018, arXiv:1804.04235, section 7.2"),
            "d": Float(1.0, 4.0, "log", "Shazeer & Stern 2018, arXiv:1804.04235, section 6: clipping at 1 and 2"),
        },
        source="Shazeer & Stern 2018, arXiv:1804.04235; torch documentation (lr 0.01)",
        note="Keeps row and column sums instead of a second moment per weight; the least memory.",
    ),
)

OPTIMIZERS: Mapping[str, Optimizer] = MappingProxyType({row.name: row for row in ROWS})

DEFAULT_OPTIMIZERS = ("sgd", "adam", "adamw", "nadam", "rmsprop", "adagrad", "adadelta")

LIMITS: Mapping[str, tuple[str, Callable[[Any], bool]]] = MappingProxyType(
    {
        "lr": ("above 0", lambda value: value > 0),
        "momentum": ("at least 0 and below 1", lambda value: 0 <= value < 1),
        "beta1": ("at least 0 and below 1", lambda value: 0 <= value < 1),
        "beta2": ("at least 0 and below 1", lambda value: 0 <= value < 1),
        "alpha": ("between 0 and 1", lambda value: 0 <= value <= 1),
        "rho": ("between 0 and 1", lambda value: 0 <= value <= 1),
        "eps": ("at least 0", lambda value: value >= 0),
        "weight_decay": ("at least 0", lambda value: value >= 0),
        "lambd": ("at least 0", lambda value: value >= 0),
        "beta2_decay": ("at most 0", lambda value: value <= 0),
        "d": ("at least 1", lambda value: value >= 1),
    }
)
"""What a hyperparameter may be at all, wider than where a search looks: for settings edited by hand."""


def find(name: str) -> Optimizer:
    """The row called `name`.

    Raises:
        UsageError: there is none; the message has the nearest names.
    """
    try:
        return OPTIMIZERS[name]
    except KeyError:
        raise unknown("optimizer", name, OPTIMIZERS, "(see 'optitune optimizers')") from None
