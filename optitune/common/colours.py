"""The colour of each optimizer: the same in every figure of a study, and safe for the colour-blind."""

from collections.abc import Sequence

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255", "#000000")
"""Okabe & Ito 2008, Color Universal Design, and wine from Tol 2021, Colour Schemes: one for each default optimizer."""


def place(name: str, optimizers: Sequence[str]) -> int:
    """The position of an optimizer among those of the study."""
    # a best.toml that was edited may hold one that did not compete
    return optimizers.index(name) if name in optimizers else len(optimizers)


def colour(name: str, optimizers: Sequence[str]) -> str:
    """The colour of an optimizer, by its position among those of the study."""
    return COLOURS[place(name, optimizers) % len(COLOURS)]
