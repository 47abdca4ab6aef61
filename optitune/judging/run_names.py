"""The arm and the seed in the name of a run, as of `adam/seed-3`, `adam_seed3`, `adam-3` or `trial-0003-adam`."""

import re

WORDS = "seed|rep|repeat|replicate|run|round|version|trial|fold|split|s"

ENDS = re.compile(rf"(?:^|[-_/\\ ])(?:(?:{WORDS})[-_= ]?)?(\d+)$", re.IGNORECASE)
WITHIN = re.compile(r"(?:^|[-_/\\ .])seed[-_= ]?(\d+)(?=$|[-_/\\ .])", re.IGNORECASE)
BEGINS = re.compile(rf"^(?:{WORDS})[-_= ]?(\d+)[-_/\\ ]", re.IGNORECASE)


def parted(name: str) -> tuple[str, str | None]:
    """The arm and the seed in the name of a run; None where it has no seed."""
    for pattern in (WITHIN, ENDS, BEGINS):
        if found := pattern.search(name):
            parts = [part.strip("-_/\\ .") for part in (name[: found.start()], name[found.end() :])]
            arm = "-".join(filter(None, parts))
            if arm:
                return arm, str(int(found[1]))
    return name, None
