"""Figures: they draw the records, all of them, into a file that is whole or not there."""

from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from optitune.common.colours import COLOURS
from optitune.errors import OptituneError
from optitune.retraining.curves import training_curves
from optitune.retraining.records import EpochRecord

CURVE = tuple(EpochRecord(epoch, 0.1 * 0.5**epoch, 1 / epoch, 1 - 0.5**epoch) for epoch in range(1, 6))
OTHER = tuple(EpochRecord(epoch, 0.1 * 0.5**epoch, 2 / epoch, 1 - 0.6**epoch) for epoch in range(1, 6))


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that were saved."""
    figures = []
    save = Figure.savefig

    def keep(figure: Figure, *arguments: object, **others: object) -> None:
        figures.append(figure)
        save(figure, *arguments, **others)

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures


def points(panel: Axes) -> list[list[float]]:
    """The heights of each line."""
    return [list(line.get_ydata()) for line in panel.lines]


def test_a_png_is_there_and_nothing_else(tmp_path: Path) -> None:
    training_curves([CURVE], "cross-entropy", "accuracy", "digits", tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG\r\n")
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]


def test_every_seed_has_a_line_of_its_epochs(tmp_path: Path, drawn: list[Figure]) -> None:
    training_curves([CURVE, OTHER], "cross-entropy", "accuracy", "digits", tmp_path / "curves.png")
    loss, accuracy, _ = drawn[0].axes
    assert points(loss) == [[row.train_loss for row in curve] for curve in (CURVE, OTHER)]
    assert points(accuracy) == [[row.train_value for row in curve] for curve in (CURVE, OTHER)]
    assert [list(line.get_xdata()) for line in loss.lines] == [[1, 2, 3, 4, 5]] * 2


def test_one_line_stands_for_the_learning_rate_of_all_seeds(tmp_path: Path, drawn: list[Figure]) -> None:
    training_curves([CURVE, OTHER], "cross-entropy", "accuracy", "digits", tmp_path / "curves.png")
    assert points(drawn[0].axes[2]) == [[row.lr for row in CURVE]]


def test_panels_name_what_they_show_and_the_figure_what_was_trained(tmp_path: Path, drawn: list[Figure]) -> None:
    training_curves([CURVE], "cross-entropy", "accuracy", "digits: adam", tmp_path / "curves.png")
    titles = [panel.get_title(loc="left") for panel in drawn[0].axes]
    assert titles == ["training loss (cross-entropy)", "training accuracy", "learning rate"]
    assert [panel.get_xlabel() for panel in drawn[0].axes] == ["epoch"] * 3
    assert drawn[0].get_suptitle() == "digits: adam"


def test_a_metric_that_is_no_mean_over_examples_has_no_panel(tmp_path: Path, drawn: list[Figure]) -> None:
    curve = [replace(row, train_value=None) for row in CURVE]
    training_curves([curve], "mse", "r2", "digits", tmp_path / "curves.png")
    assert [panel.get_title(loc="left") for panel in drawn[0].axes] == ["training loss (mse)", "learning rate"]
    assert points(drawn[0].axes[1]) == [[row.lr for row in CURVE]]


def test_seeds_are_told_apart_by_a_legend_where_there_are_several(tmp_path: Path, drawn: list[Figure]) -> None:
    training_curves([CURVE, OTHER], "cross-entropy", "accuracy", "digits", tmp_path / "two.png")
    training_curves([CURVE], "cross-entropy", "accuracy", "digits", tmp_path / "one.png")
    legend = drawn[0].axes[0].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["seed 1", "seed 2"]
    assert drawn[1].axes[0].get_legend() is None


def test_more_seeds_than_colours_are_all_drawn(tmp_path: Path, drawn: list[Figure]) -> None:
    training_curves([CURVE] * (len(COLOURS) + 2), "cross-entropy", "accuracy", "digits", tmp_path / "curves.png")
    colours = [line.get_color() for line in drawn[0].axes[0].lines]
    assert colours == [*COLOURS, *COLOURS[:2]]


@pytest.mark.parametrize(
    "curve",
    [
        pytest.param(CURVE[:1], id="one epoch"),
        pytest.param([EpochRecord(epoch, 0.1, 0.0, 1.0) for epoch in (1, 2)], id="loss of zero"),
        pytest.param([EpochRecord(epoch, 0.1, -float(epoch), 0.5) for epoch in (1, 2)], id="loss below zero"),
        pytest.param([EpochRecord(epoch, 0.1, 1.0 - epoch, None) for epoch in (0, 1, 2)], id="loss of both signs"),
        pytest.param([EpochRecord(epoch, 0.0, 0.5, 0.5) for epoch in (1, 2)], id="lr of zero"),
        pytest.param([EpochRecord(epoch, 0.1, 10.0**-epoch, 0.5) for epoch in range(1, 30)], id="many decades"),
        pytest.param([EpochRecord(epoch, 0.1, 0.3, 0.5) for epoch in (1, 2, 3)], id="flat"),
    ],
)
def test_unusual_curves_are_drawn_too(curve: list[EpochRecord], tmp_path: Path) -> None:
    training_curves([curve], "cross-entropy", "accuracy", "digits", tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 1000


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "folder").write_text("in the way")
    with pytest.raises(OptituneError, match="studies_dir"):
        training_curves([CURVE], "cross-entropy", "accuracy", "digits", tmp_path / "folder" / "curves.png")
