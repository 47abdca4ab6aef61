"""`optitune export`."""

from pathlib import Path

import click

from optitune.cli.options import AtLeast, study_places

PRINTED, WRITTEN = ("python", "toml", "json"), ("csv", "parquet", "tensorboard", "mlflow")


@click.command()
@click.argument("what", required=False, metavar="[best|TRIAL_NUMBER|FILE]")
@click.option(
    "--format",
    "form",
    type=click.Choice([*PRINTED, *WRITTEN]),
    default="python",
    show_default=True,
    help="The first three print a configuration, the others write all trials.",
)
@click.option(
    "--epochs",
    type=AtLeast(1),
    help="What train() of the Python trains for, its schedule stretched to it.  [default: the search's; those of the "
    "full training with --retrained]",
)
@click.option("--retrained", is_flag=True, help="Print what 'optitune retrain' trained of it: its length, its data.")
@click.option("--study", metavar="NAME", help="The study.  [default: mnist-cnn, or the only one there is]")
@click.option(
    "--out",
    "out",
    metavar="PATH|URI",
    help="Where all trials go: a folder, or MLflow's tracking URI.  [default: studies/STUDY/export; what MLflow's "
    "environment says]",
)
@study_places
def export(
    what: str | None,
    form: str,
    study: str | None,
    out: str | None,
    epochs: int | None,
    retrained: bool,
    studies_dir: Path,
    storage: str | None,
) -> None:
    """Print a configuration as code, or write all trials as tables.

    The Python is a function train(model, loader, epochs) that trains with torch alone just as the search did:
    optimizer, schedule, parameter groups, clipping, accumulation and loss. With another number of epochs, the schedule
    is stretched as 'optitune retrain' does. The best is what the study's comparison says to take, or without one the
    search's best.

    csv and parquet write trials and curves, a row per trial with every setting and a row per evaluation; tensorboard
    and mlflow have a run per trial, with its curve and its settings. All but csv need a package:
    pip install 'optitune[parquet]', 'optitune[tensorboard]' or 'optitune[mlflow]'.
    """
    if form in PRINTED:
        _print(what or "best", form, study, out, epochs, retrained, studies_dir, storage)
        return
    from optitune.errors import UsageError

    if epochs is not None or retrained:
        option = "--retrained" if retrained else f"--epochs {epochs}"
        raise UsageError(f"{option}: {form} has all trials of a study as they were; leave it out, or choose python")
    _write(what, form, study, out, studies_dir, storage)


def _print(
    what: str,
    form: str,
    study: str | None,
    out: str | None,
    epochs: int | None,
    retrained: bool,
    studies_dir: Path,
    storage: str | None,
) -> None:
    """Print one configuration."""
    from optitune.common.user_modules import file_of
    from optitune.errors import OptituneError, UsageError
    from optitune.retraining import code, results
    from optitune.retraining.choose import choose
    from optitune.training.export_code import export as exported

    if out is not None:
        raise UsageError(f"--out {out}: {form} is printed; send it to a file with '> FILE', or choose csv")
    chosen = choose(what, study, studies_dir, storage)
    config, folder = chosen.config, chosen.home.folder / "retrain" / chosen.name
    if retrained:
        found = results.load(folder)
        if found is None:
            raise OptituneError(
                f"'{what}' was not trained in full yet: 'optitune retrain {what} --study {config.study}'"
            )
        config = code.load(folder)
        text = code.python_of(config, found, epochs) if form == "python" else exported(config, form, epochs)
    else:
        text = exported(config, form, epochs)
        if chosen.note:
            click.echo(f"note: {chosen.note}", err=True)
    module = config.configuration.optimizer.path.partition(":")[0]
    file = file_of(module, studies_dir.resolve()) if module else None
    if form == "python" and file:
        click.echo(f"note: the code imports {module}, which is {file}: keep both in one folder", err=True)
    click.echo(text)


def _write(
    what: str | None, form: str, study: str | None, out: str | None, studies_dir: Path, storage: str | None
) -> None:
    """Write all trials, and name what was written."""
    from optitune.common.text import plural
    from optitune.errors import OptituneError, UsageError
    from optitune.report import interchange
    from optitune.storage.listing import choose_study
    from optitune.storage.studies import DATA, stored_settings
    from optitune.storage.trials import records

    if what is not None:
        raise UsageError(f"'{what}': {form} has all trials of a study; name the study with --study, and no trial")
    if form != "mlflow" and out is not None and "://" in out:
        raise UsageError(f"--out {out}: {form} is written into a folder; name one")
    home = choose_study(study, studies_dir, storage)
    opened = home.open()
    stored_settings(opened)
    rows, data = records(opened), opened.user_attrs[DATA]
    metric, examples = data["metric"], data.get("train_examples")
    if not rows:
        raise OptituneError(f"study '{home.name}' has no trial yet: 'optitune search --study {home.name}'")
    if form == "mlflow":
        logged, before = interchange.write_mlflow(home.name, rows, metric, out, examples)
        there = f"; {before} were there before" if before else ""
        click.echo(f"{plural(logged, 'trial')} logged to MLflow's experiment '{home.name}'{there}")
        return
    folder = Path(out) if out is not None else home.folder / "export"
    if form == "tensorboard":
        # a folder of its own: TensorBoard shows all that lies in one
        click.echo(interchange.write_tensorboard(rows, metric, folder if out is not None else folder / form, examples))
        return
    for path in interchange.write_tables(rows, folder, form, examples):
        click.echo(path)
