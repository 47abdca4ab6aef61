"""optitune from Python: the same searches and full trainings, without the shell.

    import optitune

    found = optitune.search(make_task(), study="wine", trials=20, epochs=10)
    found.standings, found.trials, found.curves  # pandas' DataFrames
    found.figure()
    verdict = optitune.compare(make_task(), study="wine")
    print(verdict.sentence, verdict.advice)
    full = optitune.retrain(make_task(), study="wine")
    found = optitune.load("wine")  # also a study that the command line made

A task may be an object, the name of a built-in one, or `FILE.py:FUNCTION`. Workers are processes of their own;
they take the task's functions along, wherever those were defined.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from optitune.api import results, stages
from optitune.api.results import ComparisonResult, SearchResult
from optitune.api.retrain_result import RetrainResult, retrain_result
from optitune.comparing import requests as comparing
from optitune.errors import UsageError
from optitune.retraining.choose import choose
from optitune.retraining.run import RetrainRequest
from optitune.searching.requests import SearchRequest
from optitune.statistics.runs import PREFER, UNTIL, Prefer, Until
from optitune.storage import studies
from optitune.storage.listing import choose_study, older_study
from optitune.study.settings import checked_study_name, task_name
from optitune.tasks import loading
from optitune.tasks import task as tasks
from optitune.tasks.task import Task
from optitune.terminal.compare import compare_view
from optitune.terminal.retrain import retrain_view
from optitune.terminal.search import search_view
from optitune.training.run import Run
from optitune.workers.pool import WORKER_MODULES, warm_up

Loop = Callable[[Run], None]
"""A training loop of one's own."""


def _parted(task: Task | str | Loop, study: str | None) -> tuple[Task | None, str, str]:
    """A task as an object, its name, and the name of its study.

    Raises:
        UsageError: it is neither a task nor a name.
    """
    if not isinstance(task, Task | str) and callable(task):
        task = loading.loop_of(task, getattr(task, "__name__", "") or "") or task
    if not isinstance(task, Task | str):
        raise UsageError(
            f"task: is {tasks.kind(task)}, but must be a Task or a name; of a function without "
            "parameters, give what it returns"
        )
    if isinstance(task, Task):
        name = task.name or study or "task"
        return replace(task, name=name), loading.FROM_PYTHON + name, checked_study_name(study or loading.study_of(name))
    return None, task_name(task), checked_study_name(study or loading.study_of(task))


def _begin(workers: int | None) -> None:
    """Let worker processes import what they need while the rest is looked at.

    Raises:
        UsageError: there are to be none.
    """
    if workers is not None and (not isinstance(workers, int) or workers < 1):
        raise UsageError(f"workers = {workers!r}: must be at least 1, or None for one per core")
    warm_up(*WORKER_MODULES)


def search(
    task: Task | str | Loop,
    *,
    study: str | None = None,
    trials: int | None = None,
    timeout: float | None = None,
    studies_dir: str | Path = "studies",
    storage: str | None = None,
    data_dir: str | Path | None = None,
    workers: int | None = None,
    device: str = "auto",
    ranks: int = 1,
    trial_timeout: float | None = None,
    from_study: str | None = None,
    from_storage: str | None = None,
    accept_changes: bool = False,
    log: str | Sequence[str] = (),
    progress: bool = True,
    **settings: Any,
) -> SearchResult:
    """Search until the study has so many finished trials, as `optitune search` does.

        found = optitune.search(make_task(), study="wine", trials=20, optimizers=("sgd", "adam"), epochs=10)
        print(found.best.optimizer, found.best.value)

    Args:
        task: what to train: a `Task`, the name of a built-in one, `FILE.py:FUNCTION`, or a training loop of one's own,
            a function of one `Run`, with `metric="accuracy"` or `metric="distance:minimize"` for what it reports.
        study: its name; None for the task's.
        trials: how many finished trials the study is to have, at least 1, those taken from another one not counted;
            None for what its file says, or 50.
        timeout: seconds after which no further trial is begun; None for what its file says, or never.
        studies_dir: the folder of all studies.
        storage: URL of the storage; None for a file of the study's own.
        data_dir: where torchvision's files lie; None for the cache folder.
        workers: how many processes, at least 1; None for one per core, or a few per GPU.
        device: `auto`, `cpu`, `cuda`, or as torch names it.
        ranks: how many processes train each trial of a training loop of one's own together, on GPUs with one each.
        trial_timeout: seconds after which a trial that hangs is given up; None for never.
        from_study: name of another study whose finished trials a new one begins with, as far as they lie in its search
            space; settings that are not given are as in that one.
        from_storage: URL of that one's storage; None where it is with the new one or in a file of its own.
        accept_changes: go on with a study although the code of its task has changed, since the change makes no
            difference to a training.
        log: `tensorboard`, `mlflow` or `wandb`, each alone or as `NAME=PLACE`: every training is written down there.
        progress: whether to show it on standard error.
        settings: anything that a study's file can say: `optimizers=("sgd", "adam")`, `epochs=10`, `lr=[1e-4, 0.1]`,
            `adam={"beta2": 0.999}`, `groups={"fc*": 10.0}`.

    Returns:
        the study, its best trial and its tables; `run` in it is what this call did.

    Raises:
        UsageError: a setting is not allowed, or task, data and settings do not fit each other.
        OptituneError: data or storage cannot be had, or training keeps failing.
        Interrupted: the user stopped it; everything finished is kept.
    """
    own, source, name = _parted(task, study)
    _begin(workers)
    home = studies.location(Path(studies_dir), name, storage)
    begin = None if from_study is None else older_study(from_study, Path(studies_dir), storage, from_storage)
    request = SearchRequest(
        home=home,
        settings={**_plain(settings), "task": source},
        trials=trials,
        timeout=timeout,
        data_dir=None if data_dir is None else Path(data_dir),
        workers=workers,
        device=device,
        ranks=ranks,
        task=own,
        trial_timeout=trial_timeout,
        from_study=begin,
        accept_changes=accept_changes,
    )
    return results.search_result(home, stages.search(request, search_view(quiet=not progress), log))


def load(study: str | None = None, *, studies_dir: str | Path = "studies", storage: str | None = None) -> SearchResult:
    """Open a study that is there, whoever made it, as what `search` gives; nothing is trained.

    Its comparison and its full training are there as well, as `comparison` and `tested`.

        found = optitune.load("wine")
        found.standings  # a DataFrame

    Args:
        study: its name; None for the default task's, or the only one there is.
        studies_dir: the folder of all studies.
        storage: URL of the storage; None for a file of the study's own.

    Returns:
        the study; `run` in it is None.

    Raises:
        UsageError: there is no such study, or it was not made by optitune.
        OptituneError: the storage cannot be opened.
    """
    return results.opened(choose_study(study, Path(studies_dir), storage))


def retrain(
    task: Task | str | Loop,
    *,
    what: str | int = "best",
    study: str | None = None,
    epochs: int | Literal["auto"] | None = None,
    keep: Literal["last", "best"] = "last",
    seeds: int = 3,
    seed: int = 0,
    precision: str = "auto",
    studies_dir: str | Path = "studies",
    storage: str | None = None,
    data_dir: str | Path | None = None,
    workers: int | None = None,
    device: str = "auto",
    ranks: int = 1,
    log: str | Sequence[str] = (),
    progress: bool = True,
) -> RetrainResult:
    """Train a configuration in full and test it once on the sealed test set, as `optitune retrain` does.

        full = optitune.retrain(make_task(), study="wine", seeds=5)
        print(full.test_value.mean, full.folder / "model.safetensors")

    Args:
        task: what to train; the same as that of the study.
        what: `best`, a trial's number, or the path of a `best.toml`.
        study: its name; None for the task's.
        epochs: length of a training, at least 1, its schedule stretched to it; None for three times the search's.
            `"auto"` finds it on held-out validation data before everything is trained on for that long: trainings of
            1, 2, 4, ... up to 16 times the search's epochs, until one is not better than that of half its length by
            more than what does not matter (0.001 of accuracy and r2, else 1 %); where twice is not better, also a
            half, a quarter, ... (after Goodfellow et al. 2016, Deep Learning, algorithm 7.2).
        keep: whose weights are kept and tested: those of the `"last"` epoch, or of the epoch that is `"best"` on the
            validation part, which is then held out of the training.
        seeds: how many trainings, each from a fresh seed, at least 1.
        seed: another seed, other trainings; at least 0.
        precision: `fp32`, `bf16`, or `auto` for the search's.
        studies_dir: the folder of all studies.
        storage: URL of the storage; None for a file of the study's own.
        data_dir: where torchvision's files lie; None for the cache folder.
        workers: how many processes, at least 1; None for one per core, or a few per GPU.
        device: `auto`, `cpu`, `cuda`, or as torch names it.
        ranks: how many processes train each trial of a training loop of one's own together, on GPUs with one each.
        log: `tensorboard`, `mlflow` or `wandb`, each alone or as `NAME=PLACE`: every training is written down there.
        progress: whether to show it on standard error.

    Returns:
        the test of each seed, and the folder with the weights.

    Raises:
        UsageError: there is no such study or configuration.
        OptituneError: the data cannot be had, a training diverges, or the results cannot be written.
        Interrupted: the user stopped it; the epochs done are kept and taken up by the same call.
    """
    own, source, name = _parted(task, study)
    _begin(workers)
    chosen = choose(str(what), name, Path(studies_dir), storage)
    _fits(name, chosen.config.task, source)
    request = RetrainRequest(
        name=chosen.name,
        config=chosen.config,
        home=chosen.home,
        epochs=epochs,
        keep=keep,
        seeds=seeds,
        seed=seed,
        data_dir=None if data_dir is None else Path(data_dir),
        workers=workers,
        device=device,
        ranks=ranks,
        precision=precision,
        task=own,
    )
    return retrain_result(stages.retrain(request, retrain_view(quiet=not progress), log))


def compare(
    task: Task | str | Loop,
    *,
    study: str | None = None,
    optimizers: Sequence[str] | None = None,
    epochs: int | None = None,
    max_runs: int = comparing.MOST_RUNS,
    timeout: float | None = None,
    epsilon: float | None = None,
    target: float | None = None,
    sensitivity: int = comparing.SENSITIVITY,
    until: Until = UNTIL,
    prefer: Prefer = PREFER,
    seed: int = 0,
    studies_dir: str | Path = "studies",
    storage: str | None = None,
    data_dir: str | Path | None = None,
    workers: int | None = None,
    device: str = "auto",
    ranks: int = 1,
    log: str | Sequence[str] = (),
    progress: bool = True,
) -> ComparisonResult:
    """Train the best configuration of each optimizer again on fresh seeds, as `optitune compare` does.

        verdict = optitune.compare(make_task(), study="wine", max_runs=40)
        print(verdict.sentence, verdict.recommended)

    Args:
        task: what to train; the same as that of the study.
        study: its name; None for the task's.
        optimizers: names of those to compare; None for all that have a complete trial.
        epochs: length of a run, at least 1, its schedule stretched to it; None for the search's.
        max_runs: how many runs of finalists there may be in all, at least one for each.
        timeout: seconds after which no further run is begun; None for never.
        epsilon: difference of the metric that does not matter, in the metric's unit; None for 0.001 of accuracy and
            r2, else a tenth of how far the median of the finalists and of their known-good settings was behind the best
            in the search, at most 1 % of the best value.
        target: value of the metric whose time is measured; None for what the weakest of those left reaches.
        sensitivity: in how many rounds those left are trained with other settings too, at least 0.
        until: what ends it before its runs are spent: `"good-enough"`, when the choice of one can cost no more than
            epsilon; `"clear"`, only when one is better than all others, or equal to all that are left.
        prefer: which to take of those that are as good as the best (worse by no more than epsilon): by `"value"` the
            one that can lose least, by `"time"` or `"memory"` the one whose training takes least of it.
        seed: another seed, other runs; at least 0.
        studies_dir: the folder of all studies.
        storage: URL of the storage; None for a file of the study's own.
        data_dir: where torchvision's files lie; None for the cache folder.
        workers: how many processes, at least 1; None for one per core, or a few per GPU.
        device: `auto`, `cpu`, `cuda`, or as torch names it.
        ranks: how many processes train each trial of a training loop of one's own together, on GPUs with one each.
        log: `tensorboard`, `mlflow` or `wandb`, each alone or as `NAME=PLACE`: every training is written down there.
        progress: whether to show it on standard error.

    Returns:
        the verdict, the advice, and a row for each optimizer and each run.

    Raises:
        UsageError: there is no such study, or task, data and configurations do not fit each other.
        OptituneError: there is nothing to compare, every finalist diverges, or data or files cannot be had.
        Interrupted: the user stopped it; finished runs are kept.
    """
    own, source, name = _parted(task, study)
    _begin(workers)
    home = choose_study(name, Path(studies_dir), storage)
    opened = home.open()
    _fits(name, studies.stored_settings(opened)["task"], source)
    request = comparing.CompareRequest(
        home=home,
        data_dir=None if data_dir is None else Path(data_dir),
        workers=workers,
        device=device,
        ranks=ranks,
        optimizers=None if optimizers is None else tuple(optimizers),
        epochs=epochs,
        max_runs=max_runs,
        timeout=timeout,
        epsilon=epsilon,
        target=target,
        sensitivity=sensitivity,
        until=until,
        prefer=prefer,
        seed=seed,
        task=own,
    )
    return results.comparison_result(stages.compare(request, compare_view(quiet=not progress), log), opened, home)


def _fits(study: str, trained: str, source: str) -> None:
    """Hold a task against the one that a study trains.

    Raises:
        UsageError: it is another one.
    """
    if trained != source:
        raise UsageError(
            f"study '{study}' trains '{trained}', not '{source}': give its own task, or name another study"
        )


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as a study's file would have them: no tuples."""
    return {
        key: list(value) if isinstance(value, tuple) else _plain(value) if isinstance(value, Mapping) else value
        for key, value in settings.items()
    }
