"""What a stage would train, on the terminal."""

from rich.console import Console

from optitune.common.text import duration, plural, roughly
from optitune.training.dry_run import DryRun

THINGS = {"search": "trial", "compare": "run", "retrain": "full training"}

UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def print_dry_run(found: DryRun) -> None:
    """Print what would be trained, on what, how long that would take, and the disk it needs."""
    console = Console(highlight=False, soft_wrap=True)

    def line(text: str) -> None:
        console.print(text, markup=False)

    thing = THINGS[found.stage]
    state = "new" if found.new else f"has {plural(found.done, thing)}"
    least, most = found.trainings
    number = plural(most, thing) if least == most else f"{least} to {plural(most, thing)}"
    line(f"{found.stage} of study '{found.study}' ({state}), a dry run: nothing is trained, and nothing is written")
    left = "nothing is left to train" if most == 0 else f"would train {number} of {plural(found.epochs, 'epoch')}"
    how = f"{plural(found.workers, 'worker')}, {found.device}, {found.precision}"
    line(f"{left} on {found.task}; {how}")
    examples = found.examples
    judged = [f"{examples['validation']} to judge on"] if examples["validation"] else []
    test = "a test set of the task's own" if examples["test"] is None else f"{examples['test']} for the test"
    line("examples: " + ", ".join([f"{examples['train']} to train on", *judged, test]))
    for title, owners in (("optimizers", found.optimizers), ("schedules", found.schedules)):
        if owners:
            line(f"\n{title}:")
        for name, ranges in owners.items():
            took = f" (about {duration(found.each[name])} a {thing})" if name in found.each else ""
            said = [one if key == "best" else f"{key} {one}" for key, one in ranges.items()]
            line(f"  {name}{took}: {'; '.join(said) or 'no settings'}")
    if found.training:
        line("\ntraining: " + "; ".join(f"{key} {one}" for key, one in found.training.items()))
    if len(found.optimizers) > 1 and found.budget_in:
        line("\n" + _shares(found))
    if most:
        shortest, longest = (roughly(max(1.0, seconds)) for seconds in found.seconds)
        span = shortest if shortest == longest else f"{shortest} to {longest}"
        line(f"\ntime: about {span}, estimated from a second of real steps on this machine")
        need = f"about {_size(found.disk)} to keep, and {_size(found.scratch)} more while it runs"
        line(f"disk: {need}; {_size(found.free)} are free")
    for note in found.notes:
        line(f"note: {note}")


def _shares(found: DryRun) -> str:
    """What the shares of optimizers are counted in, and how epochs count."""
    if found.budget_in == "epochs":
        return "shares: counted in epochs"
    uneven = [f"of {name} {cost:g}" for name, cost in found.costs.items() if cost != 1]
    how = f"an epoch counts 1, {', '.join(uneven)}" if uneven else "an epoch costs about the same with all"
    return f"shares: counted in time; {how}"


def _size(number: float) -> str:
    """A number of bytes with two digits."""
    for unit, name in UNITS:
        if number >= unit:
            return f"{number / unit:.2g} {name}" if number < 100 * unit else f"{number / unit:.0f} {name}"
    return f"{number:.0f} bytes"
