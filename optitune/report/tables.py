"""The tables and sentences of a report, as text: what a page shows without a figure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from optitune.common.text import Unit, duration, listed, plural, short
from optitune.comparing.results import Comparison
from optitune.comparing.sentences import bound, interval, no_interval
from optitune.report.data import ENOUGH, Influence, agreement
from optitune.retraining.results import Tested
from optitune.space.configuration import Configuration, settings_text
from optitune.statistics.costs import Change, Cost, Reached
from optitune.statistics.runs import Run
from optitune.statistics.verdict import Place
from optitune.study.records import TrialRecord, best, counts, standings

UNKNOWN = "–"

RELATIONS = {"better": "better", "worse": "worse", "equal": "equal in practice", "undecided": "undecided"}


@dataclass(frozen=True)
class Table:
    """Rows under headings; the first cell of each is its name, an optimizer's where `optimizers`."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    optimizers: bool = True


def compared(found: Comparison, unit: Unit) -> Table:
    """How good every optimizer is, and how sure that is."""
    verdict = found.verdict
    sure = f"{100 * (1 - verdict.error):.0f} %"
    columns = (
        "optimizer",
        f"held-out {unit.metric}",
        "95 % interval",
        "its loss",
        "runs",
        "probability of being best",
        f"difference to {verdict.leader}",
        f"its bounds, {sure}",
        "so it is",
    )
    others = "validation examples, the same in all" if found.plan.validation else "others"
    caption = (
        f"Each optimizer's best configuration, trained anew: {verdict.runs} runs in all, "
        f"{plural(found.plan.epochs, 'epoch')} each on {found.plan.train_examples} examples, judged on "
        f"{found.plan.held_out} {others}. With {sure} confidence, however often one looks, the best is not among those "
        "called worse; a difference of less than "
        f"{unit.difference(verdict.epsilon)} does not matter."
    )
    return Table(caption, columns, tuple(_stands(place, verdict.leader, found.runs, unit) for place in verdict.places))


def _stands(place: Place, leader: str, runs: Iterable[Run], unit: Unit) -> tuple[str, ...]:
    value, apart = place.value, place.to_leader
    ran = len(value.each) if value else 0
    known = value is not None and value.low is not None and value.high is not None
    if place.diverged:
        relation = f"out: {place.diverged} of {ran + place.diverged} runs diverged"
    elif place.optimizer == leader:
        relation = "the leader"
    else:
        relation = RELATIONS[apart.relation] if apart else UNKNOWN
    bounded = apart is not None and isfinite(apart.low) and isfinite(apart.high)
    return (
        place.optimizer,
        unit.value(value.mean) if value else UNKNOWN,
        unit.span(value.low, value.high) if known and value else UNKNOWN,  # type: ignore[arg-type]
        f"{place.loss.mean:.4g}" if place.loss else UNKNOWN,
        str(ran + place.diverged),
        f"{place.best:.2f}",
        unit.signed(apart.mean) if apart else UNKNOWN,
        bound(apart, unit) if bounded and apart else UNKNOWN,
        relation,
    )


def costs(found: Comparison, unit: Unit) -> Table:
    """What every optimizer costs, and how much it hangs on its settings."""
    target = unit.value(found.target) if found.target is not None else "the target"
    columns = (
        "optimizer",
        f"time to {target}",
        "an epoch",
        "memory, × weights",
        "half the lr",
        "twice the lr",
        "gained by tuning",
        "diverged in the search",
    )
    caption = (
        f"Times are medians over the runs, to the first evaluation that reaches {target}; memory is what the optimizer "
        "keeps beside weights and gradients; what another lr changes, and what tuning gained over known-good settings, "
        "are means over the runs in brackets."
    )
    return Table(caption, columns, tuple(_cost(found.costs[place.optimizer], unit) for place in found.verdict.places))


def _cost(cost: Cost, unit: Unit) -> tuple[str, ...]:
    return (
        cost.optimizer,
        _time_to(cost.target),
        duration(cost.epoch_seconds) if cost.epoch_seconds is not None else UNKNOWN,
        f"{cost.state:.1f}" if cost.state is not None else UNKNOWN,
        _change(cost.half, unit, 1),
        _change(cost.twice, unit, 1),
        _change(cost.tuning, unit, -1),
        f"{100 * cost.diverged:.0f} %" if cost.diverged is not None else UNKNOWN,
    )


def _time_to(target: Reached) -> str:
    if target.seconds is None or target.epochs is None:
        return f"in {target.reached} of {target.rounds} runs"
    every = "" if target.reached == target.rounds else f", {target.reached} of {target.rounds} runs"
    return f"{duration(target.seconds)} (epoch {target.epochs:.3g}{every})"


def _change(change: Change | None, unit: Unit, sign: int) -> str:
    if change is None:
        return UNKNOWN
    told = "diverged" if change.change is None else unit.signed(sign * change.change + 0.0)
    return f"{told} ({change.rounds})"


def searched(trials: Sequence[TrialRecord], optimizers: Iterable[str], unit: Unit) -> Table:
    """How the optimizers stand in a search."""
    stand, rows = standings(trials, optimizers), []
    failed = ("failed",) if any(row.failed for row in stand) else ()
    ends = ("trials", "pruned", "diverged", *failed)
    columns = ("optimizer", f"best {unit.metric}, one run", "its lr", "trial", *ends, "epochs")
    for row in stand:
        found = row.best
        told = (unit.value(found.value), short(found.configuration.lr), str(found.number)) if (
            found is not None and found.value is not None and found.configuration is not None
        ) else (UNKNOWN,) * 3  # fmt: skip
        ended = (row.finished, row.pruned, row.diverged, *([row.failed] if failed else []))
        rows.append((row.optimizer, *told, *map(str, ended), f"{row.epochs:.1f}"))
    caption = "The search's trials by optimizer: the best of each is the luckiest of its runs, and so no estimate."
    return Table(caption, columns, tuple(rows))


def unsure(name: str, trials: Sequence[TrialRecord], unit: Unit) -> tuple[str, str]:
    """What is known without a comparison: a headline and advice."""
    leader, number = best(trials), counts(trials)
    if leader is None or leader.value is None:
        return f"No trial of {name} is complete yet, so nothing is known.", "Go on with the search:"
    headline = (
        f"{leader.optimizer} leads the search with a validation {unit.metric} of {unit.value(leader.value)}, "
        "but that is one lucky run."
    )
    advice = (
        f"The best of {number['complete']} complete trials is chosen for its luck too, so it is no estimate, and the "
        "order of the optimizers may be another one. To train the best of each anew on fresh seeds, and to know how "
        "sure the choice is:"
    )
    return headline, advice


def tested(result: Tested, found: Comparison | None, unit: Unit, sign: int) -> list[str]:
    """What a full training came to, and how that agrees with the comparison."""
    value, name = result.value, result.plan.configuration.optimizer.name
    runs = plural(len(value.each), "seed")
    spread = (
        f"95 % interval {unit.span(value.low, value.high)}, Student's t over {runs}"
        if value.low is not None and value.high is not None and value.sd
        else no_interval(value.each)
    )
    told = [
        f"{name}, trained in full for {plural(result.plan.epochs, 'epoch')} on everything but the test set: "
        f"test {unit.metric} {unit.value(value.mean)} ({spread})."
    ]
    if found is None:
        return told
    place = compared_as(result, found)
    if place is None or place.value is None:
        taken = found.recommendation.optimizer
        return [*told, f"That is not what the comparison looked at, which says to take {taken}."]
    if relation := agreement(value.mean, place.value, sign):
        told.append(
            f"That is {relation} the comparison's interval, {interval(place, unit)}, of runs of "
            f"{plural(found.plan.epochs, 'epoch')} on {found.plan.train_examples} examples, "
            "judged on others than the test set's."
        )
    return told


def compared_as(result: Tested, found: Comparison) -> Place | None:
    """Where the comparison has the configuration that was tested; None where it has not."""
    name = result.plan.configuration.optimizer.name
    there = name in found.plan.optimizers and found.plan.finalist(name).trial == result.trial
    return found.verdict.place(name) if there else None


def too_few(rows: Sequence[Influence]) -> str:
    """Of which optimizers no importance is told, and why; empty where it is of all."""
    few = [f"{row.optimizer} ({row.trials})" for row in rows if row.trials < ENOUGH]
    flat = [row.optimizer for row in rows if row.trials >= ENOUGH and not row.shares]
    told = []
    if few:
        told.append(f"Fewer than {ENOUGH} finished trials are too few to tell it: {listed(few)}.")
    if flat:
        told.append(f"In the trials of {listed(flat)}, nothing differs.")
    return " ".join(told)


def configurations(rows: Iterable[tuple[str, int, Configuration]]) -> Table:
    """What was compared, or is the best of each optimizer."""
    texts = tuple((name, str(trial), settings_text(configuration)) for name, trial, configuration in rows)
    return Table("The configurations.", ("optimizer", "trial", "settings"), texts)


def versions(stages: Mapping[str, Mapping[str, Any]]) -> Table:
    """With what each stage ran."""
    names = list(dict.fromkeys(name for each in stages.values() for name in each))
    rows = tuple((name, *(str(each.get(name, UNKNOWN)) for each in stages.values())) for name in names)
    return Table("Versions.", ("package", *stages), rows, optimizers=False)
