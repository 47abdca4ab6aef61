"""A verdict as `verdict.json` keeps it: what was once said is read, not judged again, also of older versions."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, NonNegativeFloat, NonNegativeInt, TypeAdapter

from optitune.common.schema import Strict
from optitune.common.summary import Summary
from optitune.statistics.differences import Difference, Relation
from optitune.statistics.runs import PREFER, UNTIL, Prefer, Run, Until, finalists_runs
from optitune.statistics.verdict import Place, Rule, Status, Verdict

Upper = Annotated[float, BeforeValidator(lambda stored: inf if stored is None else stored)]
Lower = Annotated[float, BeforeValidator(lambda stored: -inf if stored is None else stored)]
"""Bounds that are not known yet: JSON has no word for infinite ones."""


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
class StoredDifference:
    """What of a difference in a `verdict.json` is relied on."""

    one: str
    other: str
    rounds: NonNegativeInt
    mean: float
    sd: Upper
    low: Lower
    high: Upper
    relation: Relation
    within: Upper = inf


@dataclass(frozen=True)
class StoredPlace:
    """What of a place in a `verdict.json` is relied on."""

    optimizer: str
    value: Summary | None
    loss: Summary | None
    best: float
    to_leader: StoredDifference | None
    out: bool
    regret: Upper = inf


@dataclass(frozen=True)
class StoredVerdict:
    """What of a `verdict.json` is relied on; the last ones are not in files of version 0.1."""

    sentence: str
    advice: str
    status: Status
    leader: str
    error: float
    runs: NonNegativeInt
    places: tuple[StoredPlace, ...]
    differences: tuple[StoredDifference, ...]
    epsilon: NonNegativeFloat
    target: float | None
    trial: NonNegativeInt
    versions: dict[str, str]
    asked: CompareOptions | None = None
    rule: Rule = "any number of rounds, Cauchy prior"
    rounds: NonNegativeInt | None = None
    loss: Upper = inf
    wanted: tuple[str, ...] = ()
    next_runs: NonNegativeInt = 0
    next_loss: Upper = inf


STORED_VERDICT = TypeAdapter(StoredVerdict)


def restored(document: Mapping[str, Any], runs: Sequence[Run]) -> Verdict | None:
    """The verdict of a document that `load_verdict` read; None where there are other runs by now.

    Args:
        document: of a `verdict.json`.
        runs: that lie beside it.
    """
    stored = STORED_VERDICT.validate_json(json.dumps(document))
    own = {place.optimizer: finalists_runs(runs, place.optimizer) for place in stored.places}
    if sum(map(len, own.values())) != stored.runs or stored.leader not in own:
        return None
    places = tuple(
        Place(
            optimizer=place.optimizer,
            value=place.value,
            loss=place.loss,
            # the document has the share of diverged trials by this name
            diverged=sum(bool(run.diverged) for run in own[place.optimizer]),
            best=place.best,
            to_leader=Difference(**vars(place.to_leader)) if place.to_leader else None,
            out=place.out,
            regret=place.regret,
        )
        for place in stored.places
    )
    return Verdict(
        status=stored.status,
        leader=stored.leader,
        places=places,
        differences=tuple(Difference(**vars(each)) for each in stored.differences),
        epsilon=stored.epsilon,
        error=stored.error,
        runs=stored.runs,
        loss=stored.loss,
        rule=stored.rule,
        rounds=stored.rounds,
        wanted=stored.wanted,
        next_runs=stored.next_runs,
        next_loss=stored.next_loss,
    )
