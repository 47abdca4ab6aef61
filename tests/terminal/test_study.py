"""Studies and trials as the terminal shows them."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from report_world import home, stored, subject

from optitune.report.page import Subject
from optitune.retraining import results as retrain_results
from optitune.space import optimizers
from optitune.space.configuration import Configuration
from optitune.storage import studies as study
from optitune.storage.urls import open_storage
from optitune.study.records import TrialRecord, best
from optitune.terminal.study import FEW, StudyView, as_code, print_study, print_trial

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def about() -> Subject:
    return subject()


@pytest.fixture(scope="module")
def shown(about: Subject) -> StudyView:
    return StudyView(
        name="digits",
        settings=about.settings,
        data=about.data,
        unit=about.unit,
        records=about.trials,
        target=len(about.trials),
        verdict={"sentence": "sgd is best for sure"},
        tested={"best": about.tested} if about.tested else {},
        place=(Path("studies"), None),
    )


@pytest.fixture
def studies(tmp_path: Path, about: Subject) -> Path:
    place = home(tmp_path)
    stored(place, about)
    return place.folder.parent


def printed(shown: StudyView, capsys: pytest.CaptureFixture[str]) -> str:
    print_study(shown)
    return capsys.readouterr().out


def test_a_study_is_shown_with_all_that_is_known(shown: StudyView, capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(shown, capsys)
    assert text.startswith("digits: digits, fp32\n")
    for part in (
        *("1150 examples to train on", "learning", "the comparison says: sgd is best for sure"),
        *("trained in full, best: test accuracy 98.60 %, 95 % interval", "optitune report digits"),
    ):
        assert part in text, part
    assert "optitune compare" not in text
    assert "optitune retrain" not in text
    assert any(mark in text for mark in "▁▂▃▄▅▆▇█")


def test_what_the_search_has_found_since_is_named_with_what_to_do(
    shown: StudyView, capsys: pytest.CaptureFixture[str]
) -> None:
    leader = best(shown.records)
    assert leader is not None
    full = replace(shown.tested["best"], trial=leader.number)
    text = printed(replace(shown, tested={"best": full}, recommended=leader.number), capsys)
    assert "since then" not in text
    assert "optitune retrain" not in text
    earlier = replace(full, trial=leader.number + 1)
    text = printed(replace(shown, tested={"best": earlier}, outdated=["adam"]), capsys)
    assert "\n  since then the search has found better trials of adam\n" in text
    assert f"\n  of trial {leader.number + 1}; best is trial {leader.number} by now\n" in text
    assert "\n  optitune compare digits\n  optitune retrain best --study digits\n" in text


def test_many_reasons_are_summed_up_and_few_are_named(
    shown: StudyView, capsys: pytest.CaptureFixture[str], configured: Callable[..., Configuration]
) -> None:
    pruned = [
        TrialRecord(k, "pruned", configured("adam"), None, f"pruned because {k}", (), 1.0, epochs=0.25 * (1 + k % 3))
        for k in range(FEW + 1)
    ]
    failed = TrialRecord(99, "failed", configured("sgd"), None, "RuntimeError: no such kernel", (), None)
    plural = printed(replace(shown, records=[*pruned, failed]), capsys)
    assert "9 pruned at epoch 0.25 to 0.75, half of them by 0.5: adam 9" in plural
    assert "pruned because" not in plural
    assert "trial 99, sgd lr 0.05: RuntimeError: no such kernel" in plural
    few = printed(replace(shown, records=pruned[:FEW]), capsys)
    assert few.count("pruned because") == FEW


def test_what_comes_next_follows_from_what_is_there(
    shown: StudyView, capsys: pytest.CaptureFixture[str], configured: Callable[..., Configuration]
) -> None:
    fresh = replace(shown, verdict=None, tested={})
    text = printed(fresh, capsys)
    assert "optitune compare digits" in text
    assert "optitune retrain best --study digits" in text
    begun = printed(replace(fresh, target=500), capsys)
    assert "56 of 500 finished" in begun
    assert "optitune search --trials 500 --study digits" in begun
    running = TrialRecord(70, "running", configured("sgd"), None, "", (), None)
    assert "optitune watch digits" in printed(replace(fresh, records=[*fresh.records, running]), capsys)
    assert "next:" not in printed(replace(fresh, records=[], target=None), capsys)


def test_of_the_settings_those_that_are_unusual_are_named(shown: StudyView, capsys: pytest.CaptureFixture[str]) -> None:
    assert "set: epochs = 5\n" in printed(shown, capsys)
    other = replace(shown, settings={**shown.settings, "batch_size": 17, "schedules": ["step", "cosine"]})
    assert 'set: schedules = ["step", "cosine"], epochs = 5, batch_size = 17' in printed(other, capsys)


def test_a_trial_is_shown_as_torch_takes_it(studies: Path, run_command: Run) -> None:
    code, out, err = run_command("show", "digits", "--trial", "0", "--studies-dir", str(studies))
    assert (code, err) == (0, "")
    assert out.startswith("trial 0 of digits: complete, validation accuracy 98.")
    assert "sgd: lr 0.05" in out
    assert "torch.optim.lr_scheduler.StepLR(optimizer, step_size=2" in out
    assert "optitune export 0 --study digits" in out


def test_a_trial_as_json_is_one_of_the_studys(studies: Path, run_command: Run) -> None:
    words = ["show", "digits", "--studies-dir", str(studies), "--json"]
    whole = json.loads(run_command(*words)[1])
    alone = json.loads(run_command(*words, "--trial", "3")[1])
    assert alone == {"study": "digits", "trial": whole["trials"][3]}
    assert whole["verdict"]["leader"]


def test_a_trial_that_is_not_there_is_refused(studies: Path, run_command: Run) -> None:
    code, out, err = run_command("show", "digits", "--trial", "999", "--studies-dir", str(studies))
    assert (code, out) == (2, "")
    assert "has no trial 999: it has trials 0 to 55" in err


def test_full_trainings_of_a_folder_are_told(studies: Path, run_command: Run, about: Subject) -> None:
    assert about.tested is not None
    folder = studies / "digits" / "retrain" / "best"
    folder.mkdir(parents=True)
    (folder.parent / "broken").mkdir()
    (folder.parent / "broken" / "metrics.json").write_text("{")
    partial = folder / "partial"
    partial.mkdir()
    tested = about.tested
    document = {
        "trial": tested.trial,
        "metric": tested.metric,
        "plan": tested.plan.model_dump(mode="json"),
        "test_value": vars(tested.test_value),
        "test_loss": vars(tested.test_loss),
        "versions": tested.versions,
        "runs": [{**vars(seed), "epochs": [vars(epoch) for epoch in seed.epochs]} for seed in tested.runs],
    }
    (folder / "metrics.json").write_text(json.dumps(document))
    assert retrain_results.load(folder) is not None
    _, out, _ = run_command("show", "digits", "--studies-dir", str(studies))
    assert "trained in full, best: test accuracy 98.60 %" in out
    assert "broken" not in out
    whole = json.loads(run_command("show", "digits", "--studies-dir", str(studies), "--json")[1])
    assert whole["tested"]["best"]["test_value"]["mean"] == pytest.approx(0.986)


@pytest.mark.parametrize("name", sorted(optimizers.OPTIMIZERS))
def test_every_optimizer_is_shown_by_a_call_that_python_reads(
    name: str, configured: Callable[..., Configuration]
) -> None:
    (line,) = [line for line in as_code(configured(name), 2) if line.startswith("optimizer = ")]
    called: dict[str, Any] = {}
    path, _, arguments = line.removeprefix("optimizer = ").partition("(")
    first = arguments[: arguments.index(")") + 1]
    assert first in ("model.parameters()", "groups(model)", "groups(model, loader)")
    arguments = arguments.removeprefix(f"{first}, ")
    eval(f"call({arguments}", {"call": lambda **given: called.update(given)})  # noqa: S307
    wanted = configured(name).optimizer.settings
    assert {key: list(value) if isinstance(value, tuple) else value for key, value in called.items()} == wanted
    assert optimizers.find(name).path.replace(":", ".").endswith(path)


def test_an_undrawn_trial_can_be_shown(shown: StudyView, capsys: pytest.CaptureFixture[str]) -> None:
    print_trial(shown, TrialRecord(3, "running", None, None, "", (), None))
    out = capsys.readouterr().out
    assert out.startswith("trial 3 of digits: running\n")
    assert "not drawn yet" in out


def test_studies_are_listed_with_how_far_they_are(studies: Path, run_command: Run) -> None:
    opened = study.find(open_storage(home(studies.parent).url, create=False), "digits")
    opened.set_user_attr(study.TRIALS, 80)
    _, out, _ = run_command("studies", "--studies-dir", str(studies))
    heading, line = out.splitlines()
    assert "56 of 80" in line
    assert "sgd" in line
    assert "changed" in heading
    (row,) = json.loads(run_command("studies", "--studies-dir", str(studies), "--json")[1])["studies"]
    assert (row["target"], row["optimizer"]) == (80, "sgd")


def test_names_from_elsewhere_are_not_read_as_markup(
    shown: StudyView, capsys: pytest.CaptureFixture[str], configured: Callable[..., Configuration]
) -> None:
    odd = TrialRecord(0, "failed", configured("sgd"), None, "KeyError: '[bold]'", (), None)
    assert "KeyError: '[bold]'" in printed(replace(shown, records=[odd]), capsys)
