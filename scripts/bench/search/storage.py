"""How long workers wait for their storage: many processes at one study, and trials that cost nothing themselves.

    python -m scripts.bench.search.storage [--storage postgresql] [--workers 8] [--trials 2000] [--seconds 3600]
        [--sampler optitune]

Starts a server of its own on 127.0.0.1 where it takes one (PostgreSQL with fsync off, and Optuna's gRPC proxy before
it). Every trial is claimed, drawn, described and reported (`TrialQueue.claim`, `TrialQueue.report`) as in a search,
without a training. Prints trials a second, the latencies of asking and telling, and what asking consists of, of all
trials and of the last tenth, when the study is longest; then one line of JSON.

With nothing to train, all workers stand at the desk all the time: where trainings last seconds, they meet there rarely.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from optitune.sampling import parameters as suggestion
from optitune.searching.trial_queue import TrialQueue
from optitune.searching.worker import open_study
from optitune.storage import studies, study_checks, trials
from optitune.storage.studies import StudyLocation
from optitune.storage.urls import open_storage
from optitune.study.settings import StudySettings
from optitune.workers.leases import Owner
from scripts.bench.search.overhead import ACCURACY, FACTS, in_words, table
from scripts.postgres_server import grpc_proxy, postgres_server

KINDS = ("sqlite", "journal", "postgresql", "grpc")
PARTS = ("ask", "  its turn", "  reading trials", "  the sampler, once it asks", "draw and describe", "tell")

Row = tuple[float, dict[str, float]]
"""When a trial was told, and the seconds of its parts."""


def work(home: StudyLocation, settings: StudySettings, target: int, end: float, answers: Any) -> None:
    """Take, draw and tell trials until there are enough, or it is late."""
    opened = open_study(home, settings, ACCURACY)
    owner = Owner(home.folder / "workers")
    desk = TrialQueue(opened, target, owner, home.folder, home.url.is_sqlite)
    parts: dict[str, float] = defaultdict(float)
    rows: list[Row] = []

    def timed(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                parts[name] += time.perf_counter() - began

        return called

    turn = desk._turn

    @contextmanager
    def timed_turn() -> Iterator[None]:
        inner = turn()
        timed("  its turn", inner.__enter__)()
        try:
            yield
        finally:
            inner.__exit__(None, None, None)

    desk._turn = timed_turn  # type: ignore[method-assign]
    opened.get_trials = timed("  reading trials", opened.get_trials)  # type: ignore[method-assign]
    sampler = opened.sampler
    sampler.infer_relative_search_space = timed(  # type: ignore[method-assign]
        "  the sampler, once it asks", sampler.infer_relative_search_space
    )

    def described(trial: Any) -> None:
        configuration = suggestion.suggest(trial, settings, settings.space())
        trial.set_user_attr(trials.CONFIGURATION, configuration.model_dump(mode="json"))

    while time.time() < end and not desk.is_complete():
        parts.clear()
        taken = timed("ask", desk.claim)()
        if taken is None:
            time.sleep(0.05)
            continue
        # what happens after the asking is not part of it
        asked = dict(parts)
        timed("draw and describe", described)(taken[0])
        value = 0.9 + 0.001 * (taken[1].number % 97)
        timed("tell", desk.report)(taken[0], "complete", value, "", 1.0)
        rows.append((time.time(), dict(parts) | asked))
    owner.release()
    answers.put(rows)


@contextmanager
def storage_url(kind: str, folder: Path) -> Iterator[str]:
    """The URL of an empty storage of that kind."""
    with ExitStack() as stack:
        if kind in ("sqlite", "journal"):
            yield f"{kind}:///{folder / 'study'}"
            return
        url = stack.enter_context(postgres_server()).create("bench")
        if kind == "grpc":
            url = stack.enter_context(grpc_proxy(url)).url
        yield url


def quantiles(values: list[float]) -> tuple[float, float, float]:
    """Median, 95th percentile, maximum."""
    ordered = sorted(values)
    return statistics.median(ordered), ordered[int(0.95 * (len(ordered) - 1))], ordered[-1]


def measured(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run the workers; print and return what they measured."""
    settings = StudySettings(precision="fp32", sampler=options.sampler)
    context = get_context("forkserver")
    context.set_forkserver_preload(["optitune.searching.worker"])
    with storage_url(options.storage, folder) as url:
        home = studies.location(folder, "bench", url)
        storage = open_storage(home.url, create=True)
        study_checks.create_or_resume(storage, home.name, settings, FACTS, ACCURACY)
        answers = context.Queue()
        arguments = (home, settings, options.trials, time.time() + options.seconds, answers)
        processes = [context.Process(target=work, args=arguments, daemon=True) for _ in range(options.workers)]
        began = time.time()
        for process in processes:
            process.start()
        rows = sorted((row for _ in processes for row in answers.get()), key=lambda row: row[0])
        for process in processes:
            process.join()
    first, last = rows[0][0], rows[-1][0]
    rate = (len(rows) - 1) / (last - first)
    head = f"{options.storage}, {options.workers} workers, {len(rows)} trials, sampler {options.sampler}"
    print(f"{head}: {rate:.1f} a second")
    found: dict[str, Any] = {"storage": options.storage, "workers": options.workers, "trials": len(rows)}
    found |= {"sampler": options.sampler, "trials_per_s": round(rate, 2), "start_s": round(first - began, 2)}
    for title, chosen in (("all", rows), (f"last {len(rows) // 10}", rows[-(len(rows) // 10) :])):
        figures = {part: quantiles([parts.get(part, 0.0) for _, parts in chosen]) for part in PARTS}
        table([(title, "median", "95 %", "max")])
        table([(part, *(f"{1000 * value:.1f} ms" for value in figures[part])) for part in PARTS])
        found[title.split()[0]] = {part.strip(): [round(value, 4) for value in figures[part]] for part in PARTS}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--storage", choices=KINDS, default="postgresql")
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=3600, help="end by then, with fewer trials")
    parser.add_argument("--sampler", default="optitune", help="as `optitune search` takes it")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measured(options, Path(folder))
    print(json.dumps(found | in_words()))


if __name__ == "__main__":
    main()
