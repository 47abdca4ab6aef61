"""Storages of every kind, put through one battery; and servers that go away under the workers."""

import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import optuna
import pytest
import storage_battery as battery

from optitune.storage import studies
from optitune.storage.urls import RetryPolicy, StorageUrl, open_storage
from scripts.postgres_server import Proxy, grpc_proxy

pytestmark = pytest.mark.slow

AWAY_S = 3.0
"""How long a server is away: longer than Optuna's own attempts at making a trial, mostly."""

NewUrl = Callable[[], str]

_number = count()


@pytest.fixture(params=["sqlite", "journal", "postgresql", "grpc"])
def new_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a storage of each kind that holds nothing."""
    if request.param in ("sqlite", "journal"):
        yield f"{request.param}:///{tmp_path / 'study'}"
        return
    server = request.getfixturevalue("postgresql")
    url = server.create(f"battery-{next(_number)}")
    if request.param == "postgresql":
        yield url
        return
    with grpc_proxy(url) as proxy:
        yield proxy.url


@pytest.mark.parametrize(("workers", "target"), [(1, 10), (2, 20), (8, 30)])
def test_exactly_so_many_trials_each_told_once(workers: int, target: int, new_url: str, tmp_path: Path) -> None:
    battery.new_study(new_url)
    with battery.Crew(new_url, tmp_path, workers, target) as crew:
        results = crew.results()
    battery.assert_nothing_lost(new_url, results, target)
    assert not [line for result in results for line in result.lines]


def test_a_study_is_made_once(new_url: str) -> None:
    battery.assert_made_once(new_url)


def assert_told_of_one_outage(results: list[battery.Work], secret: str) -> None:
    """Whoever noticed the outage told when it began and when it ended; somebody did.

    A worker that waited for its turn, which another one held, did not notice.
    """
    for result in results:
        assert [("does not answer" in line, "answers again after" in line) for line in result.lines] in (
            [],
            [(True, False), (False, True)],
        )
        assert secret not in "".join(result.lines)
    assert any(result.lines for result in results)


@pytest.mark.parametrize("at_once", [False, True], ids=["fast", "immediate"])
@pytest.mark.parametrize("through", ["directly", "grpc"])
def test_a_database_that_is_away_is_waited_for(postgresql: Any, tmp_path: Path, through: str, at_once: bool) -> None:
    url = postgresql.create(f"away-{next(_number)}")
    battery.new_study(url)
    proxy = Proxy(url)
    if through == "grpc":
        proxy.start()
        url = proxy.url
    try:
        with battery.Crew(url, tmp_path, workers=2, target=40, pause=0.03) as crew:
            crew.wait_for(10)
            postgresql.stop(at_once)
            try:
                time.sleep(AWAY_S)
            finally:
                postgresql.start()
            results = crew.results()
        battery.assert_nothing_lost(url, results, 40)
    finally:
        proxy.kill()
    assert_told_of_one_outage(results, postgresql.password)


def test_a_proxy_that_was_killed_is_waited_for(postgresql: Any, tmp_path: Path) -> None:
    database = postgresql.create(f"killed-{next(_number)}")
    battery.new_study(database)
    with grpc_proxy(database) as proxy:
        with battery.Crew(proxy.url, tmp_path, workers=2, target=40, pause=0.03) as crew:
            crew.wait_for(10)
            proxy.kill()
            time.sleep(AWAY_S)
            proxy.start()
            results = crew.results()
        battery.assert_nothing_lost(proxy.url, results, 40)
    assert_told_of_one_outage(results, postgresql.password)


def test_a_trial_goes_on_behind_a_proxy_that_was_started_anew(postgresql: Any) -> None:
    database = postgresql.create(f"anew-{next(_number)}")
    battery.new_study(database)
    with grpc_proxy(database) as proxy:
        storage: Any = open_storage(StorageUrl.parse(proxy.url), create=False, patience=RetryPolicy(lambda line: None))
        opened = studies.find(storage, battery.NAME)
        opened.sampler = optuna.samplers.RandomSampler()
        trial = opened.ask()
        proxy.kill()
        proxy.start()
        # such a proxy has heard of no trial yet
        assert trial.suggest_float("x", 0, 1) == trial.params["x"]
        opened.tell(trial, 0.5)
        assert opened.get_trials()[0].params == trial.params
        storage.inner.close()
