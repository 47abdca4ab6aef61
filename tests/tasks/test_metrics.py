"""What a training is judged by: the values of the metrics, and what knowing nothing reaches."""

import json
from math import inf
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, mean_absolute_error, mean_squared_error, r2_score
from torch import Tensor

from optitune.errors import UsageError
from optitune.tasks import metrics
from optitune.tasks.metrics import METRICS, ROWS, Metric, aligned, commonest, kept, restored

every_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
numeric = [row for row in ROWS if row.name not in ("accuracy", "loss")]
REFERENCES = {"mse": mean_squared_error, "mae": mean_absolute_error, "r2": r2_score}


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def value(row: Metric, outputs: Tensor, targets: Tensor) -> float:
    """As an evaluation has it."""
    assert row.function is not None
    found = torch.as_tensor(row.function(outputs, targets))
    return float(found.double().mean() if row.each else found)


@every_row
def test_a_row_is_found_by_its_name(row: Metric) -> None:
    assert METRICS[row.name] is row
    assert metrics.find(row.name) is row


@pytest.mark.parametrize("row", numeric, ids=lambda row: row.name)
def test_the_values_are_those_of_scikit_learn(row: Metric) -> None:
    outputs, targets = drawn(50, 1), 2 * drawn(50) + 1
    expected = REFERENCES[row.name](targets.numpy(), outputs[:, 0].numpy())
    assert value(row, outputs, targets) == pytest.approx(expected, rel=1e-5)
    assert value(row, outputs, targets[:, None]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["mse", "mae"])
def test_errors_of_several_numbers_are_the_mean_over_them(name: str) -> None:
    outputs, targets = drawn(20, 3), drawn(20, 3) + 1
    expected = REFERENCES[name](targets.numpy(), outputs.numpy())
    assert value(METRICS[name], outputs, targets) == pytest.approx(expected, rel=1e-5)


def test_r2_of_several_numbers_is_the_share_of_their_variance_in_all() -> None:
    outputs, targets = drawn(20, 3), drawn(20, 3) * torch.tensor([1.0, 2.0, 3.0])
    expected = r2_score(targets.numpy(), outputs.numpy(), multioutput="variance_weighted")
    assert value(METRICS["r2"], outputs, targets) == pytest.approx(expected, rel=1e-5)


def test_accuracy_is_the_share_of_right_answers() -> None:
    outputs, labels = drawn(40, 4), torch.arange(40) % 4
    expected = accuracy_score(labels.numpy(), outputs.argmax(1).numpy())
    assert value(METRICS["accuracy"], outputs, labels) == expected


def test_accuracy_of_sequences_is_the_share_of_right_places() -> None:
    outputs, labels = drawn(8, 4, 5), torch.arange(40).reshape(8, 5) % 4
    expected = (outputs.argmax(1) == labels).double().mean().item()
    assert value(METRICS["accuracy"], outputs, labels) == pytest.approx(expected)


@pytest.mark.parametrize("row", [row for row in ROWS if row.each and row.function], ids=lambda row: row.name)
def test_a_metric_with_a_value_for_each_gives_one_for_each(row: Metric) -> None:
    classes = row.name == "accuracy"
    targets = torch.arange(6) % 3 if classes else drawn(6)
    assert row.function is not None
    found = row.function(drawn(6, 3 if classes else 1), targets)
    assert isinstance(found, Tensor)
    assert found.shape == (6,)


@given(st.integers(1, 5), st.integers(1, 5))
def test_outputs_are_aligned_with_targets_of_fewer_dimensions_alone(n: int, width: int) -> None:
    assert aligned(drawn(n, 1), drawn(n)).shape == (n,)
    assert aligned(drawn(n, 1, width), drawn(n, width)).shape == (n, width)
    for outputs, targets in ((drawn(n, width), drawn(n, width)), (drawn(n, width + 1), drawn(n)), (drawn(n), drawn(n))):
        assert aligned(outputs, targets) is outputs


@pytest.mark.parametrize(("direction", "score"), [("maximize", 0.25), ("minimize", -0.25)])
def test_more_of_a_score_is_better(direction: Any, score: float) -> None:
    assert Metric("own", direction, None).score(0.25) == score


def test_a_metric_says_which_way_is_better() -> None:
    with pytest.raises(ValueError, match="metric 'own': direction = 'up': must be maximize or minimize"):
        Metric("own", "up", None)  # type: ignore[arg-type]


@every_row
def test_the_ends_hold_the_values_of_a_good_and_of_a_bad_answer(row: Metric) -> None:
    if row.function is None:
        assert (row.lowest, row.highest) == (-inf, inf)
        return
    classes = row.name == "accuracy"
    targets = torch.arange(12) % 3 if classes else drawn(12)
    right = torch.nn.functional.one_hot(targets).float() if classes else targets[:, None]
    best = value(row, right, targets)
    assert best == (row.highest if row.direction == "maximize" else row.lowest)
    for wrong in (-right - 5, right.roll(1, dims=0)):
        assert row.lowest <= value(row, wrong, targets) <= row.highest
        assert row.score(value(row, wrong, targets)) < row.score(best)


@every_row
def test_the_ideal_is_the_value_of_right_answers(row: Metric) -> None:
    assert row.ideal == {"accuracy": 1.0, "mse": 0.0, "mae": 0.0, "r2": 1.0, "loss": None}[row.name]


def test_a_metric_has_no_ideal_whose_better_end_is_open() -> None:
    assert Metric("own", "maximize", None, lowest=0.0).ideal is None
    assert Metric("own", "minimize", None, highest=0.0).ideal is None
    assert Metric("own", "minimize", None, lowest=-1.0, highest=2.0).ideal == -1.0
    assert Metric("own", "maximize", None, lowest=-1.0, highest=2.0).ideal == 2.0


def test_guessing_is_the_commonest_share_and_one_standard_error() -> None:
    assert commonest(torch.tensor([0, 1] * 50), 100) == pytest.approx(0.5 + 0.05)
    assert commonest(torch.tensor([0, 1, 1, 1]), 10_000) == pytest.approx(0.75 + (0.75 * 0.25) ** 0.5 / 100)
    assert commonest(torch.tensor([1, 1]), 10) == 1.0
    assert commonest(torch.tensor([[0, 1], [1, 1]]), 10_000) == commonest(torch.tensor([0, 1, 1, 1]), 10_000)


@given(st.lists(st.floats(-100, 100, width=32), min_size=2, max_size=30))
def test_one_answer_for_all_is_no_better_than_stuck(numbers: list[float]) -> None:
    """Whatever that answer is: the best of them, the mean or the median, is what `chance_level` tells."""
    targets = torch.tensor(numbers)
    for name, best in (("mse", targets.mean()), ("mae", targets.median())):
        row = METRICS[name]
        assert row.chance_level is not None
        least = row.chance_level(targets, len(targets))
        assert value(row, best.expand(len(targets)), targets) == pytest.approx(least, rel=1e-3, abs=1e-3)
        for other in (best + 1, targets[0], torch.tensor(0.0)):
            assert value(row, other.expand(len(targets)), targets) >= least - 1e-3 * (1 + least)


def test_one_answer_for_all_explains_no_variance() -> None:
    targets = drawn(30)
    assert METRICS["r2"].chance_level is not None
    assert METRICS["r2"].chance_level(targets, 30) == 0
    assert value(METRICS["r2"], targets.mean().expand(30), targets) == pytest.approx(0, abs=1e-6)


def test_what_the_loss_of_a_stuck_network_is_nobody_knows() -> None:
    assert METRICS["loss"].chance_level is None
    assert METRICS["loss"].function is None


def test_an_unknown_metric_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"unknown metric 'acuracy': did you mean 'accuracy'\? \(or give a Metric"):
        metrics.find("acuracy")
    assert len(METRICS) == len(ROWS)


@every_row
def test_a_built_in_metric_comes_back_from_a_file_as_itself(row: Metric) -> None:
    assert restored(kept(row)) is row
    # as studies of older versions have it
    assert restored({"name": row.name, "direction": row.direction}) is row
    assert row.unit.percent == (row.name == "accuracy")


@pytest.mark.parametrize(
    ("own", "written"),
    [
        (Metric("accuracy", "maximize", lambda o, t: 95.0, lowest=0.0, highest=100.0), "95"),
        (Metric("accuracy", "minimize", lambda o, t: 95.0), "95"),
        (Metric("loss", "maximize", lambda o, t: 95.0), "95"),
        (Metric("r2", "minimize", lambda o, t: 95.0, lowest=-2), "95"),
        (Metric("mse", "maximize", lambda o, t: 95.0, highest=0.0), "95"),
        (Metric("mine", "minimize", lambda o, t: 95.0), "95"),
    ],
)
def test_a_metric_of_a_users_own_keeps_direction_and_limits_whatever_its_name(own: Metric, written: str) -> None:
    found = restored(json.loads(json.dumps(kept(own), allow_nan=False)))
    assert not found.built_in
    assert (found.name, found.direction, found.lowest, found.highest) == (
        own.name,
        own.direction,
        own.lowest,
        own.highest,
    )
    assert found.unit.value(95.0) == own.unit.value(95.0) == written


def test_a_study_of_an_older_version_tells_by_the_direction_that_a_metric_is_no_built_in_one() -> None:
    found = restored({"name": "loss", "direction": "maximize"})
    assert (found.direction, found.built_in) == ("maximize", False)


def test_the_built_in_accuracy_stays_it_where_labels_do_not_count() -> None:
    row = metrics.leaving_out(METRICS["accuracy"], -100)
    assert row.built_in
    assert row.unit.percent
