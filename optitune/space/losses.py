"""The registry of losses: one frozen row each, no torch at import. Adding a loss is adding a row."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from optitune.errors import unknown

OF_TASK = "task"
"""The name that stands for the task's own loss function."""

OF_LOOP = "loop"
"""The name that stands for whatever a training loop of the user's own computes."""

UNNAMED = OF_TASK, OF_LOOP
"""What a study may have in place of a loss by name."""


@dataclass(frozen=True)
class Loss:
    """A row of the registry of losses.

    Attributes:
        name: what a user types.
        path: `module:function` of torch; called with outputs and targets, gives the mean over a batch.
        one_hot: whether class labels are passed as one-hot vectors.
        settings: names of training settings that are passed to the function.
        source: the paper or documentation.
        note: when to think of it, in a sentence.
    """

    name: str
    path: str
    one_hot: bool
    settings: tuple[str, ...]
    source: str
    note: str


ROWS = (
    Loss(
        name="cross-entropy",
        path="torch.nn.functional:cross_entropy",
        one_hot=False,
        settings=("label_smoothing",),
        source="torch documentation, cross_entropy; label smoothing: Szegedy et al. 2016, arXiv:1512.00567",
        note="For classes: outputs are logits, one per class.",
    ),
    Loss(
        name="mse",
        path="torch.nn.functional:mse_loss",
        one_hot=True,
        settings=(),
        source="torch documentation, mse_loss; for classes: Hui & Belkin 2021, arXiv:2006.07322",
        note="For numbers: the mean squared error. Classes become vectors of zeros and a one.",
    ),
)

LOSSES: Mapping[str, Loss] = MappingProxyType({row.name: row for row in ROWS})


def find(name: str) -> Loss:
    """The row called `name`.

    Raises:
        UsageError: there is none; the message suggests similar names.
    """
    try:
        return LOSSES[name]
    except KeyError:
        raise unknown("loss", name, LOSSES) from None
