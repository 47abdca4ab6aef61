"""`optitune retrain`."""

from pathlib import Path
from typing import Any

import click

from optitune.cli.main import print_json, show_dry_run
from optitune.cli.options import AtLeast, Epochs, data_place, dry_run, log, machine, output, study_places

MOST_SEEDS = 1000


@click.command()
@click.argument("what", default="best", metavar="[best|TRIAL_NUMBER|FILE]")
@click.option(
    "--epochs",
    type=Epochs(1),
    help="Length of the training, its schedule stretched to it; auto finds it on held-out validation data.  [default: "
    "three times the search's]",
)
@click.option(
    "--keep",
    type=click.Choice(["last", "best"]),
    default="last",
    show_default=True,
    help="Keep the last epoch's weights, or those of the epoch that is best on the validation part, which is held out "
    "of the training then.",
)
@click.option(
    "--seeds",
    type=AtLeast(1, MOST_SEEDS),
    default=3,
    show_default=True,
    help="How many trainings, each from a fresh seed.",
)
@click.option("--study", metavar="NAME", help="The study.  [default: mnist-cnn, or the only one there is]")
@study_places
@data_place
@machine
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16"]),
    default="auto",
    show_default=True,
    help="auto: as in the search.",
)
@click.option("--seed", type=AtLeast(0), default=0, show_default=True, help="Another seed, other trainings.")
@dry_run
@log
@output
def retrain(
    what: str,
    study: str | None,
    studies_dir: Path,
    storage: str | None,
    dry_run: bool,
    log: tuple[str, ...],
    as_json: bool,
    quiet: bool,
    **asked: Any,
) -> None:
    """Train a configuration in full and test it once on the sealed test set.

    The best is what the study's comparison says to take, or without one the search's best. Trains on everything but
    the test set, from several fresh seeds, and writes studies/STUDY/retrain/NAME/ with model.safetensors (the first
    seed's), metrics.json, curves.png, the training as code (train.py, config.toml), and of images the worst mistakes.
    Stopped half-way, the same command goes on from the last epoch.

    --epochs auto first trains for 1, 2, 4, ... times the search's epochs without the validation part, until one is not
    better on it than that of half its length, and then trains on everything for as long as was best.
    """
    if not dry_run:
        from optitune.workers.pool import WORKER_MODULES, warm_up

        warm_up(*WORKER_MODULES)
    from optitune.api import stages
    from optitune.retraining.choose import choose
    from optitune.retraining.run import RetrainRequest
    from optitune.terminal.retrain import print_retrained, retrain_view

    chosen = choose(what, study, studies_dir, storage)
    request = RetrainRequest(name=chosen.name, config=chosen.config, home=chosen.home, **asked)
    if chosen.note and not (quiet or as_json):
        click.echo(f"note: {chosen.note}", err=True)
    if dry_run:
        show_dry_run(stages.dry_retrain(request), as_json)
        return
    result = stages.retrain(request, retrain_view(quiet=quiet or as_json), log)
    if result.unwritten:
        click.echo(f"note: {result.unwritten}", err=True)
    for line in result.remarks:
        click.echo(f"note: {line}", err=True)
    if result.other_data:
        click.echo(
            "note: the data are not those that this configuration was found on (their checksums differ)", err=True
        )
    if as_json:
        print_json(result.document())
    else:
        print_retrained(result)
