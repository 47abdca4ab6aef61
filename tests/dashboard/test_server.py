"""Where the dashboard listens, and the command that does without optitune."""

import shlex
import socket
from pathlib import Path

import optuna
import pytest

from optitune.cli.main import run
from optitune.dashboard.server import Place, plain_command, serve
from optitune.errors import OptituneError, UsageError
from optitune.storage.studies import StudyLocation
from optitune.storage.urls import StorageUrl, open_storage, sqlite_url


class Enough(Exception):
    """Ends a server that is ready."""


@pytest.fixture
def url(tmp_path: Path) -> str:
    url = sqlite_url(tmp_path / "study.db")
    optuna.create_study(storage=open_storage(url, create=True), study_name="digits")
    return url


def place_of(url: str, host: str, port: int = 0) -> Place:
    """Where a dashboard would listen."""
    places = []

    def ready(place: Place) -> None:
        places.append(place)
        raise Enough

    with pytest.raises(Enough):
        serve(StudyLocation("digits", Path("studies/digits"), url), Path("studies"), host, port, ready)
    return places[0]


@pytest.mark.parametrize(
    ("host", "shown", "exposed"),
    [
        ("127.0.0.1", "127.0.0.1", False),
        ("127.0.0.2", "127.0.0.2", False),
        ("localhost", "localhost", False),
        ("::1", "[::1]", False),
        ("[::1]", "[::1]", False),
        ("0.0.0.0", socket.gethostname(), True),  # noqa: S104
        ("::", socket.gethostname(), True),
    ],
)
def test_any_host_but_loopback_is_exposed(url: str, host: str, shown: str, exposed: bool) -> None:
    place = place_of(url, host)
    assert place == Place(f"http://{shown}:{place.port}", place.port, exposed)
    assert place.port > 0


@pytest.mark.parametrize("host", ["", "nowhere.invalid", "1.2.3.4.5", "[::1", "-", "a" * 70])
def test_a_host_that_is_none_is_refused(url: str, host: str) -> None:
    with pytest.raises(UsageError, match=r"^host = .*: .*; give a name or an address of this machine") as refused:
        place_of(url, host)
    assert "\n" not in str(refused.value)


def test_another_machines_address_is_refused(url: str) -> None:
    with pytest.raises(OptituneError, match=r"^cannot listen on 192\.0\.2\.1:0: .*host takes an address of this"):
        place_of(url, "192.0.2.1")


@pytest.mark.parametrize(("host", "shown"), [("127.0.0.1", "127.0.0.1"), ("::1", r"\[::1\]")])
def test_a_taken_port_is_refused(url: str, host: str, shown: str) -> None:
    with socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OptituneError, match=rf"^cannot listen on {shown}:{port}: .*choose another --port"):
            place_of(url, host, port)


def test_a_port_beyond_all_is_refused(url: str) -> None:
    with pytest.raises(OptituneError, match="choose another --port"):
        place_of(url, "127.0.0.1", 70_000)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sqlite:////a place/study.db", ["sqlite:////a place/study.db"]),
        ("journal:////shared/disk/study.log", ["/shared/disk/study.log"]),
        ("postgresql://me@host/db", ["postgresql+psycopg://me@host/db"]),
        ("postgresql://me:secret@host:1/db?sslmode=require", ["postgresql+psycopg://me@host:1/db?sslmode=require"]),
        ("postgresql://me@host/db?password=secret", ["postgresql+psycopg://me@host/db"]),
        ("mysql+pymysql://me:secret@host/db", ["mysql+pymysql://me:***@host/db"]),
    ],
)
def test_the_command_without_optitune_opens_the_same_and_has_no_password(url: str, words: list[str]) -> None:
    home = StudyLocation("digits", Path("studies/digits"), StorageUrl.parse(url))
    expected = ["optuna-dashboard", *words, "--artifact-dir", "studies/digits/artifacts"]
    assert shlex.split(plain_command(home)) == expected


def test_a_study_may_be_named_by_itself_and_two_names_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = tmp_path / "wine" / "study.db"
    made.parent.mkdir()
    optuna.create_study(storage=open_storage(sqlite_url(made), create=True), study_name="wine")
    asked = []
    monkeypatch.setattr("optitune.dashboard.server.serve", lambda home, *rest: asked.append(home.name))
    there = ["--studies-dir", str(tmp_path)]
    for words in (["wine"], ["--study", "wine"], ["wine", "--study", "wine"]):
        assert run(["dashboard", *words, *there]) == 0
    assert asked == ["wine"] * 3
    assert run(["dashboard", "wine", "--study", "digits", *there]) == 2
    assert "two studies: name one" in capsys.readouterr().err
    assert run(["retrain", "wine", *there]) == 2
    assert "best --study wine" in capsys.readouterr().err


def test_grpc_has_no_command_without_optitune() -> None:
    assert plain_command(StudyLocation("digits", Path("studies/digits"), StorageUrl.parse("grpc://host:13000"))) == ""
