"""`optitune search` and what shows its result, through the command line, on digits."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import optitune
from optitune.cli.main import run
from optitune.sampling.repeats import FIRST
from optitune.searching import best_file
from optitune.storage import studies, trials
from optitune.storage.urls import open_storage, sqlite_url
from optitune.study import best_config
from optitune.study.records import best as best_record

QUICK = ("--task", "digits", "--epochs", "1", "--optimizers", "sgd,adam")


@pytest.fixture
def command(run_command: Any, tmp_path: Path) -> Any:
    """Run a command in a studies folder of its own: exit code, stdout, stderr."""

    def call(*words: str) -> tuple[int, str, str]:
        places = [] if words[0] in ("optimizers", "tasks") else ["--studies-dir", str(tmp_path / "studies")]
        result: tuple[int, str, str] = run_command(*words, *places)
        return result

    return call


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished study of eight trials, to be looked at and not changed."""
    folder = tmp_path_factory.mktemp("made") / "studies"
    assert run(["search", *QUICK, "--trials", "8", "--studies-dir", str(folder), "--quiet"]) == 0
    return folder


def rows(folder: Path, name: str = "digits") -> list[Any]:
    return trials.records(studies.find(open_storage(sqlite_url(folder / name / "study.db"), create=False), name))


def test_json_is_one_object_with_everything_in_its_place(command: Any, tmp_path: Path) -> None:
    code, out, err = command("search", *QUICK, "--trials", "3", "--json")
    document = json.loads(out)
    assert (code, err) == (0, "")
    keys = {
        "study", "task", "metric", "storage", "from", "trials", "repeats", "failing", "best", "best_file", "allocation",
        "at_the_edge", "tuning", "stop", "remarks", "seconds",
    }  # fmt: skip
    assert set(document) == keys
    assert document["metric"] == "accuracy"
    assert document["study"] == document["task"] == "digits"
    assert document["trials"]["finished"] == 3 == sum(document["trials"][k] for k in ("complete", "pruned", "diverged"))
    assert set(document["best"]) == {"number", "value", "runs", "optimizer", "settings", "schedule", "training"}
    assert document["storage"] == f"sqlite:///{tmp_path}/studies/digits/study.db"
    config = best_config.load(Path(document["best_file"]), "")
    assert (config.trial, config.value) == (document["best"]["number"], document["best"]["value"])
    assert dict(config.configuration.optimizer.settings) == document["best"]["settings"]
    assert config.data_checksum.startswith("sha256:")


def test_json_tells_how_the_epochs_were_shared_out(command: Any, tmp_path: Path) -> None:
    _, out, _ = command("search", *QUICK, "--trials", "3", "--json", "--budget-in", "epochs")
    shared = json.loads(out)["allocation"]
    assert (shared["budget_in"], shared["competing"], shared["costs"]) == ("epochs", ["sgd", "adam"], {})
    assert shared["epochs"] == {"sgd": 2.0, "adam": 1.0}
    _, out, _ = command("show", "digits", "--json")
    assert [trial["epochs"] for trial in json.loads(out)["trials"]] == [1.0, 1.0, 1.0]


def test_costs_are_measured_once_and_used_by_all_that_go_on_with_the_study(
    command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ("search", *QUICK, "--study", "paid", "--workers", "1", "--json")
    shared = json.loads(command(*asked, "--trials", "2")[1])["allocation"]
    assert (shared["budget_in"], set(shared["costs"])) == ("seconds", {"sgd", "adam"})
    home = studies.location(tmp_path / "studies", "paid", None)
    home.open().set_user_attr(studies.COSTS, {"sgd": 1.0, "adam": 10.0})
    shared = json.loads(command(*asked, "--trials", "6")[1])["allocation"]
    assert (shared["epochs"], shared["costs"]) == ({"sgd": 5.0, "adam": 1.0}, {"sgd": 1.0, "adam": 10.0})
    code, out, _ = command("search", *QUICK, "--study", "paid", "--trials", "7", "--dry-run")
    assert code == 0
    assert "shares: counted in time; an epoch counts 1, of adam 10\n" in out


def test_a_study_from_before_there_were_costs_goes_on_in_epochs(command: Any, tmp_path: Path) -> None:
    old = ("search", *QUICK, "--study", "old", "--workers", "1", "--json")
    assert command(*old, "--trials", "2", "--budget-in", "epochs")[0] == 0
    opened = studies.location(tmp_path / "studies", "old", None).open()
    made = {key: value for key, value in opened.user_attrs[studies.SETTINGS].items() if key != "budget_in"}
    opened.set_user_attr(studies.SETTINGS, {**made, "allocation": "racing"})
    code, out, _ = command(*old, "--trials", "3")
    assert code == 0
    assert (json.loads(out)["allocation"]["budget_in"], json.loads(out)["allocation"]["costs"]) == ("epochs", {})
    code, out, _ = command(*old, "--trials", "4", "--budget-in", "seconds")
    assert code == 2
    assert "budget_in" in out
    assert command("show", "old")[0] == 0


def test_remarks_are_shown_at_the_end(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from optitune.terminal.search import print_result

    places = {"studies_dir": tmp_path, "progress": False}
    found = optitune.search("digits", trials=2, epochs=1, optimizers=["sgd", "adam"], **places).run  # type: ignore[arg-type]
    assert found is not None
    # a quiet search has shown its remarks nowhere else
    print_result(replace(found, remarks=("the targets are far away",)), tmp_path, None, None)
    assert "  note: the targets are far away\n" in capsys.readouterr().out
    assert replace(found, remarks=("so",)).document()["remarks"] == ["so"]


def test_a_complete_study_trains_nothing_and_a_higher_target_completes_it(command: Any, tmp_path: Path) -> None:
    assert command("search", *QUICK, "--trials", "2")[0] == 0
    before = rows(tmp_path / "studies")
    code, out, _ = command("search", *QUICK, "--trials", "2")
    assert code == 0
    assert "has 2 finished trials already; nothing was trained" in out
    assert rows(tmp_path / "studies") == before
    code, _, err = command("search", *QUICK, "--trials", "4")
    assert code == 0
    assert "going on after 2 finished trials" in err
    after = rows(tmp_path / "studies")
    assert after[:2] == before
    assert len(after) == 4


def test_the_same_seed_and_one_worker_give_the_same_study_also_when_stopped_between(
    command: Any, tmp_path: Path
) -> None:
    base = ("search", *QUICK, "--seed", "5", "--workers", "1", "--quiet", "--budget-in", "epochs")
    assert command(*base, "--study", "whole", "--trials", "7")[0] == 0
    assert command(*base, "--study", "parts", "--trials", "5")[0] == 0
    assert command(*base, "--study", "parts", "--trials", "7")[0] == 0
    told = [[(r.configuration, r.value, r.curve) for r in rows(tmp_path / "studies", n)] for n in ("whole", "parts")]
    assert told[0] == told[1]
    assert len({str(configuration) for configuration, _, _ in told[0]}) == 7


def test_lines_tell_each_trial_and_the_end_names_the_next_commands(command: Any, tmp_path: Path) -> None:
    code, out, err = command("search", *QUICK, "--trials", "2")
    assert code == 0
    assert sum(line.startswith("[") for line in err.splitlines()) == 2
    assert "[2/2] trial" in err
    assert f"optitune retrain best --study digits --studies-dir {tmp_path}/studies" in out
    assert f"optitune dashboard --study digits --studies-dir {tmp_path}/studies" in out


def test_a_best_that_is_not_the_searchs_own_is_set_aside_never_overwritten(command: Any, tmp_path: Path) -> None:
    assert command("search", *QUICK, "--trials", "2")[0] == 0
    path = tmp_path / "studies" / "digits" / "best.toml"
    own = path.read_text()
    assert "is kept as" not in command("search", *QUICK, "--trials", "2")[1]
    for number, edited in enumerate((own.replace("batch_size = 64", "batch_size = 65"), "not ours"), start=1):
        path.write_text(edited)
        assert f"best-before-{number}.toml" in command("search", *QUICK, "--trials", "2")[1]
        assert path.read_text() == own
        assert path.with_name(f"best-before-{number}.toml").read_text() == edited


def test_two_searches_that_find_an_edited_best_at_once_both_go_on(
    command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command("search", *QUICK, "--trials", "1")[0] == 0
    path = tmp_path / "studies" / "digits" / "best.toml"
    own = path.read_text()
    path.write_text("edited")
    move_aside = best_file.move_aside

    def another_was_quicker(given: Path) -> Path:
        move_aside(given)
        return move_aside(given)

    monkeypatch.setattr(best_file, "move_aside", another_was_quicker)
    assert command("search", *QUICK, "--trials", "1")[0] == 0
    assert path.read_text() == own
    assert path.with_name("best-before-1.toml").read_text() == "edited"


def test_a_study_whose_file_was_left_empty_by_a_kill_is_made(command: Any, tmp_path: Path) -> None:
    path = tmp_path / "studies" / "digits" / "study.db"
    path.parent.mkdir(parents=True)
    path.touch()
    code, _, err = command("show", "digits")
    assert code == 1
    assert "holds no studies yet" in err
    assert command("search", *QUICK, "--trials", "1")[0] == 0


def test_another_programs_study_is_left_as_it_is(command: Any, tmp_path: Path) -> None:
    import optuna

    url = f"sqlite:///{tmp_path}/theirs.db"
    theirs = optuna.create_study(study_name="digits", storage=url, direction="minimize")
    code, _, err = command("search", *QUICK, "--trials", "1", "--storage", url)
    assert code == 2
    assert "was not made by optitune" in err
    assert theirs.user_attrs == {}


def test_an_edited_best_is_exported_with_a_note(command: Any, tmp_path: Path) -> None:
    assert command("search", *QUICK, "--trials", "1", "--optimizers", "sgd")[0] == 0
    assert command("export", "best", "--study", "digits")[2] == ""
    path = tmp_path / "studies" / "digits" / "best.toml"
    path.write_text(path.read_text().replace("lr = 0.05", "lr = 0.04"))
    _, out, err = command("export", "best", "--study", "digits")
    assert "lr=0.04" in out
    assert "was edited" in err


def test_other_settings_are_refused_with_both_ways_out(command: Any) -> None:
    assert command("search", *QUICK, "--trials", "1")[0] == 0
    code, out, err = command("search", "--task", "digits", "--epochs", "2", "--trials", "1")
    assert (code, out) == (2, "")
    assert "made with other settings:\n  epochs: 1 -> 2\n" in err
    assert "add --study digits-2" in err


def test_a_configuration_that_is_drawn_again_counts_and_is_shown_but_is_not_trained(
    command: Any, tmp_path: Path
) -> None:
    base = ("search", *QUICK, "--workers", "1")
    assert command(*base, "--trials", "2")[0] == 0
    folder = tmp_path / "studies"
    before = rows(folder)
    winner = best_record(before)
    assert winner is not None
    opened = studies.find(open_storage(sqlite_url(folder / "digits" / "study.db"), create=False), "digits")
    opened.enqueue_trial(opened.trials[winner.number].params)
    code, out, err = command(*base, "--trials", "3")
    assert code == 0
    again = rows(folder)[2]
    assert (again.outcome, again.value, again.curve, again.seconds) == ("complete", winner.value, winner.curve, 0.0)
    assert again.configuration == winner.configuration
    assert f"[3/3] trial 2: {winner.optimizer}" in err
    assert f"same configuration as trial {winner.number}" in err
    assert f"best: trial {winner.number}, " in out
    assert best_config.load(folder / "digits" / "best.toml", "").trial == winner.number
    shown = command("show", "digits")[1]
    assert "not trained again:\n  trial 2, " in shown
    assert "ended early" not in shown


@pytest.fixture(scope="module")
def repeated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study one trial of which repeats the best from another seed, to be looked at and not changed."""
    folder = tmp_path_factory.mktemp("repeated") / "studies"
    trials = str(FIRST + 1)
    assert run(["search", *QUICK, "--trials", trials, "--workers", "1", "--studies-dir", str(folder), "--quiet"]) == 0
    return folder


def test_a_study_repeats_its_best_and_all_name_the_same_winner(
    repeated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, place = repeated, ("--studies-dir", str(repeated))
    found = rows(folder)
    again = found[FIRST]
    assert (again.run, again.outcome, again.same_as) == (1, "complete", None)
    first = found[again.repeats]
    assert again.configuration == first.configuration
    assert first.value == max(row.value for row in found[:FIRST] if row.value is not None)
    winner = best_record(found)
    assert winner is not None
    base = ("search", *QUICK, "--trials", str(FIRST + 1), *place)
    capsys.readouterr()
    assert run([*base, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["stop"] is None, "so few trials say nothing of further ones"
    assert document["repeats"] == [{"number": FIRST, "of": first.number, "seed": 1}]
    told = document["best"]
    assert (told["number"], told["value"], told["runs"]) == (winner.number, winner.value, winner.runs)
    config = best_config.load(folder / "digits" / "best.toml", "")
    assert (config.trial, config.value, config.runs) == (winner.number, winner.value, winner.runs)
    over = "one run" if winner.runs == 1 else "mean of 2 runs"
    value = f"validation accuracy {config.unit.value(config.value)} ({over}"
    assert f"trial {winner.number}, {value}, 287 examples).\n" in (folder / "digits" / "best.toml").read_text()
    for words in ([*base], ["show", "digits", *place]):
        assert run(words) == 0
        out = capsys.readouterr().out
        assert f"best: trial {winner.number}, {value})\n" in out
        assert "\n1 of them repeats an earlier trial's settings from another seed\n" in out
    assert run(["show", "digits", "--trial", str(FIRST), *place]) == 0
    assert f"\n  run 2 of the settings of trial {first.number}, from another seed: " in capsys.readouterr().out
    assert run(["show", "digits", "--trial", str(FIRST), "--json", *place]) == 0
    shown = json.loads(capsys.readouterr().out)["trial"]
    assert (shown["run"], shown["repeats"]) == (1, first.number)
    study = optitune.load("digits", studies_dir=folder)
    assert study.best == winner
    assert (study.standings["trial"][0], study.standings["runs"][0]) == (winner.number, winner.runs)
    assert study.trials["repeats"].dropna().tolist() == [first.number]
    assert not list((folder / "digits").glob("best-*")), "what a search wrote is not set aside"


def test_a_wider_search_takes_repeats_as_repeats(repeated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = ("--studies-dir", str(repeated), "--workers", "1", "--quiet")
    words = ["search", "--study", "wide", "--from", "digits", "--optimizers", "sgd,adam,rmsprop", "--trials", "1"]
    assert run([*words, *place]) == 0
    old, new = rows(repeated), rows(repeated, "wide")
    assert [(row.run, row.repeats) for row in new[: len(old)]] == [(row.run, row.repeats) for row in old]
    leader, taken = best_record(old), best_record(new[: len(old)])
    assert leader is not None
    assert taken is not None
    assert (leader.number, leader.value, leader.runs) == (taken.number, taken.value, taken.runs)


def test_what_is_not_said_again_is_as_the_study_was_made(command: Any, tmp_path: Path) -> None:
    assert command("search", *QUICK, "--trials", "1", "--study", "mine")[0] == 0
    assert command("search", "--study", "mine", "--trials", "2")[0] == 0
    assert len(rows(tmp_path / "studies", "mine")) == 2


def test_a_studys_file_says_what_the_flags_do_not(command: Any, tmp_path: Path) -> None:
    folder = tmp_path / "studies"
    folder.mkdir()
    (folder / "mine.toml").write_text('task = "digits"\nepochs = 1\noptimizers = ["adam"]\n')
    assert command("search", "--study", "mine", "--trials", "1")[0] == 0
    assert [row.optimizer for row in rows(folder, "mine")] == ["adam"]
    (folder / "mine.toml").write_text('task = "digits"\nepoch = 1\n')
    code, _, err = command("search", "--study", "mine", "--trials", "1")
    assert code == 2
    assert "mine.toml: epoch = 1: unknown " in err


def test_no_trial_is_begun_after_the_timeout(command: Any, tmp_path: Path) -> None:
    code, out, _ = command("search", *QUICK, "--trials", "500", "--timeout", "4s", "--workers", "1")
    assert code == 0
    assert len(rows(tmp_path / "studies")) < 500
    assert all(row.outcome in ("complete", "pruned", "diverged") for row in rows(tmp_path / "studies"))
    assert "best" in out


def test_two_searches_at_once_share_the_work(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "optitune", "search", *QUICK, "--trials", "10", "--workers", "1", "--json"]
    both = [
        subprocess.Popen(
            [*words, "--studies-dir", str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    for process in both:
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        assert json.loads(out)["trials"]["finished"] == 10
    assert [row.number for row in rows(tmp_path)] == list(range(10))
    assert {row.outcome for row in rows(tmp_path)} <= {"complete", "pruned", "diverged"}


def test_show_tells_settings_standings_and_the_best(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["show", "digits", "--studies-dir", str(made)]) == 0
    out = capsys.readouterr().out
    assert "epochs = 1" in out
    assert "1150 examples to train on, 287 to judge on" in out
    assert "best: trial" in out
    assert run(["show", "--studies-dir", str(made), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert len(document["trials"]) == 8
    assert document["settings"]["optimizers"] == ["sgd", "adam"]
    assert document["trials"][0]["curve"]


def test_studies_lists_what_there_is_and_names_what_cannot_be_read(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (made / "broken").mkdir()
    (made / "broken" / "study.db").write_bytes(b"x" * 5000)
    assert run(["studies", "--studies-dir", str(made)]) == 0
    out, err = capsys.readouterr()
    assert "digits" in out
    assert "broken/study.db is damaged" in err
    assert run(["studies", "--studies-dir", str(made), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in document["studies"]] == ["digits"]
    assert document["studies"][0]["trials"]["finished"] == 8
    assert len(document["unreadable"]) == 1


def test_export_prints_python_that_runs(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", "--study", "digits", "--studies-dir", str(made)]) == 0
    import torch

    names: dict[str, Any] = {}
    exec(capsys.readouterr().out, names)  # noqa: S102
    noise = torch.Generator().manual_seed(0)
    batches = [(torch.randn(8, 3, generator=noise), torch.arange(8) % 2)] * 3
    model = torch.nn.Linear(3, 2)
    before = model.weight.clone()
    losses = names["train"](model, batches, epochs=4)
    assert len(losses) == 4
    assert losses[-1] < losses[0]
    assert not torch.equal(model.weight, before)


def test_export_prints_toml_and_json_of_any_complete_trial(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    complete = next(row for row in rows(made) if row.outcome == "complete")
    assert (
        run(["export", str(complete.number), "--format", "toml", "--study", "digits", "--studies-dir", str(made)]) == 0
    )
    path = tmp_path / "mine.toml"
    path.write_text(capsys.readouterr().out)
    assert best_config.load(path, "").trial == complete.number
    assert run(["export", str(path), "--format", "json", "--studies-dir", str(made)]) == 0
    assert json.loads(capsys.readouterr().out)["trial"] == complete.number


def test_optimizers_and_tasks_are_listed(command: Any) -> None:
    assert "adadelta *" in command("optimizers")[1]
    assert "torch.optim.SGD" in command("optimizers", "sgd")[1]
    assert "784-300-200-10" in " ".join(command("tasks")[1].split())
    assert len(json.loads(command("optimizers", "--json")[1])["optimizers"]) >= 11
    assert "digits" in [row["name"] for row in json.loads(command("tasks", "--json")[1])["tasks"]]


def test_a_wider_search_begins_with_the_trials_of_another(command: Any, tmp_path: Path) -> None:
    command("search", *QUICK, "--study", "old", "--trials", "4", "--workers", "1", "-q")
    wider = ("search", "--study", "wide", "--from", "old", "--optimizers", "sgd,adam,rmsprop", "--workers", "1")
    code, _, err = command("search", "--from", "old")
    assert (code, err) == (2, "error: --from old begins a new study: name it with --study, such as --study old-2\n")
    code, _, err = command(*wider, "--epochs", "3")
    assert code == 2
    assert "\n  epochs: 1 -> 3\n" in err
    assert not (tmp_path / "studies" / "wide").exists()
    code, out, err = command(*wider, "--trials", "2")
    assert code == 0
    assert "study 'wide' begins with all 4 finished trials of study 'old'\n" in err
    assert "\n6 trials finished: " in out
    assert "\nof them, taken: all 4 finished trials of study 'old'\n" in out
    old, new = rows(tmp_path / "studies", "old"), rows(tmp_path / "studies", "wide")
    assert [row.configuration for row in new[:4]] == [row.configuration for row in old]
    assert new[4].optimizer == "rmsprop"
    # the same command again finds nothing to do, and says it from the study
    document = json.loads(command(*wider, "--trials", "2", "--json")[1])
    assert document["trials"]["finished"] == 6
    assert document["from"] == {
        "study": "old", "storage": "", "trials": [0, 1, 2, 3], "finished": 4, "left_out": {}
    }  # fmt: skip
    assert "\n  taken from trial 1 of study 'old', which trained it\n" in command("show", "wide", "--trial", "1")[1]
    trial = json.loads(command("show", "wide", "--trial", "5", "--json")[1])["trial"]
    assert trial["from"] is None
    assert command("report", "wide")[0] == 0
    page = (tmp_path / "studies" / "wide" / "report" / "report.html").read_text()
    assert f"optitune search --study wide --from old --trials 2 --studies-dir {tmp_path}" in page
    found = optitune.load("wide", studies_dir=tmp_path / "studies")
    assert list(found.trials["from_study"][:4]) == ["old"] * 4
    assert found.trials["from_trial"].isna().sum() == 2
