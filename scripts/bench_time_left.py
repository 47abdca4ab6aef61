"""How right the time left of a search is: finished studies replayed, the estimate against what it then took.

Looks at each study when a quarter, a half and three quarters of its time had passed, as a live view would have, and
prints what it would have said, how long it really took from there, and by how much the one is off the other.

    python scripts/bench_time_left.py STUDY.db ...

Studies that are unfinished, or that were stopped in between, tell nothing of this and are named as such.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from statistics import median

import optuna

from optitune.errors import OptituneError
from optitune.storage import studies as study
from optitune.storage import trials
from optitune.storage.urls import open_storage, sqlite_url
from optitune.study.records import FINISHED, TrialRecord
from optitune.study.settings import StudySettings
from optitune.terminal.time_left import time_left

MOMENTS = (0.25, 0.5, 0.75)
"""At what shares of a search's time."""

GOOD = 0.2
"""How far off an estimate may be to count as right."""

Row = tuple[float | None, float]
"""What would have been said, and what it took, in seconds."""


def ended(rows: Sequence[TrialRecord]) -> list[tuple[TrialRecord, datetime, datetime]]:
    """Trials with their begin and end."""
    return [(row, row.began, row.ended) for row in rows if row.began and row.ended]


def at_once(rows: Sequence[TrialRecord]) -> int:
    """How many trials were under way at the same time, at most: one worker each."""
    spans = ended(rows)
    return max(sum(began <= moment < end for _, began, end in spans) for _, moment, _ in spans)


def seen_at(rows: Sequence[TrialRecord], moment: datetime) -> tuple[list[TrialRecord], list[tuple[str, float]]]:
    """The trials that had ended at a moment; and of those under way, what they had last reported."""
    done, doing = [], []
    for row, began, end in ended(rows):
        if end <= moment:
            done.append(row)
        elif began <= moment:
            passed = (moment - began) / (end - began)
            points = max(1, len(row.curve))
            doing.append((str(row.optimizer), int(passed * points) / points * row.epochs))
    return done, doing


def stopped(rows: Sequence[TrialRecord]) -> bool:
    """Whether nothing was under way for longer than the longest training took."""
    spans = sorted((began, end) for _, began, end in ended(rows))
    longest = timedelta(seconds=max(row.seconds or 0.0 for row in rows)) + timedelta(seconds=1)
    latest = spans[0][1]
    for began, end in spans:
        if began - latest > longest or end - began > 2 * longest:
            return True
        latest = max(latest, end)
    return False


def replayed(rows: Sequence[TrialRecord], settings: StudySettings) -> list[Row]:
    """A study's rows, one for each of `MOMENTS`."""
    spans = ended(rows)
    first, last = min(began for _, began, _ in spans), max(end for _, _, end in spans)
    workers, found = at_once(rows), []
    for share in MOMENTS:
        moment = first + share * (last - first)
        done, doing = seen_at(rows, moment)
        said = time_left(done, doing, settings, len(rows), workers)
        found.append((said, (last - moment).total_seconds()))
    return found


def studies(path: Path) -> list[tuple[str, list[TrialRecord], StudySettings]]:
    """The finished trials of each study in a file, and what it was made with."""
    storage = open_storage(sqlite_url(path), create=False)
    found = []
    for name in optuna.get_all_study_names(storage):
        opened = study.find(storage, name)
        rows = [replace(row) for row in trials.records(opened) if row.outcome in FINISHED and row.configuration]
        settings = study.settings_of(opened)
        found.append((name, rows, settings))
    return found


def off(said: float, took: float) -> str:
    return f"{said:7.1f} of {took:7.1f} ({100 * (said - took) / took:+4.0f} %)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    errors: dict[float, list[float]] = {share: [] for share in MOMENTS}
    silent = 0
    print("said and true seconds left after", ", ".join(f"{share:.0%}" for share in MOMENTS), "of the time")
    for path in parser.parse_args().files:
        try:
            found = studies(path)
        except OptituneError as error:
            print(f"{path}: left out: {error}")
            continue
        for name, rows, settings in found:
            place = f"{path.parent.name}/{name}"
            if len(rows) < 2 or stopped(rows) or not all(row.ended for row in rows):
                print(f"{place}: left out: unfinished, or stopped in between")
                continue
            cells = []
            for share, (said, took) in zip(MOMENTS, replayed(rows, settings), strict=True):
                if said is None:
                    silent += 1
                    cells.append(f"nothing of {took:7.1f}         ")
                else:
                    errors[share].append(abs(said - took) / took)
                    cells.append(off(said, took))
            print(f"{place:24.24s} {len(rows):4d} trials  " + "  ".join(cells))
    for share, known in errors.items():
        if known:
            right = sum(error <= GOOD for error in known)
            print(
                f"after {share:.0%}: median error {100 * median(known):.0f} %, largest {100 * max(known):.0f} %; "
                f"within {GOOD:.0%} in {right} of {len(known)}"
            )
    print(f"said nothing {silent} times")


if __name__ == "__main__":
    main()
