"""What the command line says to bad input, and how fast it answers."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from optitune.cli.main import COMMANDS, run

WRONG = [
    ("search --task digts", "unknown task 'digts': did you mean 'digits'?"),
    ("search --task digits --optimizers adm", "unknown optimizer 'adm': did you mean 'adam' or 'radam'?"),
    ("search --task digits --optimizers adam,adam", "a name stands twice"),
    ("search --task digits --optimizers ,", "names nothing"),
    ("search --task digits --schedules stepp", "unknown schedule 'stepp': did you mean 'step'"),
    ("search --task digits --trials 0", "'0' is not a whole number of at least 1"),
    ("search --task digits --trials -3", "'-3' is not a whole number of at least 1"),
    ("search --task digits --trials many", "'many' is not a whole number of at least 1"),
    ("search --task digits --epochs 0", "'0' is not a whole number of at least 1"),
    ("search --task digits --epochs 10001", "epochs = 10001"),
    ("search --task digits --train-examples 5000", "has 1150 examples to train on"),
    ("search --task digits --timeout soon", "'soon' is not a time: write 90, 90s, 10m or 2h"),
    ("search --task digits --timeout 0s", "is not a time"),
    ("search --task digits --workers none", "nor auto"),
    ("search --task digits --device cuda:99", "device = 'cuda:99': torch finds no such device here"),
    ("search --task digits --precision fp16", "precision = 'fp16'"),
    ("search --task digits --sampler grid", "sampler = 'grid'"),
    ("search --task digits --pruner nothing", "pruner = 'nothing'"),
    ("search --task digits --budget-in hours", "budget_in = 'hours'"),
    ("search --task digits --set allocation=racing", "allocation = 'racing': is no setting any more"),
    ("search --task digits --study ../up", "'../up' cannot be a study's name"),
    ("search --task digits --storage nonsense", "storage: is not a database URL"),
    ("search --seeds 3", "No such option"),
    ("search --lr 0.1", "there is no option --lr: it is a setting of the study: --set lr=0.1"),
    ("search --learning-rate=[1e-4,0.1]", "it is a setting of the study: --set 'lr=[1e-4,0.1]'"),
    ("search --weight-decay", "it is a setting of the study: --set weight_decay=VALUE"),
    ("search --adam.beta1 0.8 --seed 1", "it is a setting of the study: --set adam.beta1=0.8"),
    ("search --step.gamma=0.5", "it is a setting of the study: --set step.gamma=0.5"),
    ("retrain --momentum 0.8", "there is no option --momentum: retrain trains what a search has found"),
    ("compare --lr 0.1", "to train other values, search with --set lr=0.1"),
    ("serch", "unknown command 'serch': did you mean 'search'?"),
    ("retrain best", "there is no study yet in studies"),
    ("retrain nothing", "'nothing' is neither best, nor a trial's number, nor a file"),
    ("retrain best --study other", "unknown study 'other'"),
    ("retrain best --seed 99999999999999", "is more than 2147483647"),
    ("retrain best --epochs automatic", "'automatic' is not a whole number of at least 1, and not auto"),
    ("retrain best --seeds 0", "'0' is not a whole number of at least 1"),
    ("export best --format xml", "'xml' is not one of"),
    ("show nothing", "unknown study 'nothing'"),
    ("dashboard --study nothing", "unknown study 'nothing'"),
    ("optimizers sdg", "unknown optimizer 'sdg': did you mean 'sgd'"),
]

COULD_NOT = [
    ("search --data-dir {here}/none", "train-images-idx3-ubyte"),
    ("search --task kmnist-cnn --data-dir {here}/none", "KMNIST"),
    ("search --task digits --studies-dir {here}/file", "is a file, not a folder"),
    ("retrain missing.toml", "there is no missing.toml"),
    ("search --task digits --storage sqlite:///{here}/foreign.db", "of another program"),
    ("search --task digits --storage sqlite:///{here}/file", "is damaged or not a database"),
    ("show --storage sqlite:///{here}/none.db", "there is no storage"),
    ("studies --storage postgresql://me@127.0.0.1:9/x", "cannot open the storage"),
]


QUICK = "search --task digits --epochs 1 --optimizers sgd --trials 2 --workers 1 --quiet".split()  # noqa: SIM905


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a plain file and a database of another program in it; no network."""
    import sqlite3

    (tmp_path / "file").write_text("a file")
    connection = sqlite3.connect(tmp_path / "foreign.db")
    connection.execute("CREATE TABLE songs (title TEXT)")
    connection.close()
    monkeypatch.chdir(tmp_path)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("OPTITUNE_DATA_DIR", "OPTITUNE_STUDIES_DIR", "OPTITUNE_STORAGE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.mark.parametrize(("words", "message"), WRONG)
def test_wrong_usage_is_one_line_and_exit_2(
    words: str, message: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(words.split())
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert message in err
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1
    assert not list(here.rglob("study.db"))


@pytest.mark.parametrize(("words", "message"), COULD_NOT)
def test_what_cannot_be_done_is_one_line_and_exit_1(
    words: str, message: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(words.format(here=here).split())
    out, err = capsys.readouterr()
    assert (code, out) == (1, "")
    assert message in err
    assert len(err.splitlines()) == 1
    assert not list(here.rglob("study.db"))


UNREACHABLE = "postgresql://me{password}@127.0.0.1:9/x{query}"


@pytest.mark.parametrize("json_flag", [[], ["--json"]])
@pytest.mark.parametrize(
    ("password", "query"),
    [(":secret", ""), (":secret/@", ""), ("", "?password=secret"), ("", "?connect_timeout=5&sslpassword=secret")],
)
def test_a_password_typed_is_warned_of_in_one_line(
    password: str, query: str, json_flag: list[str], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # an @ that is not quoted ends the password before its time
    code = 2 if "@" in password else 1
    assert run(["studies", "--storage", UNREACHABLE.format(password=password, query=query), *json_flag]) == code
    out, err = capsys.readouterr()
    warnings = [line for line in err.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 1
    assert all(way in warnings[0] for way in ("OPTITUNE_STORAGE", "PGPASSWORD", "~/.pgpass"))
    assert "secret" not in warnings[0]
    assert len((out + err).splitlines()) == 2


@pytest.mark.parametrize(
    "url",
    [UNREACHABLE.format(password="", query=""), "sqlite:////a:b@c/study.db", "sqlite:///none.db"],
)
def test_a_url_without_a_password_is_not_warned_of(url: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["studies", "--storage", url]) == 1
    assert "warning" not in capsys.readouterr().err


def test_a_password_from_the_environment_is_not_warned_of(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPTITUNE_STORAGE", UNREACHABLE.format(password=":secret", query=""))  # noqa: S106
    assert run(["studies"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: cannot open the storage")
    assert "secret" not in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(("words", "message"), [WRONG[0], WRONG[5], COULD_NOT[2]])
def test_with_json_an_error_is_one_object_on_stdout(
    words: str, message: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run([*words.format(here=here).split(), "--json"])
    out, err = capsys.readouterr()
    assert code in (1, 2)
    assert err == ""
    assert message in json.loads(out)["error"]


def test_a_fault_of_our_own_is_named_without_a_traceback(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError("x")

    monkeypatch.setattr("optitune.storage.listing.overview", fail)
    assert run(["studies"]) == 1
    err = capsys.readouterr().err
    assert "a fault of optitune's own: ZeroDivisionError: x" in err
    assert "OPTITUNE_DEBUG=1" in err
    assert "Traceback" not in err


def test_without_studies_the_list_says_how_to_make_one(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["studies"]) == 0
    assert "optitune search --task digits" in capsys.readouterr().out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([name, "--help"]) == 0
    assert "Usage: optitune" in capsys.readouterr().out


def test_the_program_alone_shows_its_help_with_the_exit_code_of_wrong_usage(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run([]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith("Usage: optitune [OPTIONS] COMMAND")
    assert "error" not in err


def test_the_lines_of_the_help_are_those_of_the_commands() -> None:
    from importlib import import_module

    for name, (module, line) in COMMANDS.items():
        command = getattr(import_module(module), name.replace("-", "_"))
        first = " ".join(command.help.split("\n\n")[0].split())
        assert first.startswith(line.rstrip("."))


def test_help_imports_neither_torch_nor_anything_slow() -> None:
    code = (
        "import sys; from optitune.cli.main import run; assert run(['--help']) == 0; "
        "slow = {'torch', 'optuna', 'numpy', 'pydantic', 'matplotlib', 'rich', 'sklearn'} & set(sys.modules); "
        "assert not slow, slow"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_a_full_disk_is_named_and_a_later_run_goes_on(tmp_path: Path) -> None:
    words = [*QUICK, "--studies-dir", str(tmp_path)]
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000)); "
    command = [sys.executable, "-c", limited + "from optitune.cli import main; main()", *words]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: ")
    assert len(ended.stderr.splitlines()) == 1
    assert "Traceback" not in ended.stderr
    assert run(words) == 0


def test_what_a_tasks_own_code_warns_of_is_a_line_on_stderr_and_what_libraries_do_is_not() -> None:
    program = """
import sys, warnings
import optitune.cli.main
from optitune.errors import Note
module = sys.modules["optitune.cli.main"]
module.run = lambda typed: (warnings.warn("soon gone", FutureWarning), warnings.warn("mind the step", Note)) and 0
module.main([])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "note: mind the step\n")
