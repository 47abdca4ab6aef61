"""The built-in optimizers: one frozen row each, no torch at import. Adding an optimizer is adding a row.

Names are those of the torch constructor. A constructor argument that is a tuple is split in the ranges, one name per
element (`JOINED`), so that each element is a hyperparameter of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal

from optitune.space.ranges import Choice, Fixed, Float, Int, Range, around

JOINED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "betas": ("beta1", "beta2"),
        "etas": ("eta1", "eta2"),
        "step_sizes": ("step_size_min", "step_size_max"),
    }
)

LR_FACTOR = 10.0
"""Good learning rates usually lie between known-good / factor and known-good * factor. It is the same for all
optimizers, so that what a search learns about "ten times the usual" with one applies to the others."""

Trait = Literal["fused", "fused-cpu", "closure", "modes", "one-group", "matrices", "sparse"]


@dataclass(frozen=True)
class Optimizer:
    """An optimizer with its default settings and search ranges: a row of the registry.

    Attributes:
        name: what a user types.
        path: `module:class` of the torch optimizer.
        known_good: default settings, at least one set, tried first; each has an lr, and that of the first is the unit
            in which learning rates are sampled.
        ranges: search range of each hyperparameter; contains every `known_good` value. One that stands in `known_good`
            alone is a constant.
        source: the paper or documentation of the method and of `known_good`.
        note: when to use it, in a sentence.
        fixed: constructor arguments that are always passed.
        also: optional hyperparameters that a study may fix or search, with their default values.
        needs: hyperparameters that are passed only while another one is above 0, by name.
        unless: hyperparameters that are passed only while another one is off, by name.
        traits: `fused`, torch has a fused kernel for it on CPU and CUDA; `fused-cpu`, on CPU alone; `closure`, its
            step needs a closure that evaluates the loss; `modes`, it has `train()` and `eval()`; `one-group`, it takes
            no parameter groups; `matrices`, it treats hidden weight matrices differently, and reads which they are
            from `matrix` in every parameter group; `sparse`, it is for embeddings with sparse gradients, and is left
            out of `all`.
        extra: the extra of optitune that installs its package; empty for torch's own.

    Raises:
        ValueError: a known-good setting lacks an lr or lies outside the ranges, or names contradict each other.

    Example:
        >>> optitune.Optimizer(
        ...     name="lion",
        ...     path="lion_pytorch:Lion",
        ...     known_good=({"lr": 1e-4},),
        ...     ranges={"lr": optitune.Float(1e-5, 1e-3, "log")},
        ...     source="Chen et al. 2023, arXiv:2302.06675",
        ...     note="Steps follow the sign of a moving average.",
        ... )
    """

    name: str
    path: str
    known_good: tuple[Mapping[str, Any], ...]
    ranges: Mapping[str, Range]
    source: str
    note: str
    fixed: Mapping[str, Any] = field(default_factory=dict)
    also: Mapping[str, Any] = field(default_factory=dict)
    needs: Mapping[str, str] = field(default_factory=dict)
    unless: Mapping[str, str] = field(default_factory=dict)
    traits: tuple[Trait, ...] = ()
    extra: str = ""

    def __post_init__(self) -> None:
        if not self.known_good or any("lr" not in values for values in self.known_good):
            raise ValueError("known_good must be some settings, each with an lr")
        constant = {name: value for name, value in self.known_good[0].items() if name not in self.ranges}
        if constant:
            fixed = {name: Fixed(value) for name, value in constant.items()}
            object.__setattr__(self, "ranges", {**self.ranges, **fixed})
        for values in self.known_good:
            if unknown_names := set(self.ranges) ^ set(values):
                raise ValueError(f"{sorted(unknown_names)[0]} must be in every known_good")
            for name, value_range in self.ranges.items():
                if not value_range.contains(values[name]):
                    raise ValueError(f"known_good {name} = {values[name]!r} lies outside its range, {value_range}")
        for name in (*self.needs, *self.needs.values(), *self.unless, *self.unless.values()):
            if name not in self.ranges and name not in self.also:
                raise ValueError(f"needs and unless name {name}, which must be in ranges or in also")
        if twice := set(self.also) & {*self.ranges, *self.fixed}:
            raise ValueError(f"{sorted(twice)[0]} must be either in also, or in ranges or fixed")

    @property
    def lr(self) -> float:
        """The known-good learning rate."""
        return float(self.known_good[0]["lr"])

    def arguments(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of torch's constructor for these hyperparameter `values`."""
        left = {
            name: value
            for name, value in values.items()
            if (name not in self.needs or values.get(self.needs[name], 0) > 0)
            and not values.get(self.unless.get(name, ""))
        }
        joined = {
            argument: [left.pop(part, self.also.get(part)) for part in parts]
            for argument, parts in JOINED.items()
            if not left.keys().isdisjoint(parts) and all(part in left or part in self.also for part in parts)
        }
        return {**self.fixed, **left, **joined}


COMPLEMENT_SOURCE = "Choi et al. 2019, arXiv:1910.05446: momenta are tuned on the scale of 1 - value"
FACTOR_SOURCE = f"known-good value / and * {LR_FACTOR:g}; lr_reach says how far beyond a search may go"
EPS_SOURCE = "Choi et al. 2019, arXiv:1910.05446: eps of adaptive methods is worth tuning; narrowed to small networks"

MUON_SOURCE = "Jordan et al. 2024, kellerjordan.github.io/posts/muon, and its code"
MUON_SCALE_SOURCE = "Liu et al. 2025, arXiv:2502.16982"
SCHEDULE_FREE_SOURCE = "Defazio et al. 2024, arXiv:2405.15682"
SCHEDULE_FREE_CODE_SOURCE = "readme of schedulefree 1.4"


def _lr(known_good: float) -> Float:
    return replace(around(known_good, LR_FACTOR, FACTOR_SOURCE), usual=True)


BETA1 = Float(0.5, 0.99, "complement", COMPLEMENT_SOURCE)
BETA2 = Float(0.9, 0.9999, "complement", COMPLEMENT_SOURCE)
SCHEDULE_FREE_BETA = Float(0.8, 0.99, "complement", f"{SCHEDULE_FREE_CODE_SOURCE}: 0.9, up to 0.98 for long trainings")
EPS = Float(1e-10, 1e-4, "log", EPS_SOURCE)
SCHEDULE_FREE_ALSO = {"warmup_steps": 0, "r": 0.0, "weight_lr_power": 2.0}
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
        also={"dampening": 0.0},
        needs={"nesterov": "momentum"},
        unless={"dampening": "nesterov"},
        traits=("fused",),
    ),
    Optimizer(
        name="adam",
        path="torch.optim:Adam",
        known_good=(ADAM_KNOWN_GOOD,),
        ranges=_adam_ranges(1e-3),
        source="Kingma & Ba 2015, arXiv:1412.6980 (lr 0.001, betas 0.9 and 0.999, eps 1e-8)",
        note="Moments of the gradient and of its square; works untuned. Its decoupled weight decay is adamw.",
        also={"weight_decay": 0.0, "amsgrad": False},
        traits=("fused",),
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
        also={"amsgrad": False},
        traits=("fused",),
    ),
    Optimizer(
        name="nadam",
        path="torch.optim:NAdam",
        known_good=({**ADAM_KNOWN_GOOD, "lr": 2e-3},),
        ranges=_adam_ranges(2e-3),
        source="Dozat 2016, ICLR workshop; torch documentation (lr 0.002)",
        note="Adam with Nesterov's momentum.",
        also={"weight_decay": 0.0, "decoupled_weight_decay": False, "momentum_decay": 4e-3},
    ),
    Optimizer(
        name="radam",
        path="torch.optim:RAdam",
        known_good=(ADAM_KNOWN_GOOD,),
        ranges=_adam_ranges(1e-3),
        source="Liu et al. 2020, arXiv:1908.03265",
        note="Adam that waits with adapting until the second moment can be trusted: a warm-up built in.",
        also={"weight_decay": 0.0, "decoupled_weight_decay": False},
    ),
    Optimizer(
        name="adamax",
        path="torch.optim:Adamax",
        known_good=({**ADAM_KNOWN_GOOD, "lr": 2e-3},),
        ranges=_adam_ranges(2e-3),
        source="Kingma & Ba 2015, arXiv:1412.6980, section 7.1 (lr 0.002)",
        note="Adam with the largest past gradient in place of the second moment.",
        also={"weight_decay": 0.0},
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
        also={"weight_decay": 0.0, "centered": False},
    ),
    Optimizer(
        name="adagrad",
        path="torch.optim:Adagrad",
        known_good=({"lr": 1e-2, "eps": 1e-10},),
        ranges={"lr": _lr(1e-2), "eps": Float(1e-12, 1e-4, "log", EPS_SOURCE)},
        source="Duchi et al. 2011, JMLR 12:2121; torch documentation (lr 0.01, eps 1e-10)",
        note="Steps shrink with every gradient seen; good for rare features, slow late in training.",
        also={"weight_decay": 0.0, "lr_decay": 0.0, "initial_accumulator_value": 0.0},
        traits=("fused-cpu",),
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
        also={"weight_decay": 0.0},
    ),
    Optimizer(
        name="asgd",
        path="torch.optim:ASGD",
        known_good=({"lr": 0.1, "lambd": 1e-4, "alpha": 0.75},),
        ranges={
            "lr": _lr(0.1),
            "lambd": Float(1e-6, 1e-2, "log", "around torch's default of 1e-4"),
            "alpha": Float(
                0.5, 1.0, "linear", "Polyak & Juditsky 1992, SIAM J. Control Optim. 30(4):838: 1/2 to 1", closed=True
            ),
        },
        source="Polyak & Juditsky 1992, SIAM J. Control Optim. 30(4):838; lr as for plain sgd",
        note="Plain SGD with a decaying step; torch starts the averaging late (t0), as here.",
        also={"weight_decay": 0.0, "t0": 1e6},
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
        also={"weight_decay": 0.0},
    ),
    Optimizer(
        name="rprop",
        path="torch.optim:Rprop",
        known_good=({"lr": 1e-2, "eta1": 0.5, "eta2": 1.2, "step_size_min": 1e-6, "step_size_max": 50.0},),
        ranges={
            "lr": _lr(1e-2),
            "eta1": Float(0.2, 0.95, "linear", "around 0.5 of Riedmiller & Braun 1993; minibatches want more"),
            "eta2": Float(1.01, 1.5, "linear", "around 1.2 of Riedmiller & Braun 1993; minibatches want less"),
            "step_size_min": Fixed(1e-6, "Riedmiller & Braun 1993"),
            "step_size_max": Fixed(50.0, "Riedmiller & Braun 1993"),
        },
        source="Riedmiller & Braun 1993, ICNN:586 (etas 0.5 and 1.2); torch documentation (lr 0.01)",
        note="Steps by the gradient's sign alone, made for full batches: poor with small ones; lr is the first step's, "
        "which no schedule changes later.",
    ),
    Optimizer(
        name="lbfgs",
        path="torch.optim:LBFGS",
        known_good=({"lr": 1.0, "max_iter": 4, "history_size": 5},),
        ranges={
            "lr": _lr(1.0),
            "max_iter": Int(2, 10, "below torch's default of 20, which is for full batches"),
            "history_size": Int(3, 20, "Liu & Nocedal 1989, Math. Program. 45:503: 3 to 7; torch's default is 100"),
        },
        source="Liu & Nocedal 1989, Math. Program. 45:503; torch documentation (lr 1)",
        note="Quasi-Newton: some steps with line searches on each batch, so as many times the work; wants large "
        "batches, a loss without chance such as dropout, and no clipping.",
        # where it does not search the line, a step that is too long is taken all the same
        fixed={"line_search_fn": "strong_wolfe"},
        also={"tolerance_grad": 1e-7, "tolerance_change": 1e-9},
        traits=("closure", "one-group"),
    ),
    Optimizer(
        name="muon",
        path="optitune.training.muon:MuonWithAdamW",
        known_good=({"lr": 5e-3, "momentum": 0.95, "weight_decay": 0.1, "beta1": 0.9, "beta2": 0.95},),
        ranges={
            "lr": _lr(5e-3),
            "momentum": Float(0.8, 0.99, "complement", f"around 0.95 of {MUON_SOURCE}"),
            "weight_decay": Float(1e-3, 1.0, "log", f"around 0.1 of {MUON_SCALE_SOURCE}"),
            "beta1": Fixed(0.9, MUON_SOURCE),
            "beta2": Fixed(0.95, MUON_SOURCE),
        },
        source=f"{MUON_SOURCE} (momentum 0.95, betas 0.9 and 0.95; its lr of 0.02 is about 5e-3 here for matrices of "
        f"some hundred rows or columns); {MUON_SCALE_SOURCE} (steps as long as AdamW's, weight decay 0.1)",
        note="Makes all directions of a hidden weight matrix move alike; AdamW trains the rest, such as biases, "
        "embeddings and the last layer.",
        also={"nesterov": True, "eps": 1e-8},
        traits=("matrices",),
    ),
    Optimizer(
        name="sparseadam",
        path="optitune.training.sparse_adam:SparseAndDenseAdam",
        known_good=(ADAM_KNOWN_GOOD,),
        ranges=_adam_ranges(1e-3),
        source="torch documentation, SparseAdam (lr 0.001, betas 0.9 and 0.999, eps 1e-8); Kingma & Ba 2015, "
        "arXiv:1412.6980, for what is dense",
        note="For embeddings with sparse=True: moments and weights move only in the rows of a batch; Adam trains the "
        "rest.",
        traits=("sparse",),
    ),
    Optimizer(
        name="sgd-schedulefree",
        path="schedulefree:SGDScheduleFree",
        known_good=({"lr": 1.0, "momentum": 0.9, "weight_decay": 1e-4},),
        ranges={
            "lr": _lr(1.0),
            "momentum": SCHEDULE_FREE_BETA,
            "weight_decay": Float(1e-6, 1e-2, "log", "as for sgd"),
        },
        source=f"{SCHEDULE_FREE_SOURCE}; {SCHEDULE_FREE_CODE_SOURCE} (lr 10 to 50 times sgd's, momentum 0.9)",
        note="SGD that averages its weights instead of lowering its lr: for the constant schedule.",
        also=SCHEDULE_FREE_ALSO,
        traits=("modes",),
        extra="schedulefree",
    ),
    Optimizer(
        name="adamw-schedulefree",
        path="schedulefree:AdamWScheduleFree",
        known_good=({**ADAM_KNOWN_GOOD, "lr": 2.5e-3, "weight_decay": 1e-2},),
        ranges={
            **_adam_ranges(2.5e-3),
            "beta1": SCHEDULE_FREE_BETA,
            "weight_decay": Float(1e-4, 1.0, "log", "as for adamw"),
        },
        source=f"{SCHEDULE_FREE_SOURCE}; {SCHEDULE_FREE_CODE_SOURCE} (lr 1 to 10 times adamw's, betas 0.9 and 0.999)",
        note="AdamW that averages its weights instead of lowering its lr: for the constant schedule.",
        also=SCHEDULE_FREE_ALSO,
        traits=("modes",),
        extra="schedulefree",
    ),
)
