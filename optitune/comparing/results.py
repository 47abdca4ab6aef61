"""What a comparison says, and its plan and verdict on disk; no torch, so that `show` needs none."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, NonNegativeFloat, TypeAdapter
from pydantic_core import from_json

from optitune.common.files import write_text
from optitune.common.schema import Strict
from optitune.common.text import Unit
from optitune.comparing.sentences import advice, headline
from optitune.errors import OptituneError
from optitune.statistics.costs import Cost, Recommendation, costs, recommend, target_of
from optitune.statistics.runs import PREFER, UNTIL, Plan, Prefer, Run, Until, finalists_runs
from optitune.statistics.verdict import Verdict, judge
from optitune.storage import studies
from optitune.study.records import TrialRecord, standings
from optitune.tasks.metrics import Metric

FOLDER = "compare"
"""Within the folder of a study."""


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
class Comparison:
    """What a comparison says, and all that it rests on.

    Attributes:
        unit: of the metric.
        target: value of the metric, the time to which is measured; None where nothing finished.
        sentence: which optimizer is best, and how sure that is.
        advice: which to take, and why.
        asked: None of a comparison of an older version, which does not keep it.
    """

    plan: Plan
    unit: Unit
    runs: tuple[Run, ...]
    verdict: Verdict
    costs: dict[str, Cost]
    target: float | None
    recommendation: Recommendation
    sentence: str
    advice: str
    asked: CompareOptions | None = None

    @property
    def left(self) -> int:
        """How many more runs there can be of those of whom more would decide something."""
        return _left(self.plan, self.runs, self.verdict)

    def document(self) -> dict[str, Any]:
        """As `verdict.json` and `--json` have it."""
        verdict = self.verdict
        return {
            "sentence": self.sentence,
            "advice": self.advice,
            "status": verdict.status,
            "leader": verdict.leader,
            "recommended": self.recommendation.optimizer,
            "trial": self.plan.finalist(self.recommendation.optimizer).trial,
            "metric": self.plan.metric,
            "epsilon": verdict.epsilon,
            "error": verdict.error,
            "target": self.target,
            "runs": verdict.runs,
            "more_runs": verdict.more_runs,
            "places": [
                {
                    **_finite(asdict(place)),
                    "trial": self.plan.finalist(place.optimizer).trial,
                    **{key: value for key, value in asdict(self.costs[place.optimizer]).items() if key != "optimizer"},
                }
                for place in verdict.places
            ],
            "differences": [_finite(asdict(each)) for each in verdict.differences],
            **({"asked": self.asked.model_dump(mode="json")} if self.asked else {}),
        }


def _left(plan: Plan, runs: Sequence[Run], verdict: Verdict) -> int:
    return sum(plan.rounds - len(finalists_runs(runs, name)) for name in verdict.wanted)


def _finite(value: Any) -> Any:
    """Numbers that are not known yet are infinite; JSON has no word for that."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and abs(value) == float("inf") else value


def conclude(
    plan: Plan,
    runs: Sequence[Run],
    trials: Sequence[TrialRecord],
    metric: Metric,
    epsilon: float,
    target: float | None = None,
) -> Comparison | None:
    """What these runs say; None while there are none.

    Args:
        trials: of the search.
        epsilon: what difference does not matter.
        target: of the metric; None for what the weakest of those that are not out reaches.

    Raises:
        OptituneError: every run diverged.
    """
    if not runs:
        return None
    verdict = judge(runs, plan.optimizers, metric.sign, epsilon, (metric.lowest, metric.highest))
    if verdict is None:
        if {run.key.optimizer for run in runs} < set(plan.optimizers):
            return None
        raise OptituneError(
            f"all {len(plan.finalists)} finalists diverged on a fresh seed: search more trials, or ranges with lower lr"
        )
    if target is None:
        target = target_of(runs, verdict.contenders, metric.sign)
    untuned = {each.optimizer: each.untuned for each in plan.finalists}
    found = costs(runs, plan.optimizers, trials, plan.epochs, target, metric.sign, untuned)
    recommendation = recommend(verdict.leader, verdict.related("equal") if verdict.status == "tied" else (), found)
    unit = metric.unit
    left = _left(plan, runs, verdict)
    return Comparison(
        plan=plan,
        unit=unit,
        runs=tuple(runs),
        verdict=verdict,
        costs=found,
        target=target,
        recommendation=recommendation,
        sentence=headline(verdict, unit, left),
        advice=advice(verdict, recommendation, found, target, unit),
    )


def save_plan(folder: Path, plan: Plan) -> None:
    """Write what the runs beside it are of."""
    write_text(folder / "plan.json", plan.model_dump_json(indent=1))


def load_plan(folder: Path) -> Plan | None:
    """The plan in `folder`; None where there is none, or none of this version."""
    try:
        return Plan.model_validate_json((folder / "plan.json").read_bytes())
    except (OSError, ValueError):
        return None


def save_verdict(folder: Path, found: Comparison) -> None:
    """Write what the runs say."""
    document = {**found.document(), "versions": studies.versions()}
    write_text(folder / "verdict.json", json.dumps(document, indent=1))


@dataclass(frozen=True)
class StoredPlace:
    """What of a place in a `verdict.json` is relied on."""

    optimizer: str
    best: float


@dataclass(frozen=True)
class StoredVerdict:
    """What of a `verdict.json` is relied on."""

    sentence: str
    advice: str
    runs: int
    places: tuple[StoredPlace, ...]
    epsilon: NonNegativeFloat
    target: float | None
    trial: int
    versions: dict[str, str]
    asked: CompareOptions | None = None


STORED_VERDICT = TypeAdapter(StoredVerdict)


def load_verdict(folder: Path) -> dict[str, Any] | None:
    """The `verdict.json` in `folder`; None where there is none that can be read."""
    try:
        # what is not relied on is handed on as well: it has to be JSON, which knows no nan
        found: dict[str, Any] = from_json((folder / "verdict.json").read_bytes(), allow_inf_nan=False)
        STORED_VERDICT.validate_json(json.dumps(found), strict=True)
    except (OSError, ValueError):
        return None
    return found


def load(folder: Path, trials: Sequence[TrialRecord], metric: Metric) -> Comparison | None:
    """Read the comparison in a folder, concluded as it was; None where there is none.

    Args:
        folder: of the comparison.
        trials: the study's trials.
        metric: the study's metric.

    Raises:
        OptituneError: a file is damaged.
    """
    plan, verdict = load_plan(folder), load_verdict(folder)
    if plan is None or verdict is None:
        return None
    from optitune.comparing.kept_runs import load_runs

    found = conclude(plan, load_runs(folder), trials, metric, verdict["epsilon"], verdict["target"])
    if found is None:
        return None
    kept = {place["optimizer"]: place["best"] for place in verdict["places"]}
    if verdict["runs"] == found.verdict.runs and set(kept) == {place.optimizer for place in found.verdict.places}:
        # the draws behind P(best) differ in a digit between processors: what was printed once holds
        places = tuple(replace(place, best=kept[place.optimizer]) for place in found.verdict.places)
        said = {"sentence": verdict["sentence"], "advice": verdict["advice"]}
        found = replace(found, verdict=replace(found.verdict, places=places), **said)
    asked = verdict.get("asked")
    if asked is None:
        return found
    return replace(found, asked=CompareOptions.model_validate_json(json.dumps(asked)))


def searched_on(plan: Plan, trials: Sequence[TrialRecord]) -> list[str]:
    """The finalists whose optimizer has a better trial by now than the one that was compared."""
    best = {row.optimizer: row.best.number for row in standings(trials, plan.optimizers) if row.best is not None}
    return [each.optimizer for each in plan.finalists if best.get(each.optimizer, each.trial) != each.trial]


def taken(folder: Path, trials: Mapping[str, int]) -> int | None:
    """The trial whose configuration the comparison in `folder` says to take, for sure or for the time being.

    Args:
        trials: the numbers of each optimizer's best trial by now.

    Returns:
        None where there is no comparison, or where the search has found better since.
    """
    plan, verdict = load_plan(folder), load_verdict(folder)
    if plan is None or verdict is None or any(trials.get(each.optimizer) != each.trial for each in plan.finalists):
        return None
    trial = verdict.get("trial")
    return trial if trial in trials.values() else None
