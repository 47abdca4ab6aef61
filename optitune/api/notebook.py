"""What all results of the Python API have in common: words and a table for a notebook, and figures by name."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from optitune.common.tables import Table
from optitune.comparing.results import Comparison
from optitune.errors import OptituneError, unknown
from optitune.report.page import Subject
from optitune.report.rendering import rendered
from optitune.report.style import Picture, whole
from optitune.retraining.mistakes import Mistakes
from optitune.retraining.results import Tested
from optitune.study.records import TrialRecord
from optitune.tasks.metrics import Metric

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class NotebookView:
    """What all results have in common: a headline, a few more words, a table, and figures by name."""

    USUAL: tuple[str, ...]
    """The figures that are drawn if none is named."""

    @property
    def headline(self) -> str:
        """What was found, in a sentence."""
        raise NotImplementedError

    def _words(self) -> list[str]:
        raise NotImplementedError

    def _table(self) -> Table:
        raise NotImplementedError

    def _pictures(self) -> list[Picture]:
        raise NotImplementedError

    @property
    def figures(self) -> tuple[str, ...]:
        """The names of the figures that there are."""
        return tuple(picture.name for picture in self._pictures())

    def figure(self, *names: str) -> "Figure":
        """Figures of these names as one, a panel beside the other; without a name the usual ones.

        Raises:
            UsageError: there is none of a name.
            OptituneError: there is nothing to draw yet.
        """
        there = {picture.name: picture for picture in self._pictures()}
        if not there:
            raise OptituneError("there is nothing to draw yet: no trial is complete")
        for name in names:
            if name not in there:
                raise unknown("figure", name, there)
        usual = [name for name in self.USUAL if name in there] or list(there)[:1]
        chosen = [there[name] for name in names or usual]
        panels = tuple(panel for picture in chosen for panel in picture.panels)
        return whole(Picture("-".join(picture.name for picture in chosen), "", panels))

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.headline}>"

    def _repr_html_(self) -> str:
        return rendered("notebook.html", headline=self.headline, words=self._words(), table=self._table())


def subject(
    name: str,
    metric: Metric,
    optimizers: Sequence[str],
    trials: Sequence[TrialRecord] = (),
    comparison: Comparison | None = None,
    tested: Tested | None = None,
    mistakes: Mistakes | None = None,
) -> Subject:
    """The part of a study that figures are drawn of.

    Args:
        name: of the study.
        metric: that its trials are judged by.
        optimizers: of the study.
        trials: of the search.
        comparison: of the study.
        tested: its full training.
        mistakes: of the full training's first network.
    """
    # no epochs: of a comparison, no trials of the search are drawn
    settings = {"optimizers": optimizers, "epochs": 0}
    return Subject(name, settings, {}, {}, metric, tuple(trials), comparison, tested, mistakes)
