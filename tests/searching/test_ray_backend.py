"""Workers on a Ray cluster, as far as no Ray is needed: addresses, devices, numbers, and a node's own part."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from optitune.api.stages import search
from optitune.cli.search import search as command
from optitune.dashboard import trial_notes
from optitune.errors import OptituneError, UsageError
from optitune.searching.events import TrialFinished, TrialLeft, TrialStarted
from optitune.searching.ray_backend import actor as ray_worker
from optitune.searching.ray_backend.actor import ActorJob, Line, run_job
from optitune.searching.ray_backend.cluster import Cluster, _answers, checked_address, connected
from optitune.searching.ray_backend.pool import RayPool, _cause, _for_all
from optitune.searching.requests import SearchRequest
from optitune.searching.worker import Job
from optitune.storage import studies
from optitune.storage import trials as storage_trials
from optitune.storage.urls import StorageUrl, open_storage
from optitune.study.settings import StudySettings
from optitune.terminal.screen import Silent
from optitune.workers.events import Done, Event


def request(folder: Path, url: str, trials: int, workers: int | None) -> SearchRequest:
    return SearchRequest(
        home=studies.location(folder, "digits", url),
        settings={"task": "digits", "epochs": 1},
        trials=trials,
        data_dir=folder / "data",
        workers=workers,
        device="cpu",
    )


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("ray", "ray"),
        ("ray://head:10001", "ray://head:10001"),
        ("ray://head", "ray://head:10001"),
        ("ray://[::1]:7", "ray://[::1]:7"),
    ],
)
def test_an_address_is_ray_or_a_url_of_ray(typed: str, meant: str) -> None:
    assert checked_address(typed) == meant


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "local",
        "auto",
        "slurm",
        "ray:",
        "ray://",
        "ray://:1",
        "ray://a:b",
        "ray://a:99999",
        "ray://a/b",
        "ray://x@a",
    ],
)
def test_any_other_address_is_refused_with_both_that_may_be(typed: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"write ray, .* or ray://HOST:PORT"):
        checked_address(typed)
    done = CliRunner().invoke(command, ["--cluster", typed, "--studies-dir", str(tmp_path)])
    assert isinstance(done.exception, UsageError)
    assert not list(tmp_path.iterdir())


def test_without_an_address_there_is_no_cluster() -> None:
    with connected(None, "sqlite:///x.db", 1) as cluster:
        assert cluster is None


def test_without_ray_the_message_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(OptituneError, match=r"pip install 'optitune\[ray\]'"), connected("ray", "sqlite:///x.db", 1):
        pass


def test_a_cluster_without_workers_makes_no_sense() -> None:
    with pytest.raises(UsageError, match="workers = 0"), connected("ray", "sqlite:///x.db", 0):
        pass


@pytest.mark.parametrize("form", ["{host}:{port}", "ray://{host}:{port}"])
def test_an_address_where_nobody_listens_is_found_out_at_once(form: str) -> None:
    with pytest.raises(OSError, match="refused"):
        _answers(form.format(host="127.0.0.1", port=1))


@pytest.mark.parametrize(("gpus", "expected"), [(0, "cpu"), (2, "cuda")])
def test_auto_takes_the_gpus_of_the_cluster(gpus: int, expected: str) -> None:
    assert Cluster("ray", 8, gpus, elsewhere=True).device("auto") == torch.device(expected)


def test_a_cluster_may_have_the_gpus_that_this_machine_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Cluster("ray", 8, 0, elsewhere=True).device("cuda") == torch.device("cuda")
    with pytest.raises(UsageError, match="Ray chooses"):
        Cluster("ray", 8, 2, elsewhere=True).device("cuda:1")
    with pytest.raises(UsageError, match="no such device"):
        Cluster("ray", 8, 2, elsewhere=True).device("abacus")


@pytest.mark.parametrize(
    ("wanted", "cpus", "gpus", "device", "missing", "expected"),
    [
        (None, 40, 0, "cpu", 100, 40),
        (None, 40, 0, "cpu", 7, 7),
        (None, 40, 2, "cpu", 100, 40),
        (None, 40, 2, "cuda", 100, 8),
        (None, 6, 2, "cuda", 100, 6),
        (None, 6, 0, "cuda", 100, 6),
        (50, 40, 2, "cuda", 100, 50),
        (3, 1, 0, "cpu", 0, 1),
    ],
)
def test_as_many_workers_as_the_cluster_has_cores_or_four_for_each_gpu(
    wanted: int | None, cpus: int, gpus: int, device: str, missing: int, expected: int
) -> None:
    assert Cluster("ray", cpus, gpus, elsewhere=True).workers(wanted, torch.device(device), missing) == expected


def test_a_url_takes_along_what_it_means_here_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PGPASSWORD", raising=False)
    assert _for_all(StorageUrl.parse("journal:///study.log")).path == tmp_path / "study.log"

    def password(url: str) -> str | None:
        target = _for_all(StorageUrl.parse(url)).target
        assert target is not None
        return target.password

    assert password("postgresql://me@host/db") is None
    monkeypatch.setenv("PGPASSWORD", "a/b")
    assert password("postgresql://me@host/db") == "a/b"
    assert password("postgresql://me:other@host/db") == "other"
    assert password("postgresql://me@host/db?password=x") is None
    assert password("sqlite:///study.db") is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "The actor died.\nclass_name: Actor\nWorker exit type: SYSTEM_ERROR Worker exit detail: Gone.",
            "SYSTEM_ERROR",
        ),
        ("Worker exit type: NODE_OUT_OF_MEMORY Worker exit detail: Task was killed.", "want of memory"),
        ("Traceback:\n  File x\nModuleNotFoundError: No module named 'optitune'\n", "No module named 'optitune'"),
        ("", "RuntimeError"),
    ],
)
def test_a_death_is_told_in_a_line(text: str, expected: str) -> None:
    cause = _cause(RuntimeError(text))
    assert expected in cause
    assert "\n" not in cause


def test_what_an_actor_says_waits_until_it_is_fetched() -> None:
    line = Line(3)
    assert line.fetched(0.01) == []
    said = [TrialLeft(3, 7), Done(3, stopped=False)]
    for event in said:
        line.send(event)
    assert line.fetched(60) == said
    assert not line.stopping()
    line.stop()
    assert line.stopping()


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """This machine as a node that has none of the search's files; its cache folder."""
    monkeypatch.setattr(ray_worker, "configure_worker_process", lambda: None)
    monkeypatch.setattr(ray_worker, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.delenv("OPTITUNE_DATA_DIR", raising=False)
    return tmp_path / "cache"


def actor_job(folder: Path, url: str) -> ActorJob:
    opened = studies.find(open_storage(StorageUrl.parse(url), create=False), "digits")
    settings = StudySettings.model_validate(studies.stored_settings(opened))
    home = studies.location(Path("/nowhere"), "digits", url)
    job = Job(home, settings, "digits", folder, "cpu", 2, trial_notes.attach, Path("/no/data"))
    return ActorJob(job, "another machine", Path("/nowhere"), None)


def test_a_node_without_the_searchs_files_trains_from_its_own(elsewhere: Path, tmp_path: Path) -> None:
    url = f"journal:///{tmp_path}/study.log"
    search(request(tmp_path / "studies", url, 2, 0), Silent())
    line = Line(0)
    run_job(line, actor_job(tmp_path, url))
    opened = studies.find(open_storage(StorageUrl.parse(url), create=False), "digits")
    assert storage_trials.finished(opened) == 2
    assert sum(isinstance(event, TrialFinished) for event in line.fetched(60)) == 2
    (folder,) = (elsewhere / "clusters").glob("*/digits-*")
    assert not list((folder / "workers").iterdir()), "neither lock nor data are left"


def test_a_node_with_other_data_says_which_node_it_is(
    elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"journal:///{tmp_path}/study.log"
    search(request(tmp_path / "studies", url, 2, 0), Silent())
    made = studies.find(open_storage(StorageUrl.parse(url), create=False), "digits")
    made.set_user_attr(studies.DATA, {**made.user_attrs[studies.DATA], "checksum": "another"})
    monkeypatch.setattr(ray_worker.socket, "gethostname", lambda: "node7")
    with pytest.raises(OptituneError, match="on node7: task 'digits' is another one"):
        run_job(Line(0), actor_job(tmp_path, url))


def test_a_node_cannot_use_a_file_of_another_machine(elsewhere: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    search(request(tmp_path / "studies", url, 2, 0), Silent())
    with pytest.raises(UsageError, match="is a file of another machine: name a storage"):
        run_job(Line(0), actor_job(tmp_path, url))


class QuickRay:
    """As much of Ray as a pool asks of it, with what actors have said at hand."""

    class exceptions:
        RayError = RuntimeError

    def __init__(self) -> None:
        self.said: dict[Any, list[Event]] = {}
        self.killed: list[Any] = []

    def wait(self, asked: list[Any], num_returns: int, timeout: float) -> tuple[list[Any], list[Any]]:
        return [each for each in asked if each in self.said][:num_returns], []

    def get(self, question: Any) -> list[Event]:
        return self.said.pop(question)

    def kill(self, actor: Any) -> None:
        self.killed.append(actor)


class QuickActor:
    """Each question that it is asked is another one."""

    @property
    def events(self) -> Any:
        return SimpleNamespace(remote=object)


@pytest.mark.parametrize("moves", [True, False], ids=["at its next trial", "still at it"])
def test_an_actor_is_killed_for_a_trial_only_if_it_is_still_at_it(monkeypatch: pytest.MonkeyPatch, moves: bool) -> None:
    ray, actor, at = QuickRay(), QuickActor(), [1]
    monkeypatch.setattr("optitune.searching.ray_backend.pool.quiet_ray", lambda: ray)

    def handle(event: Event) -> None:
        assert isinstance(event, TrialStarted)
        at.append(event.number)

    pool = RayPool(Cluster("ray", 1, 0, elsewhere=True), [], handle, lambda: None, lambda *_: True, lambda _: True)
    pool._actors[0] = actor
    pool._ask(0)
    if moves:
        # said before the decision, and not fetched yet
        ray.said[next(iter(pool._questions))] = [TrialStarted(0, 2, "sgd", 0.1)]
    pool.kill_if(0, lambda: at == [1])
    pool._listen()
    assert ray.killed == ([] if moves else [actor])
    assert at == ([1, 2] if moves else [1])
