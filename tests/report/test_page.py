"""The report's page: what it says at every stage, and that it needs nothing else."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from report_world import configuration, costly, home, mistakes, stored, subject

from optitune.common import checkpoint
from optitune.report import page as report
from optitune.report import rendering
from optitune.report.page import Subject, write_page
from optitune.retraining import results as retrain_results
from optitune.retraining.mistakes import MISTAKES, load_mistakes, save_mistakes, worst_mistakes
from optitune.tasks.data import Examples
from optitune.tasks.metrics import METRICS, Metric

pytestmark = pytest.mark.wide

VOID = {"meta", "img", "source", "br"}


class Page(HTMLParser):
    """The text of a page, its addresses, and whether its elements nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "srcset", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Subject], Page]:
    """Subject -> its page, figures not drawn."""
    monkeypatch.setattr(rendering, "svg", lambda panel: "<svg></svg>")

    def build(about: Subject) -> Page:
        return Page(write_page(about, tmp_path).read_text(encoding="utf-8"))

    return build


@pytest.mark.parametrize("stage", ["empty", "searched", "compared", "tested"])
def test_the_page_needs_nothing_else(tmp_path: Path, stage: str) -> None:
    told = Page(write_page(subject(stage=stage), tmp_path).read_text(encoding="utf-8"))
    assert "script" not in told.tags
    assert "link" not in told.tags
    assert all(address.startswith("#") for address in told.addresses)
    assert ("svg" in told.tags) == (stage != "empty")


def test_without_a_complete_trial_it_says_so(page: Any) -> None:
    text = page(subject(stage="empty")).text
    assert "No trial of digits is complete yet" in text
    assert "optitune search --study digits" in text


def test_without_a_comparison_it_says_that_the_best_is_one_lucky_run_and_how_to_compare(page: Any) -> None:
    text = page(subject(stage="searched")).text
    assert "leads the search" in text
    assert "one lucky run" in text
    assert "optitune compare digits" in text
    assert "no estimate" in text
    assert "P(best)" not in text


def test_with_a_comparison_its_sentence_stands_on_top(page: Any) -> None:
    about = subject(stage="compared")
    text = page(about).text
    found = about.comparison
    assert found is not None
    assert text.index(found.sentence) < text.index(found.advice) < text.index("its bounds, 95 %")
    assert "On the test set" not in text


def test_the_next_command_follows_from_the_verdict(page: Any) -> None:
    undecided = subject(stage="compared", rounds=3)
    assert report.verdict(undecided)[2].startswith("optitune compare digits --max-runs ")
    tied = subject(stage="compared", epsilon=0.2)
    assert report.verdict(tied)[2] == "optitune retrain best --study digits"
    assert report.verdict(subject(epsilon=0.2))[2] == ""
    assert "optitune retrain best --study digits" in page(tied).text


def test_where_another_is_as_good_and_cheaper_the_choices_have_a_table(page: Any) -> None:
    seconds = {"sgd": 10.0, "adam": 8.0, "adamw": 5.0, "adagrad": 20.0}
    about = costly(subject(stage="compared"), seconds, "time")
    found = about.comparison
    assert found is not None
    assert found.recommendation.optimizer == "adamw"
    text = page(about).text
    assert text.index("Take adamw. It needs 50 % of the time of sgd, the leader;") < text.index("cheapest as good")
    assert "may lose, at most, pp" in text
    assert "does not matter (as asked for)" in text
    assert "cheapest as good" not in page(subject(stage="compared")).text


def test_one_that_is_not_tuned_to_the_end_has_the_command_that_searches_on(page: Any) -> None:
    about = replace(subject(stage="compared", epsilon=0.2), search_on=("search", "--study", "digits", "--trials", "84"))
    assert report.verdict(about)[1:] == (
        "More runs would change nothing that matters. To search on:",
        "optitune search --study digits --trials 84",
    )


def test_a_comparison_of_an_older_version_says_by_which_rule_it_was_judged(page: Any) -> None:
    about = subject(stage="compared", rounds=3)
    found = about.comparison
    assert found is not None
    old = replace(found.verdict, status="undecided", rule="any number of rounds, Cauchy prior", wanted=(), next_runs=0)
    about = replace(about, comparison=replace(found, verdict=old))
    text = page(about).text
    assert "Judged by the rule of version 0.1." in text
    assert report.verdict(about)[1].endswith("That is by the rule of version 0.1; to compare anew:")
    assert "Judged by the rule" not in page(subject(stage="compared")).text


def test_parts_stand_in_order(page: Any) -> None:
    about = subject()
    assert [section.key for section in report.sections(about)] == [
        "standings",
        "curves",
        "learning-rates",
        "best-so-far",
        "budget",
        "importance",
        "test",
        "repeat",
    ]
    text = page(about).text
    assert "98.60 % (95 % interval" in text
    for told in (about.data["checksum"], "1000003, 1000004, 1000005", "2000003", 'task = "digits"', "torch"):
        assert told in text


def test_one_that_diverged_is_out_and_not_without_a_value(page: Any) -> None:
    text = page(subject(stage="compared", diverging="adam")).text
    assert "diverged in 1" in text


def test_a_first_round_has_no_bounds_yet(page: Any) -> None:
    text = page(subject(stage="compared", rounds=1)).text
    assert "undecided" in text
    assert "inf" not in re.sub(r"[a-z]*inf[a-z]+", "", text)


def test_a_metric_of_ones_own_that_is_minimised(page: Any) -> None:
    text = page(subject(metric=Metric("<regret>", "minimize", None))).text
    assert "validation <regret>, less is better" in text
    assert "%" not in text.split("P(best)", 1)[1].split("verdict", 1)[1].split("Each optimizer")[0]


@pytest.mark.parametrize("stage", ["searched", "compared", "tested"])
def test_a_metric_that_bears_the_name_of_accuracy_is_not_in_percent(page: Any, stage: str) -> None:
    told = subject(stage=stage, metric=Metric("accuracy", "maximize", None, lowest=0.0, highest=100.0))
    text = re.sub(r"9[50] %", "", page(told).text)
    assert not re.search(r"\d %|pp\b", text.split("To repeat it")[0].replace("0 %", ""))
    assert re.search(r"\b0\.98", text)


def test_a_loss_to_be_maximised_is_the_better_the_more_it_is(page: Any) -> None:
    more = page(subject(stage="compared", metric=Metric("loss", "maximize", None))).text
    assert "less is better" not in more
    other = page(subject(stage="compared", metric=Metric("gauge", "maximize", None))).text
    assert more == other.replace("gauge", "loss")


def test_names_are_escaped(page: Any) -> None:
    about = subject(stage="searched")
    evil = "<script>alert(1)</script>"
    told = page(replace(about, name=evil, settings={**about.settings, "task": evil}))
    assert "script" not in told.tags
    assert evil in told.text


def test_few_trials_are_said_to_be_too_few(page: Any) -> None:
    about = subject(stage="searched")
    text = page(replace(about, trials=about.trials[:8])).text
    assert "Fewer than 10 finished trials are too few for that: sgd (2), adam (2), adamw (2) and adagrad (2)." in text


def test_a_search_that_went_on_is_to_be_compared_again(page: Any) -> None:
    about = subject(stage="compared")
    leader = about.trials[0]
    better = replace(leader, number=99, value=0.999, score=0.999)
    text = page(replace(about, trials=(*about.trials, better))).text
    assert "Since then the search has found better trials of sgd" in text


def test_a_full_training_of_something_else_is_not_held_against_the_comparison(page: Any) -> None:
    about = subject()
    assert about.tested is not None
    text = page(replace(about, tested=replace(about.tested, trial=10_000))).text
    assert "That is not what the comparison looked at" in text
    assert "comparison's interval" in page(about).text


def test_a_full_training_of_an_optimizer_that_did_not_compete_is_shown(tmp_path: Path) -> None:
    about = subject(("sgd", "adam"))
    assert about.tested is not None
    other = replace(
        about.tested, plan=about.tested.plan.model_copy(update={"configuration": configuration("radam", 0.1)})
    )
    path = write_page(replace(about, tested=other), tmp_path)
    assert "radam, trained in full" in Page(path.read_text(encoding="utf-8")).text


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_search_that_has_just_begun_is_reported(tmp_path: Path, count: int) -> None:
    about = subject(("sgd", "adam"), stage="searched")
    begun = replace(about, trials=about.trials[:count])
    assert write_page(begun, tmp_path).stat().st_size > 10_000
    assert report.write_pictures(begun, tmp_path)


def test_a_search_whose_trials_all_diverged_is_reported(tmp_path: Path) -> None:
    about = subject(("sgd", "adam"), stage="searched")
    lost = tuple(replace(row, outcome="diverged", value=None, score=None, curve=()) for row in about.trials)
    text = Page(write_page(replace(about, trials=lost), tmp_path).read_text(encoding="utf-8")).text
    assert "No trial of digits is complete yet" in text


def test_a_study_on_disk_is_reported_at_every_stage(run_command: Any, tmp_path: Path) -> None:
    place = home(tmp_path)
    stored(place, subject(stage="compared"))
    where = ["--studies-dir", str(tmp_path / "studies")]
    code, out, err = run_command("report", "digits", *where, "--json")
    assert (code, err) == (0, "")
    path = Path(json.loads(out)["report"])
    assert path == place.folder / "report" / "report.html"
    text = Page(path.read_text(encoding="utf-8")).text
    assert f"optitune search --study digits --trials 56 --studies-dir {tmp_path / 'studies'}" in text
    assert [each.name for each in path.parent.iterdir()] == ["report.html"]
    found = report.gather(place, opened(place)).comparison
    assert found is not None
    assert found.sentence in text
    code, out, _ = run_command("report", *where, "--format", "png", "--out", str(tmp_path / "out"), "--json")
    assert code == 0
    figures = [Path(name) for name in json.loads(out)["figures"]]
    assert {each.name for each in figures} >= {"values.png", "learning-rates.png", "importance.png"}
    assert all(each.parent == tmp_path / "out" and each.stat().st_size > 1000 for each in figures)


def opened(place: Any) -> Any:
    from optitune.storage.studies import find
    from optitune.storage.urls import open_storage

    return find(open_storage(place.url, create=False), place.name)


def test_a_study_without_a_comparison_gets_a_note_and_is_opened_where_asked(
    run_command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []
    monkeypatch.setattr("webbrowser.open", shown.append)
    place = home(tmp_path)
    stored(place, subject(("sgd", "adam"), stage="searched"))
    where = ["--studies-dir", str(tmp_path / "studies")]
    code, out, err = run_command("report", *where, "--open")
    assert code == 0
    assert out.strip() == str(place.folder / "report" / "report.html")
    assert "optitune compare" in err
    assert shown == [(place.folder / "report" / "report.html").resolve().as_uri()]
    assert run_command("report", *where, "--quiet")[2] == ""


def test_an_empty_study_has_a_page_and_no_figures(run_command: Any, tmp_path: Path) -> None:
    stored(home(tmp_path), subject(stage="empty"))
    where = ["--studies-dir", str(tmp_path / "studies")]
    assert run_command("report", *where, "-q")[0] == 0
    code, out, err = run_command("report", *where, "--format", "png")
    assert (code, out) == (0, "")
    assert "nothing to draw" in err


def test_a_study_that_is_not_there_is_named(run_command: Any, tmp_path: Path) -> None:
    stored(home(tmp_path), subject(stage="empty"))
    code, _, err = run_command("report", "digit", "--studies-dir", str(tmp_path / "studies"))
    assert code == 2
    assert "digits" in err


class Fixed(torch.nn.Module):
    """Answers what it was given."""

    def __init__(self, outputs: torch.Tensor) -> None:
        super().__init__()
        self.outputs = outputs
        self.calls = 0

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        # the first pixel says which example it is
        return self.outputs[((inputs[:, 0, 0, 0] + 1) * 127.5).round().long()]


def test_the_worst_mistakes_come_first() -> None:
    images = torch.zeros(4, 1, 2, 2, dtype=torch.uint8)
    images[:, 0, 0, 0] = torch.arange(4)
    test = Examples(images, torch.tensor([0, 1, 1, 0]), max_pixel=255.0)
    outputs = torch.tensor([[0.0, 1.0], [0.0, 1.0], [5.0, 1.0], [0.0, 9.0]])
    found = worst_mistakes(Fixed(outputs), test, outputs.argmax(1), "fp32")
    assert found is not None
    assert (found.truths, found.answers) == ((0, 1, 0), (1, 0, 1))
    assert torch.equal(found.images, images[[3, 2, 0]])


def test_no_mistakes_are_kept_of_what_is_no_image_or_all_right() -> None:
    images, labels = torch.zeros(2, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 0])
    model = Fixed(torch.tensor([[1.0, 0.0]]))
    assert worst_mistakes(model, Examples(images, labels, max_pixel=255.0), labels, "fp32") is None
    assert worst_mistakes(model, Examples(torch.zeros(2, 3), labels), 1 - labels, "fp32") is None
    assert worst_mistakes(model, Examples(images, labels, max_pixel=255.0), None, "fp32") is None


def test_mistakes_are_read_back_or_left_out(tmp_path: Path) -> None:
    kept, path = mistakes(3), tmp_path / MISTAKES
    assert load_mistakes(path) is None
    save_mistakes(kept, path)
    found = load_mistakes(path)
    assert found is not None
    assert torch.equal(found.images, kept.images)
    assert (found.max_pixel, found.truths, found.answers) == (kept.max_pixel, kept.truths, kept.answers)
    before = vars(kept) | {"white": kept.max_pixel}
    del before["max_pixel"]
    checkpoint.save(before, path)
    older = load_mistakes(path)
    assert older is not None
    assert older.max_pixel == kept.max_pixel
    path.write_bytes(b"damaged")
    assert load_mistakes(path) is None


def test_metrics_that_cannot_be_read_are_none(tmp_path: Path) -> None:
    assert retrain_results.load(tmp_path) is None
    for text in ("{", "[]", "{}"):
        (tmp_path / "metrics.json").write_text(text)
        assert retrain_results.load(tmp_path) is None


def test_the_metrics_of_the_registry_are_the_registrys(tmp_path: Path) -> None:
    place = home(tmp_path)
    stored(place, subject(("sgd", "adam"), stage="compared"))
    assert report.gather(place, opened(place)).metric is METRICS["accuracy"]
