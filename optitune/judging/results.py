"""What runs that were trained elsewhere say: a judgement for each task, and one over all."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

from optitune.common.text import Unit
from optitune.judging.next_runs import NextRuns
from optitune.statistics.choice import Recommendation
from optitune.statistics.runs import Run
from optitune.statistics.verdict import Verdict


def finite(value: Any) -> Any:
    """Numbers that are not known yet are infinite; JSON has no word for that."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not isfinite(value) else value


@dataclass(frozen=True)
class Judgement:
    """The verdict on one task, or over all tasks.

    Attributes:
        task: its name; empty where there is one alone.
        unit: of the metric.
        sign: 1 where more is better, -1 where less is.
        runs: what was judged.
        verdict: which arms are better, equal or undecided.
        choice: the arm to take, and what others would save.
        epsilon_from: where epsilon comes from, in words.
        paired: whether runs of one seed were compared with each other.
        rounds: how many were planned; None for any number.
        sentence: the decision.
        advice: what to train next.
        next_runs: the same as numbers; None where nothing is to be trained.
        notes: what is peculiar to the runs, a sentence each.
        seconds: mean seconds of a run by arm; empty where they are not known.
        tasks: over how many tasks it is; 0 of a verdict on one.
    """

    task: str
    unit: Unit
    sign: int
    runs: tuple[Run, ...]
    verdict: Verdict
    choice: Recommendation
    epsilon_from: str
    paired: bool
    rounds: int | None
    sentence: str
    advice: str
    next_runs: NextRuns | None
    notes: tuple[str, ...]
    seconds: Mapping[str, float]
    tasks: int = 0

    @property
    def recommended(self) -> str:
        """The arm to take."""
        return self.choice.optimizer

    @property
    def arms(self) -> tuple[str, ...]:
        """In the order of their places."""
        return tuple(place.optimizer for place in self.verdict.places)

    def document(self) -> dict[str, Any]:
        """As `--json` prints it."""
        verdict = self.verdict
        places = [asdict(place) for place in verdict.places]
        for place in places:
            # of these runs no loss beside the metric is known
            del place["loss"]
            place["arm"] = place.pop("optimizer")
            place["seconds"] = self.seconds.get(place["arm"])
        document: dict[str, Any] = finite(
            {
                "task": self.task or None,
                "sentence": self.sentence,
                "advice": self.advice,
                "status": verdict.status,
                "leader": verdict.leader,
                "recommended": self.recommended,
                "metric": self.unit.metric,
                "epsilon": verdict.epsilon,
                "epsilon_from": self.epsilon_from,
                "error": verdict.error,
                "loss": verdict.loss,
                "as_good": list(self.choice.good),
                "front": list(self.choice.front),
                "rule": verdict.rule,
                "paired": self.paired,
                "rounds": self.rounds,
                "runs": verdict.runs,
                "next_runs": self.next_runs.runs if self.next_runs else {},
                "places": places,
                "differences": [asdict(each) for each in verdict.differences],
                "notes": list(self.notes),
            }
        )
        return document


@dataclass(frozen=True)
class Judged:
    """Everything that the runs of a source say.

    Attributes:
        source: as messages name it.
        metric: that was judged.
        sign: 1 where more of it is better, -1 where less is.
        sign_from: how that is known, in words.
        tasks: a judgement for each.
        overall: over all tasks; None where there is one alone, or too few of them.
        notes: what is to be known of the source, a sentence each.
    """

    source: str
    metric: str
    sign: int
    sign_from: str
    tasks: tuple[Judgement, ...]
    overall: Judgement | None
    notes: tuple[str, ...]

    @property
    def main(self) -> Judgement:
        """What the first sentence is of: all tasks, or the first one."""
        return self.overall or self.tasks[0]

    def document(self) -> dict[str, Any]:
        """As `--json` prints it: the main judgement, and one for each task."""
        return {
            "source": self.source,
            **self.main.document(),
            "metric": self.metric,
            "higher_is_better": self.sign == 1,
            "direction_from": self.sign_from,
            "notes": [*self.notes, *self.main.notes],
            "tasks": [each.document() for each in self.tasks] if len(self.tasks) > 1 else [],
        }
