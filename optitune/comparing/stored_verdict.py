"""A verdict as `verdict.json` keeps it: what was once said is read, not judged again, also of older versions."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Annotated, Any

from pydantic import Field, NonNegativeInt, TypeAdapter

from optitune.common.schema import Strict
from optitune.statistics.runs import PREFER, UNTIL, Prefer, Run, Until, finalists_runs
from optitune.statistics.verdict import Verdict


class CompareOptions(Strict):
    """Options of a comparison that neither its plan nor its runs hold; None where they were not given.

    Files of version 0.1 have neither `until` nor `prefer`.
    """

    optimizers: tuple[str, ...] | None
    epsilon: Annotated[float, Field(ge=0)] | None
    target: float | None
    sensitivity: Annotated[int, Field(ge=0)]
    until: Until = UNTIL
    prefer: Prefer = PREFER


@dataclass(frozen=True)
class StoredWords:
    """What of a `verdict.json` is relied on beside the verdict itself."""

    sentence: str
    advice: str
    target: float | None
    trial: NonNegativeInt
    versions: dict[str, str]
    asked: CompareOptions | None = None


WORDS, VERDICT = TypeAdapter(StoredWords), TypeAdapter(Verdict)

UNKNOWN = {"sd": inf, "low": -inf, "high": inf, "within": inf, "regret": inf, "loss": inf, "next_loss": inf}
"""Bounds that are not known yet: JSON has no word for infinite ones."""


def check(document: Mapping[str, Any]) -> None:
    """Look whether all that is relied on is there.

    Raises:
        ValueError: something is not.
    """
    WORDS.validate_json(json.dumps(document), strict=True)
    _verdict(document, {})


def _bounded(document: Mapping[str, Any]) -> dict[str, Any]:
    return {key: UNKNOWN[key] if value is None and key in UNKNOWN else value for key, value in document.items()}


def _verdict(document: Mapping[str, Any], diverged: Mapping[str, int]) -> Verdict:
    """The verdict of a document.

    Raises:
        ValueError: it holds none.
    """
    places = [
        {
            **_bounded(place),
            # that of a place is a summary of runs, which there may be none of
            "loss": place["loss"],
            "to_leader": place["to_leader"] and _bounded(place["to_leader"]),
            # the document has the share of diverged trials by this name
            "diverged": diverged.get(place["optimizer"], 0),
        }
        for place in document["places"]
    ]
    differences = [_bounded(each) for each in document["differences"]]
    return VERDICT.validate_python({**_bounded(document), "places": places, "differences": differences})


def restored(document: Mapping[str, Any], runs: Sequence[Run]) -> Verdict | None:
    """The verdict of a document that `load_verdict` read; None where there are other runs by now.

    Args:
        document: of a `verdict.json`.
        runs: that lie beside it.
    """
    own = {place["optimizer"]: finalists_runs(runs, place["optimizer"]) for place in document["places"]}
    found = _verdict(document, {name: sum(bool(run.diverged) for run in each) for name, each in own.items()})
    same = sum(map(len, own.values())) == found.runs and found.leader in own
    return found if same else None
