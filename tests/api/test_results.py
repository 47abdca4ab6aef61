"""What notebooks get: tables, figures and words, of a study that was searched, compared and trained in full."""

import json
import os
import re
import subprocess
import sys
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas
import pytest
from matplotlib.figure import Figure
from report_world import comparison, home, mistakes, stored, subject, trials

import optitune
from optitune import Metric
from optitune.api.results import ComparisonResult, SearchResult
from optitune.api.retrain_result import RetrainResult, retrain_result
from optitune.errors import OptituneError, UsageError
from optitune.report.dataframes import runs as run_table
from optitune.retraining import results as retrain_results
from optitune.retraining.mistakes import MISTAKES, save_mistakes
from optitune.retraining.records import EpochRecord
from optitune.retraining.run import RetrainOutcome
from optitune.storage import studies
from optitune.study.settings import StudySettings
from optitune.tasks.metrics import METRICS, StoredMetric, kept

NAMES = ("sgd", "adam", "adamw", "adagrad")
PNG = b"\x89PNG\r\n"
NOWHERE = studies.location(Path("nowhere"), "digits", None)


class Page(HTMLParser):
    """The tags of a page, each closed, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A studies folder with `digits`, searched and compared, to be looked at and not changed."""
    folder = tmp_path_factory.mktemp("made")
    stored(home(folder), subject(stage="compared"))
    return folder / "studies"


@pytest.fixture
def found(made: Path) -> SearchResult:
    return optitune.load("digits", studies_dir=made)


def searched(**other: Any) -> SearchResult:
    """A search in memory."""
    fields: dict[str, Any] = {
        "name": "digits",
        "settings": StudySettings(task="digits", optimizers=NAMES),
        "metric": METRICS["accuracy"],
        "records": trials(NAMES),
        "run": None,
        "_home": NOWHERE,
    }
    return SearchResult(**{**fields, **other})


def compared(**other: Any) -> ComparisonResult:
    told = comparison(trials(NAMES), NAMES, **other)
    return ComparisonResult("digits", told, METRICS["accuracy"], NAMES, Path("nowhere"), None, NOWHERE)


def trained(folder: Path = Path("nowhere")) -> RetrainResult:
    told = subject().tested
    assert told is not None
    epochs = tuple(EpochRecord(epoch, 0.1, 1 / epoch, 1 - 1 / epoch) for epoch in (1, 2, 3))
    runs = tuple(replace(run, epochs=epochs) for run in told.runs)
    return RetrainResult("best", replace(told, runs=runs), folder, None)


def test_dir_and_tab_completion_list_what_is_public_and_import_nothing() -> None:
    program = """
import sys
import optitune
from jedi import Interpreter
public = sorted(optitune.__all__)
assert dir(optitune) == public
assert sorted(each.name for each in Interpreter("optitune.", [{"optitune": optitune}]).complete()) == public
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)


# a study that is there


def test_a_study_that_is_there_is_opened_with_all_that_was_made_of_it(found: SearchResult, made: Path) -> None:
    about = subject(stage="compared")
    assert (found.name, found.metric, found.trained, found.run) == ("digits", METRICS["accuracy"], 0, None)
    assert [row.number for row in found.records] == [row.number for row in about.trials]
    assert found.best is not None
    assert found.best.value == max(row.value or 0 for row in about.trials)
    assert found.folder == made / "digits"
    assert found.settings.optimizers == NAMES
    assert found.comparison is not None
    assert about.comparison is not None
    assert found.comparison.sentence == about.comparison.sentence
    assert found.comparison.run is None
    assert found.tested is None
    assert found.best_file is None


def test_a_comparison_made_later_is_seen(tmp_path: Path) -> None:
    about = subject(stage="compared")
    stored(home(tmp_path), replace(about, comparison=None))
    found = optitune.load("digits", studies_dir=tmp_path / "studies")
    assert found.comparison is None
    stored(studies.location(tmp_path / "other", "digits", None), about)
    (tmp_path / "other" / "digits" / "compare").rename(found.folder / "compare")
    assert found.comparison is not None


def test_the_only_study_needs_no_name_and_one_that_is_not_there_is_named(made: Path) -> None:
    assert optitune.load(studies_dir=made).name == "digits"
    with pytest.raises(UsageError, match="unknown study 'digit': did you mean 'digits'"):
        optitune.load("digit", studies_dir=made)


def test_the_torch_code_of_a_trial_runs_without_optitune(found: SearchResult) -> None:
    assert found.best is not None
    assert f"(trial {found.best.number}, one run)" in found.code()
    other = next(row for row in found.records if row.outcome == "complete" and row.optimizer == "adam")
    code = found.code(other.number)
    assert f"(trial {other.number}, one run)" in code
    assert "torch.optim.Adam(" in code
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102
    assert callable(names["train"])
    with pytest.raises(UsageError, match="no trial 999"):
        found.code(999)
    lost = next(row.number for row in found.records if row.outcome == "pruned")
    with pytest.raises(OptituneError, match="is pruned, not complete"):
        found.code(lost)


def test_a_comparison_has_the_code_of_the_optimizer_to_take_and_of_the_others(found: SearchResult) -> None:
    verdict = found.comparison
    assert verdict is not None
    assert f"(trial {verdict.trial}, one run)" in verdict.code()
    assert verdict.code() == found.code() == found.code(verdict.trial)
    assert "def train(model, loader, epochs=40):" in verdict.code(epochs=40)
    assert "torch.optim.Adam(" in verdict.code("adam")
    with pytest.raises(UsageError, match="unknown optimizer 'adm': did you mean 'adam'"):
        verdict.code("adm")


def test_what_was_done_is_not_advised_again(found: SearchResult, monkeypatch: pytest.MonkeyPatch) -> None:
    compare, retrain = "optitune.compare", "optitune.retrain"

    def words(result: SearchResult) -> str:
        return " ".join(result._words())

    assert compare in words(searched())
    assert retrain not in words(searched())
    verdict = found.comparison
    assert verdict is not None
    text = words(found)
    assert verdict.advice in text
    assert compare not in text
    assert retrain in text
    # the search goes on, and finds a better one
    best = found.best
    assert best is not None
    assert best.score is not None
    better = replace(best, number=999, score=best.score + 0.01)
    gone_on = replace(found, records=[*found.records, better])
    assert compare in words(gone_on)
    # trained in full: what the comparison says to take, or another one
    for trial, advised in ((verdict.trial, False), (verdict.trial + 1, True)):
        full = replace(trained().tested, trial=trial)
        monkeypatch.setattr(retrain_results, "load", lambda folder, full=full: full)
        assert found.tested is not None
        assert (retrain in words(found)) == advised
        assert (found.tested.headline in words(found)) != advised


# tables


def test_tables_are_pandas_and_made_once(found: SearchResult) -> None:
    for table, rows in ((found.standings, 4), (found.trials, len(found.records))):
        assert isinstance(table, pandas.DataFrame)
        assert len(table) == rows
    assert found.trials is found.trials
    assert len(found.curves) == sum(len(row.curve) for row in found.records)
    verdict = found.comparison
    assert verdict is not None
    assert verdict.standings["optimizer"][0] == verdict.comparison.verdict.leader
    assert len(verdict.runs) == len(run_table(verdict.comparison))
    assert set(verdict.curves["optimizer"]) == set(NAMES)


def test_a_comparison_says_what_to_take() -> None:
    verdict = compared()
    assert (verdict.recommended, verdict.advice) == (
        verdict.comparison.recommendation.optimizer,
        verdict.comparison.advice,
    )
    assert verdict.trial == verdict.comparison.plan.finalist(verdict.recommended).trial


def test_full_trainings_have_their_tests_curves_and_confusion() -> None:
    full = trained()
    assert full.test_value.mean == pytest.approx(0.986)
    assert (full.metric, full.trained, full.other_data, full.plan.epochs) == ("accuracy", False, False, 15)
    assert (len(full.seeds), len(full.curves)) == (3, 9)
    assert full.confusion is not None
    assert full.confusion.loc[8, 1] == 6


def test_what_cannot_be_read_back_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    told = trained().tested
    result = (told.plan, METRICS["accuracy"].unit, told.test_value, told.test_loss, tmp_path / "gone", 1.0, True, False)
    run = RetrainOutcome("best", *result)
    with pytest.raises(OptituneError, match="gone holds no results any more: run the same again"):
        retrain_result(run)


# figures


@pytest.mark.parametrize(
    ("result", "names", "panels"),
    [
        (searched(), ("curves", "learning-rates", "best-so-far", "budget", "importance"), 1),
        (compared(), ("values", "differences", "curves"), 2),
        (trained(), ("training", "tested", "confusion"), 3),
    ],
    ids=["search", "comparison", "full training"],
)
def test_figures_are_drawn_by_name_and_a_notebook_can_show_them(result: Any, names: Any, panels: int) -> None:
    assert result.figures == names
    usual = result.figure()
    assert isinstance(usual, Figure)
    assert len(usual.axes) == panels
    for name in names:
        assert result.figure(name)._repr_png_().startswith(PNG)
    assert len(result.figure(*names[:2]).axes) == len(result.figure(names[0]).axes) + len(result.figure(names[1]).axes)
    with pytest.raises(UsageError, match=f"unknown figure 'xyz': there are: {', '.join(sorted(names))}"):
        result.figure("xyz")


def test_the_curves_of_a_search_are_those_of_its_trials() -> None:
    (axes,) = searched().figure("curves").axes
    trained = [row for row in trials(NAMES) if row.curve and row.outcome in ("complete", "pruned")]
    assert len(axes.lines) == len(trained)


def test_where_the_usual_figure_is_missing_another_is_drawn() -> None:
    lost = [replace(row, outcome="diverged", value=None, score=None) for row in trials(NAMES)]
    result = searched(records=lost)
    assert result.figures[0] == "budget"
    assert result.figure().axes


def test_without_trials_there_is_nothing_to_draw() -> None:
    result = searched(records=[])
    assert result.figures == ()
    with pytest.raises(OptituneError, match="nothing to draw yet"):
        result.figure()
    assert result.best is None
    assert len(result.standings) == 4


def test_mistakes_that_were_kept_are_drawn(tmp_path: Path) -> None:
    save_mistakes(mistakes(), tmp_path / MISTAKES)
    full = trained(tmp_path)
    assert full.figures[-1] == "mistakes"
    assert full.figure("mistakes").axes


def test_a_figure_needs_no_pyplot() -> None:
    code = (
        "import sys; from tests.api.test_results import searched; searched().figure()._repr_png_(); "
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    here = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=here, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_pandas_is_loaded_when_a_table_is_asked_for() -> None:
    code = "import sys, optitune.report.interchange, optitune.report.dataframes; assert 'pandas' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# words


@pytest.mark.parametrize(
    ("result", "told"),
    [
        (searched(), "sgd leads the search with a validation accuracy of 98.64 %, but that is one lucky run."),
        (compared(), compared().sentence),
        (trained(), "test accuracy 98.60 % (95 % interval 98.35 to 98.85 %, Student's t over 3 seeds)."),
    ],
    ids=["search", "comparison", "full training"],
)
def test_a_result_says_what_was_found_in_a_line_and_on_a_page(result: Any, told: str) -> None:
    assert told in repr(result)
    assert repr(result).startswith(f"<{type(result).__name__}: ")
    assert "\n" not in repr(result)
    page = Page(result._repr_html_())
    assert told in page.text
    assert page.tags.count("tr") == len(result._table().rows) + 1
    # a notebook's own colours hold, in the light and in the dark
    assert "color" not in result._repr_html_()
    assert "style" not in result._repr_html_()


def test_a_search_without_a_complete_trial_says_so() -> None:
    page = Page(searched(records=[])._repr_html_())
    assert "No trial of digits is complete yet, so nothing is known." in page.text


def test_a_best_value_at_the_end_of_its_range_is_told() -> None:
    records = trials(NAMES)
    best = searched().best
    assert best is not None
    assert best.configuration is not None
    high = next(each for owner, name, each in searched().settings.space().owned() if (owner, name) == ("sgd", "lr"))
    edge = best.configuration.with_lr(high.high)  # type: ignore[union-attr]
    result = searched(
        records=[replace(row, configuration=edge) if row.number == best.number else row for row in records]
    )
    assert [each.key for each in result.edges()] == ["sgd.lr"]
    assert result.edges()[0].line in Page(result._repr_html_()).text


def test_names_of_a_users_own_are_text_and_never_tags() -> None:
    evil = "<script>alert('x')</script>&"
    result = searched(name=evil, metric=Metric(evil, "maximize", None))
    page = Page(result._repr_html_())
    assert "script" not in page.tags
    assert evil in page.text


def test_a_metric_that_bears_the_name_of_accuracy_is_not_in_percent_in_a_notebook() -> None:
    own = Metric("accuracy", "maximize", None, lowest=0.0, highest=100.0)
    told = trained()
    shown = [
        searched(metric=own),
        ComparisonResult(
            "digits", comparison(trials(NAMES), NAMES, metric=own), own, NAMES, Path("nowhere"), None, NOWHERE
        ),
        replace(told, tested=replace(told.tested, stored_metric=StoredMetric(**kept(own)))),
    ]
    for each in shown:
        words = re.sub(r"9[50] %", "", each._repr_html_()) + each.headline
        assert "0.98" in words or "0.99" in words
        assert not re.search(r"9\d\.\d\d %|\dpp", words)


def test_full_trainings_keep_by_what_they_were_tested(tmp_path: Path) -> None:
    told = trained().tested
    own = Metric("accuracy", "maximize", None, lowest=0.0, highest=100.0)
    document: dict[str, Any] = {
        "trial": told.trial,
        "plan": told.plan.model_dump(mode="json"),
        "metric": "accuracy",
        "test_value": asdict(told.test_value),
        "test_loss": asdict(told.test_loss),
        "runs": [asdict(seed) for seed in told.runs],
        "versions": told.versions,
    }
    for more, judge in (({"judge": kept(own)}, own), ({}, METRICS["accuracy"])):
        (tmp_path / "metrics.json").write_text(json.dumps(document | more), encoding="utf-8")
        found = retrain_results.load(tmp_path)
        assert found is not None
        assert found.judge == judge
