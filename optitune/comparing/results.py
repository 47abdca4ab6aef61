"""What a comparison says, and its plan and verdict on disk; no torch, so that `show` needs none."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import ceil, isfinite
from pathlib import Path
from statistics import median
from typing import Any

from pydantic_core import from_json

from optitune.common.files import write_text
from optitune.common.text import Unit
from optitune.comparing.sentences import OLD_RULE, said, worth_more
from optitune.comparing.stored_verdict import CompareOptions, check, restored
from optitune.errors import OptituneError
from optitune.statistics.choice import Recommendation, recommend
from optitune.statistics.costs import Cost, Untuned, costs, target_of, untuned
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
        sentence: which optimizer to take, and what that can cost.
        advice: whether to go on, and how.
        untuned: optimizers that the comparison's own other settings make better.
        epsilon_from: where epsilon comes from, in words; empty where it is not known.
        next_seconds: what one more round takes; None where it is not known.
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
    untuned: tuple[Untuned, ...] = ()
    epsilon_from: str = ""
    next_seconds: float | None = None
    asked: CompareOptions | None = None

    @property
    def goes_on_to(self) -> int:
        """Up to how many runs it is worth to go on, so that all rounds can be trained; 0 where it is not."""
        if not worth_more(self.verdict):
            return 0
        done = len(finalists_runs(self.runs, self.verdict.leader))
        return self.verdict.runs + self.verdict.next_runs * max(1, self.plan.rounds - done)

    @property
    def old_rule(self) -> bool:
        """Whether it was made, and is judged, by the rule of version 0.1."""
        return self.verdict.rule == OLD_RULE

    def document(self) -> dict[str, Any]:
        """As `verdict.json` and `--json` have it."""
        verdict = self.verdict
        said: dict[str, Any] = {
            "sentence": self.sentence,
            "advice": self.advice,
            "status": verdict.status,
            "leader": verdict.leader,
            "recommended": self.recommendation.optimizer,
            "trial": self.plan.finalist(self.recommendation.optimizer).trial,
            "metric": self.plan.metric,
            "prefer": self.recommendation.prefer,
            "loss": verdict.loss,
            "recommended_loss": verdict.place(self.recommendation.optimizer).regret,
            "epsilon": verdict.epsilon,
            "epsilon_from": self.epsilon_from,
            "error": verdict.error,
            "target": self.target,
            "runs": verdict.runs,
            "rule": verdict.rule,
            "rounds": verdict.rounds,
            "wanted": list(verdict.wanted),
            "next_runs": verdict.next_runs,
            "next_loss": verdict.next_loss,
            "next_seconds": self.next_seconds,
            "as_good": list(self.recommendation.good),
            "front": list(self.recommendation.front),
            "untuned": [asdict(each) for each in self.untuned],
            "places": [
                {
                    **asdict(place),
                    "trial": self.plan.finalist(place.optimizer).trial,
                    **{key: value for key, value in asdict(self.costs[place.optimizer]).items() if key != "optimizer"},
                }
                for place in verdict.places
            ],
            "differences": [asdict(each) for each in verdict.differences],
            **({"asked": self.asked.model_dump(mode="json")} if self.asked else {}),
        }
        return {key: _finite(value) for key, value in said.items()}


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
    epsilon_from: str = "",
    workers: int | None = None,
) -> Comparison | None:
    """What these runs say; None while there are none.

    Args:
        trials: of the search.
        epsilon: what difference does not matter.
        target: of the metric; None for what the weakest of those that are not out reaches.
        until: what is enough to be decided.
        prefer: by what one is taken of those that are as good as the best.
        epsilon_from: where epsilon comes from, in words.
        workers: how many train at once; None where it is not known, and neither is what a round takes.

    Raises:
        OptituneError: every run diverged.
    """
    if not runs:
        return None
    limits = metric.lowest, metric.highest
    verdict = judge(runs, plan.optimizers, metric.sign, epsilon, plan.rounds, limits, until=until, prefer=prefer)
    return _concluded(plan, runs, trials, metric, verdict, target, prefer, epsilon_from, workers)


def _concluded(
    plan: Plan,
    runs: Sequence[Run],
    trials: Sequence[TrialRecord],
    metric: Metric,
    verdict: Verdict | None,
    target: float | None,
    prefer: Prefer,
    epsilon_from: str,
    workers: int | None = None,
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
    as_known = {each.optimizer: each.untuned for each in plan.finalists}
    found = costs(runs, plan.optimizers, trials, plan.epochs, target, metric.sign, as_known)
    losses = {place.optimizer: place.regret for place in verdict.places if not place.out}
    choice = recommend(runs, verdict.leader, losses, verdict.epsilon, prefer)
    better = _better_settings(runs, verdict, choice, metric.sign)
    seconds = _next_seconds(runs, verdict, workers)
    words = said(verdict, metric.unit, choice, seconds, better)
    return Comparison(
        plan=plan,
        unit=metric.unit,
        runs=tuple(runs),
        verdict=verdict,
        costs=found,
        target=target,
        recommendation=choice,
        sentence=words.sentence,
        advice=words.advice,
        untuned=better,
        epsilon_from=epsilon_from,
        next_seconds=seconds,
    )


def _better_settings(runs: Sequence[Run], verdict: Verdict, choice: Recommendation, sign: int) -> tuple[Untuned, ...]:
    """The optimizers that other settings make better, if they are the one to take or would overtake the leader."""
    spreads = [each.sd for each in verdict.differences if isfinite(each.sd)]
    if not spreads:
        return ()
    names = (choice.optimizer, *(name for name in verdict.contenders if name != choice.optimizer))
    behind = {place.optimizer: -place.to_leader.mean if place.to_leader else 0.0 for place in verdict.places}
    found = untuned(runs, names, sign, verdict.epsilon, median(spreads))
    return tuple(each for each in found if each.optimizer == choice.optimizer or each.better > behind[each.optimizer])


def _next_seconds(runs: Sequence[Run], verdict: Verdict, workers: int | None) -> float | None:
    """How long one more round takes."""
    trained = [run.seconds for run in runs if run.key.optimizer in verdict.contenders and not run.diverged]
    if workers is None or not trained:
        return None
    return ceil(verdict.next_runs / workers) * median(trained)


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
        check(found)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
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
    until, prefer = (options.until, options.prefer) if options else (UNTIL, PREFER)
    target, origin = verdict["target"], verdict.get("epsilon_from", "")
    kept = restored(verdict, runs)
    if kept is None:
        found = conclude(plan, runs, trials, metric, verdict["epsilon"], target, until, prefer, origin)
    else:
        found = _concluded(plan, runs, trials, metric, kept, target, prefer, origin)
    if found is None:
        return None
    if kept is not None:
        names = [each.optimizer for each in plan.finalists if each.trial == verdict["trial"]]
        found = replace(
            found,
            sentence=verdict["sentence"],
            advice=verdict["advice"],
            next_seconds=verdict.get("next_seconds"),
            recommendation=replace(found.recommendation, optimizer=(*names, kept.leader)[0]),
        )
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
