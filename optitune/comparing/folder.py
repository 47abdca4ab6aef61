"""The folder of a comparison: what a killed one left is removed, and runs of another plan are kept apart."""

import shutil
from pathlib import Path

from optitune.common.files import clear, make_folder, move_aside, sweep
from optitune.comparing.kept_runs import load_run, run_paths
from optitune.comparing.results import load_plan, save_plan
from optitune.statistics.runs import Plan
from optitune.tasks.data import SAFETENSORS_SCRATCH

RUN = r"\d+-.+"
"""Names of the files of runs, but for the suffix, as an expression."""


def tidy(folder: Path) -> None:
    """Remove what a comparison that was killed left half-written here, and nothing else."""
    sweep(folder, "plan|verdict|data", r"\.json|\.safetensors")
    for name in ("runs", "partial"):
        sweep(folder / name, RUN, r"\.safetensors")
    clear(folder, "data", r"\.safetensors", SAFETENSORS_SCRATCH)


def place(folder: Path, plan: Plan) -> Path | None:
    """Make `folder` that of `plan`; another one is renamed, and its runs that would be the same are copied from it.

    Returns:
        where the other one is kept; None where there was none.
    """
    there, kept = kept_of(folder, plan)
    if there == plan:
        return None
    names = [path.name for path in kept]
    old = move_aside(folder) if there is not None or (folder / "runs").exists() else None
    for name in names:
        assert old is not None
        shutil.copy2(old / "runs" / name, make_folder(folder / "runs") / name)
    save_plan(folder, plan)
    return old


def kept_of(folder: Path, plan: Plan) -> tuple[Plan | None, list[Path]]:
    """The plan of the comparison in a folder, if there is one, and the runs of it that another plan has as well."""
    there = load_plan(folder)
    if there is None or there.model_copy(update={"finalists": plan.finalists}) != plan:
        return there, []
    same = {each.optimizer for each in plan.finalists if each in there.finalists}
    return there, [path for path in run_paths(folder) if load_run(path).key.optimizer in same]
