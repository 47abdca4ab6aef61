"""How long to train, as found on validation data: which lengths are tried, and which is taken."""

import pytest

from optitune.common.text import Unit
from optitune.retraining.length import LONGEST, find
from optitune.retraining.results import FoundLength, FullPlan, TriedLength
from optitune.retraining.sentences import about_training, length_found
from optitune.space.configuration import Configuration
from optitune.tasks.metrics import METRICS, Metric

ACCURACY, MSE = METRICS["accuracy"], METRICS["mse"]


@pytest.mark.parametrize(
    ("metric", "first", "values", "tried", "found"),
    [
        pytest.param(ACCURACY, 4, {4: 0.9, 8: 0.95, 16: 0.97, 32: 0.97}, [4, 8, 16, 32], 16, id="longer while it pays"),
        pytest.param(ACCURACY, 4, {4: 0.9, 8: 0.9005, 2: 0.89}, [4, 8, 2], 4, id="by more than what does not matter"),
        pytest.param(ACCURACY, 5, {5: 0.9, 10: 0.89, 2: 0.92, 1: 0.91}, [5, 10, 2, 1], 2, id="shorter if it overfits"),
        pytest.param(ACCURACY, 2, {2: 0.9, 4: 0.9, 1: 0.95}, [2, 4, 1], 1, id="an epoch at least"),
        pytest.param(ACCURACY, 1, {1: 0.9, 2: 0.8}, [1, 2], 1, id="of a single epoch"),
        pytest.param(ACCURACY, 3, {3: 0.9, 6: 0.95, 12: None}, [3, 6, 12], 6, id="a longer one diverges"),
        pytest.param(MSE, 4, {4: 2.0, 8: 1.0, 16: 0.995}, [4, 8, 16], 8, id="less is better, by a hundredth"),
        pytest.param(MSE, 4, {4: 0.0, 8: 0.0, 2: 0.0}, [4, 8, 2], 4, id="as good as can be"),
    ],
)
def test_the_length_is_the_first_that_a_longer_one_does_not_better(
    metric: Metric, first: int, values: dict[int, float | None], tried: list[int], found: int
) -> None:
    asked: list[int] = []

    def train(epochs: int) -> TriedLength:
        asked.append(epochs)
        return TriedLength(epochs=epochs, value=values[epochs], seconds=1.0)

    lengths = find(first, train, metric)
    assert asked == tried
    assert sorted(each.epochs for each in lengths) == sorted(tried)
    assert lengths[-1].epochs == found


def test_no_length_is_beyond_the_longest() -> None:
    lengths = find(3, lambda epochs: TriedLength(epochs=epochs, value=epochs / 100, seconds=1.0), ACCURACY)
    assert lengths[-1].epochs == LONGEST * 3


def test_what_was_found_and_kept_is_said(configured: object) -> None:
    tried = ((8, 0.95), (32, None), (16, 0.975))
    length = FoundLength(
        tried=tuple(TriedLength(epochs=epochs, value=value, seconds=1.0) for epochs, value in tried), made_with="x"
    )
    unit = Unit("accuracy", percent=True)
    said = length_found(length, unit)
    capped = FoundLength(tried=length.tried[:1], made_with="x")
    assert length_found(capped, unit).endswith(
        "95.00 % after 8; no longer one is tried, and more epochs may be better still"
    )
    assert said == "found 16 epochs: validation accuracy 95.00 % after 8, 97.50 % after 16, diverged after 32"
    configuration: Configuration = configured()  # type: ignore[operator]
    plan = FullPlan(
        task="x", configuration=configuration, epochs=16, precision="fp32", seeds=(1,), data_checksum="", network=""
    )
    assert "keep" not in plan.model_dump(mode="json")
    assert about_training(plan, None, (None,), unit) == []
    best = plan.model_copy(update={"keep": "best"})
    assert FullPlan.model_validate_json(best.model_dump_json()) == best
    assert about_training(best, None, (5, 5), unit) == ["kept: the weights of epoch 5, the best on the validation part"]
    assert about_training(best, length, (5, 7), unit) == [
        said,
        "kept: the weights of epoch 5 and 7, the best on the validation part",
    ]
