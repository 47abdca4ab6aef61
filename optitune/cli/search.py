"""`optitune search`."""

from pathlib import Path
from typing import Any

import click

from optitune.cli.main import print_json, show_dry_run
from optitune.cli.options import (
    AtLeast,
    Duration,
    Names,
    data_place,
    device,
    dry_run,
    log,
    older_study_place,
    output,
    ranks,
    study_places,
    trial_timeout,
    workers,
)
from optitune.study.settings import StudySettings

DEFAULTS = {name: field.default for name, field in StudySettings.model_fields.items()}


def _default(key: str) -> str:
    value = DEFAULTS[key]
    return f"  [default: {','.join(value) if isinstance(value, tuple) else value}]"


@click.command()
@click.option(
    "--trials",
    type=AtLeast(1),
    help="How many finished trials the study ends with, those taken --from another not counted.  [default: 50]",
)
@click.option("--timeout", type=Duration(), metavar="TIME", help="Begin no trial after this time: 90, 90s, 10m, 2h.")
@click.option(
    "--task", metavar="NAME", help="What to train: one of 'optitune tasks', or FILE.py:FUNCTION." + _default("task")
)
@click.option(
    "--metric",
    metavar="NAME",
    help="Of a training loop of your own, what it reports: accuracy, mse, ..., or a name with its direction, such as "
    "distance:minimize.",
)
@click.option(
    "--optimizers",
    type=Names(),
    help="Which optimizers compete: names, 'all', or classes as module:Class, "
    "such as lion_pytorch:Lion." + _default("optimizers"),
)
@click.option(
    "--schedules",
    type=Names(),
    help="Learning-rate schedules that compete; 'all' for every one." + _default("schedules"),
)
@click.option("--epochs", type=AtLeast(1), help="Length of a trial." + _default("epochs"))
@click.option("--batch-size", type=AtLeast(1), help="Examples per batch." + _default("batch_size"))
@click.option("--train-examples", type=AtLeast(1), help="Train on a fixed random subset.  [default: all]")
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="KEY=VALUE",
    help="Any line of a study's file, such as adam.beta2=0.999 or lr=[1e-4,0.1]; may be given again and again.",
)
@click.option("--study", metavar="NAME", help="The study's name.  [default: the task's]")
@older_study_place
@study_places
@data_place
@click.option(
    "--sampler",
    metavar="NAME",
    help="optitune (known-good settings, then what a model of all trials expects most of), or Optuna's tpe, tpe-group, "
    "random, qmc, gp, nsgaii." + _default("sampler"),
)
@click.option(
    "--budget-in",
    metavar="UNIT",
    help="What the shares of optimizers are counted in: seconds (an epoch counts by what it costs with that optimizer, "
    "measured once for the study), or epochs." + _default("budget_in"),
)
@click.option(
    "--pruner",
    metavar="NAME",
    help="optitune (by what a trial will come to, against its own optimizer's best), or Optuna's median, percentile, "
    "successive-halving, hyperband, none." + _default("pruner"),
)
@workers(0, "; 0: make the study and leave the training to 'optitune worker' elsewhere")
@click.option(
    "--cluster",
    metavar="RAY",
    help="Train on a Ray cluster: ray (the one of RAY_ADDRESS, or one of this machine) or ray://HOST:PORT.",
)
@device
@ranks
@trial_timeout
@click.option("--precision", metavar="NAME", help="auto, fp32, or bf16; auto takes the faster." + _default("precision"))
@click.option(
    "--seed",
    type=AtLeast(0),
    help="With --workers 1 and --budget-in epochs, the same seed gives the same study." + _default("seed"),
)
@click.option(
    "--accept-changes",
    is_flag=True,
    help="Go on with a study although the code of its task has changed: the change makes no difference to a training.",
)
@click.option(
    "--then-compare", is_flag=True, help="Then 'optitune compare' it: train the best of each optimizer again."
)
@dry_run
@log
@output
def search(
    study: str | None,
    older: str | None,
    from_storage: str | None,
    studies_dir: Path,
    storage: str | None,
    assignments: tuple[str, ...],
    then_compare: bool,
    dry_run: bool,
    log: tuple[str, ...],
    as_json: bool,
    quiet: bool,
    **asked: Any,
) -> None:
    """Search for the best optimizer and settings.

    Trains short trials with pruning until the study has --trials finished ones, and saves the best
    configuration in studies/STUDY/best.toml. The same command after a stop goes on where it was; two at
    once share the work. What is not set by an option or --set comes from studies/STUDY.toml if there is one
    ('optitune init STUDY' writes it), then from the study if it exists, then from the one after --from,
    then from the defaults.
    Ends with exit code 1 where an optimizer failed at all of its trials, and names it.
    """
    if dry_run and then_compare:
        raise click.UsageError("--dry-run with --then-compare: a comparison needs what the search finds; leave out one")
    if asked["cluster"] is None and not dry_run:
        from optitune.workers.pool import WORKER_MODULES, warm_up

        warm_up(*WORKER_MODULES)
    from optitune.api import stages
    from optitune.searching.requests import SearchRequest
    from optitune.storage.listing import older_study
    from optitune.storage.studies import location
    from optitune.storage.urls import StorageUrl
    from optitune.study.settings import checked_study_name, merged
    from optitune.study.study_file import from_text
    from optitune.tasks.loading import study_of
    from optitune.terminal.search import print_result, search_view

    flags = {key: asked.pop(key) for key in DEFAULTS if key in asked}
    settings = merged(from_text(assignments), {key: value for key, value in flags.items() if value is not None})
    if older is None and from_storage is not None:
        raise click.UsageError(f"--from-storage {StorageUrl.parse(from_storage).shown}: name a study of it with --from")
    if older is not None and study is None:
        raise click.UsageError(f"--from {older} begins a new study: name it with --study, such as --study {older}-2")
    name = checked_study_name(study or study_of(str(settings.get("task") or DEFAULTS["task"])))
    begin = None if older is None else older_study(older, studies_dir, storage, from_storage)
    request = SearchRequest(home=location(studies_dir, name, storage), settings=settings, from_study=begin, **asked)
    if dry_run:
        show_dry_run(stages.dry_search(request), as_json)
        return
    result = stages.search(request, search_view(quiet=quiet or as_json), log)
    if not as_json:
        print_result(result, studies_dir, storage, request.data_dir, not then_compare, request.ranks)
    document = result.document()
    if then_compare:
        from optitune.cli.compare import run_compare
        from optitune.comparing.requests import CompareRequest

        stage = {key: getattr(request, key) for key in ("home", "data_dir", "workers", "device", "ranks")}
        document["comparison"] = run_compare(CompareRequest(**stage), studies_dir, storage, as_json, quiet, log)
    if as_json:
        print_json(document)
    if result.failing():
        # everything else was found, but not what was asked of these
        raise click.exceptions.Exit(1)
