"""The tables and sentences of a report, as text: what a page shows without a figure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from optitune.common.tables import UNKNOWN, Table
from optitune.common.text import Unit, listed, plural
from optitune.comparing.results import Comparison
from optitune.comparing.sentences import interval, no_interval
from optitune.report.data import ENOUGH, agreement
from optitune.report.importance import Influence
from optitune.retraining.results import Tested
from optitune.retraining.sentences import lengths_tried, trained_on, weights_kept
from optitune.space.configuration import Configuration, settings_text
from optitune.statistics.verdict import Place
from optitune.study.records import TrialRecord, best, counts
from optitune.study.steps import examples_text


def unsure(name: str, trials: Sequence[TrialRecord], unit: Unit) -> tuple[str, str]:
    """A headline and advice for a study that has not been compared.

    Args:
        name: of the study.
        trials: the study's trials, finished and running.
        unit: how the metric is written.
    """
    leader, number = best(trials), counts(trials)
    if leader is None or leader.value is None:
        return f"No trial of {name} is complete yet, so nothing is known.", "Go on with the search:"
    headline = (
        f"{leader.optimizer} leads the search with a validation {unit.metric} of {unit.value(leader.value)}, "
        + ("but that is one lucky run." if leader.runs == 1 else f"the mean of {leader.runs} runs.")
    )
    advice = (
        f"The best of {number['complete']} complete trials is chosen for its luck too, so it is no estimate, and the "
        "order of the optimizers may be another one. To train the best of each anew on fresh seeds, and to know how "
        "sure the choice is:"
    )
    return headline, advice


def tested(result: Tested, found: Comparison | None, unit: Unit, sign: int) -> list[str]:
    """Sentences on a full training, and how it agrees with the comparison.

    Args:
        result: the full training.
        found: the comparison; None where there is none.
        unit: how the metric is written.
        sign: 1 where more of the metric is better, -1 where less is.
    """
    value, name = result.test_value, result.plan.configuration.optimizer.name
    runs = plural(len(value.each), "seed")
    spread = (
        f"95 % interval {unit.span(value.low, value.high)}, Student's t over {runs}"
        if value.low is not None and value.high is not None and value.sd
        else no_interval(value.each)
    )
    sentences = [
        f"{name}, trained in full for {plural(result.plan.epochs, 'epoch')} on {trained_on(result.plan)}: "
        f"test {unit.metric} {unit.value(value.mean)} ({spread})."
    ]
    if result.length is not None:
        sentences.append(f"That length was found on held-out data: {lengths_tried(result.length, unit)}.")
    if kept := weights_kept(result.plan, result.kept):
        sentences.append(f"{kept[:1].upper()}{kept[1:]}.")
    if found is None:
        return sentences
    place = compared_as(result, found)
    if place is None or place.value is None:
        taken = found.recommendation.optimizer
        return [*sentences, f"That is not what the comparison looked at, which says to take {taken}."]
    if relation := agreement(value.mean, place.value, sign):
        sentences.append(
            f"That is {relation} the comparison's interval, {interval(place, unit)}, of runs of "
            f"{plural(found.plan.epochs, 'epoch')} on {examples_text(found.plan.train_examples)}, "
            "judged on others than the test set's."
        )
    return sentences


def compared_as(result: Tested, found: Comparison) -> Place | None:
    """Where the comparison has the configuration that was tested; None where it has not."""
    name = result.plan.configuration.optimizer.name
    there = name in found.plan.optimizers and found.plan.finalist(name).trial == result.trial
    return found.verdict.place(name) if there else None


def too_few(rows: Sequence[Influence]) -> str:
    """The optimizers without an importance, and why; empty where all have one."""
    few = [f"{row.optimizer} ({row.trials})" for row in rows if row.trials < ENOUGH]
    flat = [row.optimizer for row in rows if row.trials >= ENOUGH and not row.shares]
    sentences = []
    if few:
        sentences.append(f"Fewer than {ENOUGH} finished trials are too few for that: {listed(few)}.")
    if flat:
        sentences.append(f"In the trials of {listed(flat)}, nothing differs.")
    return " ".join(sentences)


def configurations(rows: Iterable[tuple[str, int, Configuration]]) -> Table:
    """What was compared, or is the best of each optimizer."""
    texts = tuple((name, str(trial), settings_text(configuration)) for name, trial, configuration in rows)
    return Table.of("The configurations.", ("optimizer", "trial", "settings"), texts)


def versions(stages: Mapping[str, Mapping[str, Any]]) -> Table:
    """With what each stage ran."""
    names = list(dict.fromkeys(name for each in stages.values() for name in each))
    rows = tuple((name, *(str(each.get(name, UNKNOWN)) for each in stages.values())) for name in names)
    return Table.of("Versions.", ("package", *stages), rows, optimizers=False)
