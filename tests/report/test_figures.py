"""A report's figures: all rows are drawn, in the same colours, on light and on dark paper."""

import re
from dataclasses import replace
from math import inf
from pathlib import Path
from xml.etree import ElementTree

import pytest
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from report_world import comparison, mistakes, subject, trials

from optitune.common.colours import COLOURS
from optitune.common.summary import Summary, summarise
from optitune.common.text import Unit
from optitune.errors import OptituneError
from optitune.report import data as report_data
from optitune.report import figures as report_figures
from optitune.report import retrain_figures
from optitune.report.importance import influences
from optitune.report.page import sections
from optitune.report.style import DARK, STYLE, Palette, Panel, Picture, save_png, svg, variable
from optitune.statistics.differences import Difference
from optitune.statistics.verdict import Place
from optitune.tasks.metrics import METRICS

NAMES = ("sgd", "adam", "adamw", "adagrad")
COUNTED = re.compile(r"\d+ (?:to \d+ )?(?:\w+ )?(?:trial|run|round|seed|image)")
"""Over how many something is."""

PALETTE = Palette(NAMES, Unit("accuracy", percent=True))


def axes_of(panel: Panel) -> list[Axes]:
    with rc_context(STYLE):
        figure = Figure(figsize=panel.size)
        panel.draw(figure)
    return figure.axes


def colours_of(axes: Axes) -> set[str]:
    return {to_hex(line.get_color()).upper() for line in axes.lines}


def pictures(stage: str) -> list[Picture]:
    return [picture for section in sections(subject(stage=stage)) for picture in section.pictures]


@pytest.mark.parametrize(
    ("stage", "names"),
    [
        ("empty", []),
        ("searched", ["curves", "learning-rates", "best-so-far", "budget", "importance"]),
        ("compared", ["values", "differences", "curves", "learning-rates", "best-so-far", "budget", "importance"]),
    ],
)
def test_each_stage_has_its_figures(stage: str, names: list[str]) -> None:
    assert [picture.name for picture in pictures(stage)] == names


def test_every_figure_says_over_how_many_it_is_and_what_it_shows() -> None:
    for picture in [*pictures("searched"), *pictures("tested")]:
        assert COUNTED.search(picture.caption), picture.caption
        assert picture.caption.endswith(".")
        assert all(panel.alt for panel in picture.panels)


def test_every_panel_is_drawn_once_in_colours_that_the_page_sets() -> None:
    defined: dict[str, str] = {}
    for picture in pictures("tested"):
        for panel in picture.panels:
            drawn = svg(panel)
            root = ElementTree.fromstring(drawn)  # noqa: S314
            assert root.get("aria-label") == panel.alt
            assert len(drawn) < 150_000
            assert not re.search(r"(?:fill|stroke): #", drawn)
            assert set(re.findall(r"var\((.*?)\)", drawn)) <= {variable(colour) for colour in DARK}
            # an element of one panel may stand for that of another: they are equal
            for element in root.iter():
                if (key := element.get("id")) is not None:
                    text = ElementTree.tostring(element, "unicode").strip()
                    assert defined.setdefault(key, text) == text


def test_drawing_again_gives_the_same() -> None:
    panel = pictures("compared")[0].panels[0]
    assert svg(panel) == svg(panel)


def test_an_optimizer_has_one_colour_and_of_many_those_of_one_colour_have_other_dashes() -> None:
    names = tuple(f"o{number}" for number in range(len(COLOURS) + 2))
    palette = Palette(names, Unit("accuracy", percent=True))
    looks = [palette.look(name) for name in names]
    assert looks[0]["color"] == looks[len(COLOURS)]["color"] == COLOURS[0]
    assert looks[0]["linestyle"] != looks[len(COLOURS)]["linestyle"]
    assert len({(look["color"], look["linestyle"]) for look in looks}) == len(names)
    for colour in COLOURS:
        assert colour.lower() in DARK


def place(optimizer: str, value: Summary, out: bool = False) -> Place:
    return Place(optimizer, value, loss=None, diverged=0, best=0.5, to_leader=None, out=out)


def test_intervals_are_drawn_where_they_lie() -> None:
    rows = [place("sgd", Summary(0.95, 0.01, 0.94, 0.96, (0.94, 0.96))), place("adam", summarise([0.93]))]
    (axes,) = axes_of(report_figures.values(rows, PALETTE).panels[0])
    drawn = [list(line.get_xdata()) for line in axes.lines]
    assert drawn == [[94, 96], [94, 96], [95], [93], [93]]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["sgd", "adam"]
    assert colours_of(axes) == set(COLOURS[:2])
    assert axes.get_xlabel() == "validation accuracy, %"


def test_who_is_far_off_is_written_at_the_edge() -> None:
    rows = [
        place("sgd", Summary(0.95, 0.001, 0.949, 0.951, (0.95, 0.95))),
        place("adam", Summary(0.30, 0.01, 0.29, 0.31, (0.3, 0.3)), out=True),
    ]
    (axes,) = axes_of(report_figures.values(rows, PALETTE).panels[0])
    assert axes.get_xlim()[0] > 90
    assert [text.get_text() for text in axes.texts] == ["◂ 30.00 %"]


def test_differences_have_a_band_of_what_does_not_matter() -> None:
    rows = [
        Difference("adam", "sgd", 5, -0.002, 0.001, -0.003, -0.001, "worse"),
        Difference("adamw", "sgd", 1, -0.001, inf, -inf, inf, "undecided"),
    ]
    picture = report_figures.differences(rows, "sgd", 0.001, PALETTE)
    (axes,) = axes_of(picture.panels[0])
    low, high = axes.get_xlim()
    assert low < -0.3
    assert high > 0.1
    assert "1 to 5 common rounds" in picture.caption
    assert axes.get_xlabel() == "better than sgd by, pp"


def test_a_metric_that_is_no_accuracy_has_its_own_numbers() -> None:
    palette = Palette(NAMES, Unit("mse"))
    rows = [place("sgd", Summary(0.5, 0.1, 0.4, 0.6, (0.4, 0.6)))]
    (axes,) = axes_of(report_figures.values(rows, palette).panels[0])
    assert list(axes.lines[-1].get_xdata()) == [0.5]
    assert axes.get_xlabel() == "validation mse"


def test_curves_are_those_of_the_finalists_and_who_is_out_of_sight_is_named() -> None:
    found = comparison(trials(NAMES), NAMES)
    rows = report_data.bands(found.runs, NAMES)
    rows[3] = replace(rows[3], middle=tuple(0.5 for _ in rows[3].middle))
    (axes,) = axes_of(report_figures.curves(rows, NAMES[:3], [], PALETTE).panels[0])
    assert len(axes.lines) == 4
    assert axes.get_title(loc="right") == "▾ adagrad"
    (axes,) = axes_of(report_figures.curves(rows[:3], NAMES[:3], [], PALETTE).panels[0])
    assert axes.get_title(loc="right") == ""


def test_basins_have_a_panel_for_each_and_clip_what_is_far_off() -> None:
    for metric in (METRICS["accuracy"], METRICS["mse"]):
        sign = metric.sign
        rows = report_data.basins(trials(NAMES, metric=metric), NAMES, sign, 0.001)
        picture = report_figures.basins(rows, Palette(NAMES, metric.unit), sign)
        assert len(picture.panels) == 4
        for panel, row in zip(picture.panels, rows, strict=True):
            (axes,) = axes_of(panel)
            complete, pruned, lost = (points.get_offsets() for points in axes.collections[:3])
            assert len(complete) + len(pruned) + len(lost) == len(row.points)
            low, high = axes.get_ylim()
            assert all(low <= height <= high for points in (complete, pruned, lost) for _, height in points)
            worst = low if sign > 0 else high
            assert all(height == worst for _, height in lost)
            assert axes.get_title(loc="left") == row.optimizer


def test_the_heat_map_has_a_cell_for_each_setting_that_is_told() -> None:
    rows = influences(trials(NAMES), NAMES, 1)
    (axes,) = axes_of(report_figures.influences(rows).panels[0])
    assert len(axes.patches) == sum(len(row.shares) for row in rows) == 8
    assert [label.get_text() for label in axes.get_yticklabels()] == ["lr", "step.gamma"]


def test_confusion_counts_all_seeds_and_is_left_out_where_it_could_not_be_read() -> None:
    told = subject().tested
    assert told is not None
    picture = retrain_figures.confusion(told.runs)
    assert picture is not None
    assert picture.panels[0].alt == "8 taken for 1 6 times; 9 taken for 3 3 times"
    (axes,) = axes_of(picture.panels[0])
    assert [text.get_text() for text in axes.texts].count("105") == 10
    wide = tuple((0,) * 31 for _ in range(31))
    for matrix in ((), ((3,),), wide):
        seeds = [replace(seed, confusion_matrix=matrix) for seed in told.runs]
        assert retrain_figures.confusion(seeds) is None


def test_mistakes_show_what_they_are_and_are_not() -> None:
    picture = retrain_figures.mistakes(mistakes(5))
    axes = axes_of(picture.panels[0])
    assert [panel.get_title(loc="center") for panel in axes[:5]] == [f"{k}, not {k + 1}" for k in range(5)]
    assert len([panel for panel in axes if panel.images]) == 5


def test_names_are_no_formulas() -> None:
    palette = Palette(("sgd",), Unit("$x^2$ & <b>"))
    panel = report_figures.values([place("sgd", summarise([0.5]))], palette).panels[0]
    assert "validation $x^2$ &amp; &lt;b&gt;" in svg(panel)


def test_a_picture_is_written_whole(tmp_path: Path) -> None:
    for picture in pictures("compared"):
        save_png(picture, tmp_path / f"{picture.name}.png")
        assert (tmp_path / f"{picture.name}.png").read_bytes().startswith(b"\x89PNG\r\n")
    (tmp_path / "folder").write_text("in the way")
    with pytest.raises(OptituneError, match="as studies_dir"):
        save_png(pictures("compared")[0], tmp_path / "folder" / "values.png")
