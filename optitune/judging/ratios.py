"""The words for values that are ratios, which are kept as logarithms."""

from dataclasses import dataclass
from math import exp, expm1, log

from optitune.common.text import Unit


@dataclass(frozen=True)
class RatioUnit(Unit):
    """The format of logarithms of ratios: a value is a ratio, a difference a share or, where it is large, a factor."""

    def value(self, value: float) -> str:
        return f"{exp(value):.3g}"

    def difference(self, value: float) -> str:
        return f"{100 * expm1(abs(value)):.2g} %" if abs(value) < log(2) else f"a factor of {exp(abs(value)):.2g}"

    def size(self, value: float) -> str:
        return self.difference(value)

    def sizes(self, low: float, high: float) -> str:
        return f"{self.difference(low)} to {self.difference(high)}"

    def signed(self, value: float) -> str:
        return f"{'-' if value < 0 else '+'}{self.difference(value)}"

    def change(self, better: float) -> str:
        size = f"{100 * expm1(abs(better)):.2g} %" if abs(better) < log(2) else f"{exp(abs(better)):.2g} x"
        return size if better == 0 else f"{size} {'better' if better > 0 else 'worse'}"

    def between(self, low: float, high: float) -> str:
        return f"{self.change(low)} to {self.change(high)}"

    def span(self, low: float, high: float, signed: bool = False) -> str:
        """An interval of ratios.

        Args:
            low: its lower end.
            high: its upper end.
            signed: whether it is of a difference, whose ends have a sign.
        """
        if signed:
            return f"{self.signed(low)} to {self.signed(high)}"
        return f"{self.value(low)} to {self.value(high)}"
