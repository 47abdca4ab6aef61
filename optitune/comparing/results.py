"""What a comparison says, and its plan and verdict on disk; no torch, so that `show` needs none."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from optitune.common.files import write_text
from optitune.common.text import Unit
from optitune.comparing.sentences import advice, headline
from optitune.comparing.stored_verdict import STORED_VERDICT, CompareOptions, restored
from optitune.errors import OptituneError
from optitune.statistics.costs import Cost, Recommendation, costs, recommend, target_of
from optitune.statistics.runs import PREFER, UNTIL, Plan, Prefer, Run, Until, finalists_runs
from optitune.statistics.verdict import Verdict, judge
from optitune.storage import studies
from optitune.study.records import TrialRecord, standings
from optitune.tasks.metrics import Metric

FOLDER = "compare"
"""Within the folder of a study."""


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
            "rule": verdict.rule,
            "rounds": verdict.rounds,
            "loss": _finite(verdict.loss),
            "wanted": list(verdict.wanted),
            "next_runs": verdict.next_runs,
            "next_loss": _finite(verdict.next_loss),
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
    until: Until = UNTIL,
    prefer: Prefer = PREFER,
) -> Comparison | None:
    """What these runs say; None while there are none.

    Args:
        trials: of the search.
        epsilon: what difference does not matter.
        target: of the metric; None for what the weakest of those that are not out reaches.
        until: what is enough to be decided.
        prefer: by what one is taken of those that are as good as the best.

    Raises:
        OptituneError: every run diverged.
    """
    if not runs:
        return None
    limits = metric.lowest, metric.highest
    verdict = judge(runs, plan.optimizers, metric.sign, epsilon, plan.rounds, limits, until=until, prefer=prefer)
    return _concluded(plan, runs, trials, metric, verdict, target)


def _concluded(
    plan: Plan,
    runs: Sequence[Run],
    trials: Sequence[TrialRecord],
    metric: Metric,
    verdict: Verdict | None,
    target: float | None,
) -> Comparison | None:
    """The costs, and all in words.

    Raises:
        OptituneError: every run diverged.
    """
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

    runs = load_runs(folder)
    asked = verdict.get("asked")
    options = CompareOptions.model_validate_json(json.dumps(asked)) if asked is not None else None
    kept = restored(verdict, runs)
    if kept is None:
        until, prefer = (options.until, options.prefer) if options else (UNTIL, PREFER)
        found = conclude(plan, runs, trials, metric, verdict["epsilon"], verdict["target"], until, prefer)
    else:
        found = _concluded(plan, runs, trials, metric, kept, verdict["target"])
    if found is None:
        return None
    if kept is not None:
        found = replace(found, sentence=verdict["sentence"], advice=verdict["advice"])
    return replace(found, asked=options)


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
