"""What tuning brought over known-good settings, and whether more trials would help."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from optitune.common.text import Unit
from optitune.space.configuration import Configuration
from optitune.statistics.tuning import FURTHER, Tuning, outlook, tuning
from optitune.study.records import TrialRecord

ACCURACY, LOSS = Unit("accuracy", percent=True), Unit("mse")


@pytest.fixture
def known_good(configured: Callable[..., Configuration]) -> dict[str, Configuration]:
    return {name: configured(name) for name in ("adam", "sgd")}


def row(number: int, value: float | None, configuration: Configuration, sign: int = 1) -> TrialRecord:
    outcome = "pruned" if value is None else "complete"
    return TrialRecord(
        number, outcome, configuration, value, "", (), 1.0, score=None if value is None else sign * value
    )  # type: ignore[arg-type]


def again(of: TrialRecord, number: int, values: Sequence[float], sign: int = 1) -> list[TrialRecord]:
    return [
        replace(of, number=number + place, value=value, score=sign * value, run=place + 1, repeats=of.number)
        for place, value in enumerate(values)
    ]


def searched(
    known_good: dict[str, Configuration], best: Sequence[float], usual: Sequence[float], sign: int = 1
) -> list[TrialRecord]:
    training = known_good["sgd"].training.model_copy(update={"clip_norm": 1.0})
    other = known_good["sgd"].model_copy(update={"training": training})
    first, found = row(0, usual[0], known_good["adam"], sign), row(3, best[0], other, sign)
    worse = row(1, usual[0] - sign * 0.2, known_good["sgd"], sign)
    return [first, worse, found, *again(first, 10, usual[1:], sign), *again(found, 20, best[1:], sign)]


def test_the_gain_is_the_difference_of_means_with_students_interval(known_good: dict[str, Configuration]) -> None:
    best, usual = [0.95, 0.952, 0.951], [0.93, 0.932]
    found = tuning(searched(known_good, best, usual), known_good)
    assert found is not None
    assert (found.optimizer, found.known_good, found.best, found.runs) == ("adam", 0, 3, (3, 2))
    test = stats.ttest_ind(best, usual)
    interval = test.confidence_interval(0.95)
    assert (found.gain, found.low, found.high) == pytest.approx((0.02, interval.low, interval.high))
    assert found.sentence(ACCURACY) == (
        "Tuning brought 2.00 pp over the best known-good settings (of adam, trial 0; 95 % "
        f"{ACCURACY.span(found.low, found.high, signed=True)}, 3 and 2 runs)."
    )


def test_where_less_is_better_a_lower_value_is_a_gain(known_good: dict[str, Configuration]) -> None:
    found = tuning(searched(known_good, [0.10, 0.12], [0.5, 0.52], sign=-1), known_good)
    assert found is not None
    assert found.gain == pytest.approx(0.4)
    assert "Tuning brought 0.4 over the best known-good settings (of adam, trial 0; " in found.sentence(LOSS)
    assert found.sentence(LOSS).endswith(", 2 runs each).")


def test_what_runs_cannot_show_is_not_called_a_gain(known_good: dict[str, Configuration]) -> None:
    found = tuning(searched(known_good, [0.95, 0.92], [0.94, 0.90]), known_good)
    assert found is not None
    assert found.low < 0 < found.gain
    assert found.sentence(ACCURACY).startswith(
        "Tuning brought nothing over the best known-good settings (of adam, trial 0) that 2 runs can show: +1.50 pp, 95"
    )


def test_where_known_good_settings_are_the_best_nothing_was_brought(known_good: dict[str, Configuration]) -> None:
    found = tuning(searched(known_good, [0.8, 0.8], [0.94, 0.95, 0.96]), known_good)
    assert found == Tuning("adam", 0, 0, (3, 3), 0.0, 0.0, 0.0)
    assert found.sentence(ACCURACY) == (
        "Tuning brought nothing here: the best known-good settings (of adam, trial 0; mean of 3 runs) are still the "
        "best."
    )


def test_single_runs_show_nothing(known_good: dict[str, Configuration]) -> None:
    assert tuning(searched(known_good, [0.95], [0.94, 0.93]), known_good) is None
    assert tuning(searched(known_good, [0.95, 0.96], [0.94]), known_good) is None
    assert tuning(searched(known_good, [0.95, 0.96], [0.94, 0.93]), {}) is None
    assert tuning([], known_good) is None


def trials(scores: Sequence[float | None], configuration: Configuration, best: int) -> list[TrialRecord]:
    """Trials in this order, and two repeats of the best."""
    rows = [row(number, score, configuration) for number, score in enumerate(scores)]
    value = scores[best]
    assert value is not None
    return [*rows, *again(rows[best], len(rows), [value + 0.01, value - 0.01])]


def test_a_search_that_came_to_rest_says_so(configured: Callable[..., Configuration]) -> None:
    scores = [0.8 + 0.01 * (number % 7) for number in range(50)]
    scores[12] = 0.95
    rows = trials(scores, configured("adam"), best=12)
    found = outlook(rows)
    assert found is not None
    assert (found.idle, found.further) == (37, FURTHER)
    assert 0 < found.gain < found.noise
    assert found.sentence(ACCURACY) == (
        "The last 37 trials improved nothing, and more will hardly help: 20 more would bring "
        f"{ACCURACY.difference(found.gain)}, less than runs of the same settings differ "
        f"({ACCURACY.difference(found.noise)})."
    )
    assert outlook(rows[:50]) is None, "without repeats the noise is not known"
    assert outlook(rows[:30] + rows[50:]) is None, "so few say nothing"


def test_a_search_that_still_gets_better_says_nothing(configured: Callable[..., Configuration]) -> None:
    scores = [0.8 + 0.002 * number for number in range(50)]
    assert outlook(trials(scores, configured("adam"), best=49)) is None
    scores = [0.8 + 0.01 * (number % 7) for number in range(50)]
    scores[12] = 0.861
    assert outlook(trials(scores, configured("adam"), best=12)) is None, "so near, more may surpass it"


def test_of_searches_that_came_to_rest_hardly_one_would_have_found_much_more(
    configured: Callable[..., Configuration],
) -> None:
    generator, configuration, noise = np.random.default_rng(0), configured("adam"), 0.01
    gains = []
    for _ in range(300):
        truth = 0.9 - generator.exponential(0.02, 50 + FURTHER)
        rows = [
            row(number, value, configuration)
            for number, value in enumerate(truth[:50] + generator.normal(0, noise, 50))
        ]
        winner = max(rows, key=lambda each: each.value or 0.0)
        rows += again(winner, 50, list(truth[winner.number] + generator.normal(0, noise, 3)))
        if outlook(rows) is not None:
            gains.append(max(0.0, truth[50:].max() - truth[winner.number]))
    assert not gains or np.mean(gains) < noise
