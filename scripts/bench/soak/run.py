"""Kill workers and parents of a search at random moments, and look whether anything is lost.

    python -m scripts.bench.soak.run --storage sqlite --trials 100 --kills 200
    python -m scripts.bench.soak.run --storage postgresql --machines 2

A second machine is a mount namespace with a folder of its own: it shares nothing with the first but the storage.
Prints a line a check, and exits with 1 if one does not hold.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch
from optuna.trial import FrozenTrial, TrialState

from optitune.errors import OptituneError
from optitune.searching.objective import trial_plan
from optitune.space.configuration import Configuration
from optitune.storage import studies
from optitune.storage import trials as storage_trials
from optitune.storage.urls import StorageUrl, open_storage
from optitune.study.settings import StudySettings
from optitune.study.steps import compared_step, usual_steps
from optitune.tasks import loading, splits
from optitune.training import build
from optitune.training.engine import Training
from scripts.bench.soak.task import LOG
from scripts.postgres_server import postgres_server

TASK = f"{Path(__file__).with_name('task.py')}:make_task"
NAME = "soak"
ENDED = (TrialState.COMPLETE, TrialState.PRUNED)
VICTIMS = {"worker": 0.85, "parent": 0.12, "everybody": 0.03}
"""Who is killed how often."""


@dataclass
class Soak:
    """A study under fire.

    Attributes:
        url: of its storage.
        commands: what is run again and again, one for every machine.
        kills: how often who was killed.
        seen: what was finished at some moment: value and time of the end, by number.
        lost: what was finished and is no longer so.
    """

    url: str
    commands: list[list[str]]
    chance: random.Random
    kills: Counter[str] = field(default_factory=Counter)
    seen: dict[int, tuple[object, ...]] = field(default_factory=dict)
    lost: set[int] = field(default_factory=set)
    runs: int = 0
    next: str = "worker"

    def trials(self) -> list[FrozenTrial]:
        try:
            storage = open_storage(StorageUrl.parse(self.url), create=False)
            return studies.find(storage, NAME).get_trials(deepcopy=False)
        except OptituneError:
            return []  # not made yet

    def look(self) -> int:
        """How many trials are finished; notes any that was and is so no longer, or otherwise."""
        now = {t.number: (t.state, t.values, t.datetime_complete) for t in self.trials() if t.state in ENDED}
        self.lost |= {number for number, told in self.seen.items() if now.get(number) != told}
        self.seen |= now
        return len(now)

    def strike(self, process: subprocess.Popen[bytes]) -> None:
        """Kill whoever's turn it is, if they are there."""
        workers = [pid for pid in descendants(process.pid) if is_worker(pid)]
        if process.poll() is not None or (self.next == "worker" and not workers):
            return
        self.kills[self.next] += 1
        if self.next == "worker":
            os.kill(self.chance.choice(workers), signal.SIGKILL)
        elif self.next == "parent":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
        self.next = self.chance.choices(list(VICTIMS), list(VICTIMS.values()))[0]


def descendants(pid: int) -> list[int]:
    """The processes below this one."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            below = [int(each) for each in task.read_text().split()]
        except OSError:
            continue  # gone meanwhile
        for each in below:
            found += [each, *descendants(each)]
    return found


def is_worker(pid: int) -> bool:
    """Whether this process maps the data that only workers open."""
    try:
        return "/workers/" in Path(f"/proc/{pid}/maps").read_text()
    except OSError:
        return False


def under_fire(soak: Soak, trials: int, kills: int) -> None:
    """Run the search until its study is complete, with so many kills evenly among its trials."""
    running: dict[int, subprocess.Popen[bytes]] = {}
    try:
        while (done := soak.look()) < trials:
            for number, command in enumerate(soak.commands):
                process = running.get(number)
                if process is None or process.poll() is not None:
                    soak.runs += 1
                    print(f"run {soak.runs}, machine {number + 1}: {done} of {trials} finished, {dict(soak.kills)}")
                    running[number] = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL)
            time.sleep(soak.chance.uniform(0.05, 0.6))
            if sum(soak.kills.values()) < min(kills, kills * (done + 3) / trials):
                soak.strike(running[soak.chance.randrange(len(running))])
    finally:
        for process in running.values():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    # a run that has nothing to train leaves things as they are meant to be
    for command in soak.commands:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def differing(trials: list[FrozenTrial], settings: StudySettings) -> list[str]:
    """Trains every trial once more, unkilled; the points where that comes to other numbers."""
    torch.set_num_threads(1)
    task = loading.find(TASK, Path())
    data = splits.search_data(task, settings.train_examples)
    usual = usual_steps(settings, len(data.train))
    found = []
    for trial in trials:
        if storage_trials.SAME_AS in trial.user_attrs:
            continue
        configuration = Configuration.model_validate(trial.user_attrs[storage_trials.CONFIGURATION])
        how = trial_plan(configuration, settings, task, data)
        training = Training(build.build(task, settings.seed, torch.device("cpu")), how, data.train, data.validation)
        curve = {}
        for progress in training.run():
            step = compared_step(progress.epoch, how.evaluations, usual)
            if step is not None and progress.validation is not None:
                curve[step] = progress.validation.value
            if step == max(trial.intermediate_values, default=0):
                break
        found += [
            f"trial {trial.number}, step {step}: {value} (unkilled {curve.get(step)})"
            for step, value in trial.intermediate_values.items()
            if curve.get(step) != value
        ]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--storage", default="sqlite", help="sqlite, postgresql, journal, or a URL")
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--machines", type=int, default=1, choices=(1, 2))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = arguments.storage
        if url == "sqlite":
            url = f"sqlite:///{folder / NAME / 'study.db'}"
        elif url == "journal":
            url = f"journal:///{folder / 'study.log'}"
        elif url == "postgresql":
            url = stack.enter_context(postgres_server()).create(NAME)
        log = folder / "evaluations.log"
        os.environ |= {LOG: str(log), "OPTITUNE_STORAGE": url}
        optitune = [sys.executable, "-m", "optitune"]
        words = f"search --task {TASK} --study {NAME} --trials {arguments.trials} --epochs {arguments.epochs} --quiet"
        search = [*optitune, *words.split(), "--precision", "fp32", "--studies-dir", str(folder)]
        worker = [*optitune, "worker", "--study", NAME, "--quiet", "--studies-dir", str(folder / "elsewhere")]
        each = ["--workers", str(max(1, 2 // arguments.machines))]
        commands = [[*search, *each], *[["unshare", "--mount", *worker, *each]] * (arguments.machines - 1)]
        subprocess.run([*search, "--workers", "0"], check=True, stdout=subprocess.DEVNULL)
        soak = Soak(url, commands, random.Random(arguments.seed))  # noqa: S311
        began = time.monotonic()
        under_fire(soak, arguments.trials, arguments.kills)
        seconds = time.monotonic() - began
        settings = StudySettings.model_validate(
            studies.stored_settings(studies.find(open_storage(StorageUrl.parse(url), create=False), NAME))
        )
        trials = soak.trials()
        ended = [trial for trial in trials if trial.state in ENDED]
        needed = sum(
            len(trial.intermediate_values) for trial in trials if storage_trials.SAME_AS not in trial.user_attrs
        )
        repeated = len(log.read_text().splitlines()) - needed
        kills = sum(soak.kills.values())
        other = differing(ended, settings)
        states = Counter(trial.state.name for trial in trials)
        left = [path for path in folder.rglob("*") if path.is_file() and "checkpoints" in path.parts]
        scratch = [path for path in folder.rglob(".*") if path.is_file()]
        checks = {
            f"{kills} kills ({dict(soak.kills)}) in {soak.runs} runs, {seconds:.0f} s": kills >= arguments.kills,
            f"{len(ended)} of {arguments.trials} finished": len(ended) == arguments.trials,
            f"{len(soak.lost)} lost or told again": not soak.lost,
            f"trials by state {dict(states)}, none running": not states["RUNNING"],
            f"{repeated} evaluations repeated, {repeated / max(1, kills):.2f} a kill, of {needed}": repeated <= kills,
            f"{len(other)} points differ from trainings without kills, over {len(ended)} trials": not other,
            f"{len(left)} checkpoints and {len(scratch)} half-written files left": not left and not scratch,
        }
        print()
        for what, holds in checks.items():
            print(f"{'holds' if holds else 'FAILS'}: {what}")
        print(*other[:10], *(str(path) for path in [*left, *scratch][:10]), sep="\n")
        sys.exit(not all(checks.values()))


if __name__ == "__main__":
    main()
