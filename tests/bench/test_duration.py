"""The benchmark of whole searches: what it makes of made-up trials, and the plain search on a few random images."""

from typing import Any

import pytest
import torch

from optitune.space.configuration import Configuration
from optitune.training.build import build_optimizer, build_schedules
from scripts.bench.yardstick import OPTIMIZERS


def trial(number: int, seconds: float, value: float | None, lr: float | None = None) -> Any:
    """A trial told apart by its learning rate, pruned where it has no value."""
    from scripts.bench.yardstick import Ended, configuration

    params = {"optimizer": "adagrad", "lr": lr or 0.001 * (number + 1), "step_size": 1, "gamma": 0.5}
    return Ended(number, seconds, "pruned" if value is None else "complete", value, configuration(params), 5.0)


def numbers(trials: list[Any]) -> list[int]:
    return [trial.number for trial in trials]


def test_incumbents_are_what_was_best_at_each_moment() -> None:
    from scripts.bench.yardstick import incumbents

    late = [trial(0, 9.0, 0.97), trial(1, 2.0, 0.90), trial(2, 1.0, None), trial(3, 3.0, 0.95), trial(4, 4.0, 0.93)]
    assert numbers(incumbents(late)) == [1, 3, 0]
    assert incumbents([trial(0, 1.0, None)]) == []


def test_of_equal_values_the_lowest_number_is_best_as_in_best_toml() -> None:
    from scripts.bench.yardstick import incumbents

    assert numbers(incumbents([trial(5, 1.0, 0.9), trial(7, 2.0, 0.9)])) == [5]
    assert numbers(incumbents([trial(5, 2.0, 0.9), trial(7, 1.0, 0.9)])) == [7, 5]


def test_a_configuration_is_an_incumbent_once() -> None:
    from scripts.bench.yardstick import incumbents

    again = [trial(0, 1.0, 0.90, lr=0.01), trial(1, 2.0, 0.91, lr=0.02), trial(2, 3.0, 0.92, lr=0.01)]
    assert numbers(incumbents(again)) == [0, 1]


def judged(scores: dict[float, tuple[float, ...]]) -> Any:
    """A round of a plain search won at 30 of 40 seconds, against ours with three incumbents; scores by lr."""
    from scripts.bench.search.duration import judge
    from scripts.bench.yardstick import Search

    plain = Search(40.0, [trial(0, 20.0, 0.5), trial(1, 30.0, 0.9), trial(2, 40.0, 0.8)])
    ours = Search(8.0, [trial(10, 2.0, 0.7), trial(11, 5.0, 0.8), trial(12, 7.0, 0.99)])
    return judge(plain, ours, lambda configuration: scores.pop(round(configuration.lr, 6)))


def test_the_first_as_good_is_judged_by_fresh_seeds_not_by_what_the_search_saw(capsys: Any) -> None:
    from scripts.bench.search.duration import figures, table

    scores = {0.002: (0.90, 0.92), 0.011: (0.89, 0.92), 0.012: (0.92, 0.90), 0.013: (0.80, 0.81)}
    result = judged(scores)
    assert not scores, "the winner of ours is judged too"
    assert result.as_good.number == 11
    assert numbers([one for one, _ in result.walk]) == [10, 11]
    row = figures(result)
    assert (row["faster"], row["as_good_faster"], row["as_good_faster_than_found"]) == (5.0, 8.0, 6.0)
    assert row["our_mean"] == pytest.approx(0.805)
    assert row["ahead"] == pytest.approx(-0.105)
    assert "never" not in table([row])
    assert "trial 10 at 2.0 s: ahead by -0.00500" in capsys.readouterr().err


def test_where_none_is_as_good_the_table_says_so_and_the_median_counts_it_as_endless() -> None:
    from scripts.bench.search.duration import figures, table

    never = figures(judged({0.002: (0.9, 0.9), 0.011: (0.8, 0.8), 0.012: (0.8, 0.8), 0.013: (0.8, 0.8)}))
    good = figures(judged({0.002: (0.9, 0.9), 0.011: (0.9, 0.9), 0.013: (0.9, 0.9)}))
    assert good["as_good_seconds"] == 2.0
    assert "never held a configuration as good in 1 of 1" in table([never])
    middle = table([good, never, good])
    assert "20.00x" in middle
    assert "in 1 of 3 rounds" in middle
    assert "20.00x" not in table([good, never, never])


class Drawn:
    """Stands in for Optuna's trial: the upper end of each range."""

    def __init__(self, optimizer: str) -> None:
        self.params: dict[str, Any] = {"optimizer": optimizer}

    def suggest_categorical(self, name: str, options: tuple[str, ...]) -> Any:
        assert self.params[name] in options
        return self.params[name]

    def suggest_float(self, name: str, low: float, high: float, log: bool = False) -> None:
        self.params[name] = high

    suggest_int = suggest_float


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_our_engine_trains_a_plain_trial_with_the_very_same_settings(name: str) -> None:
    from scripts.bench.yardstick import BATCH, arguments, configuration, draw, torch_class

    params = draw(Drawn(name), epochs=3)  # type: ignore[arg-type]
    model = torch.nn.Linear(2, 2)
    plain = torch_class(name)(model.parameters(), **arguments(params))
    ours: Configuration = configuration(params)
    built = build_optimizer(ours.optimizer, model, ours.training)
    ignored = {"params", "fused", "initial_lr"}
    groups = [
        {key: list(value) if isinstance(value, tuple) else value for key, value in group.items() if key not in ignored}
        for group in (plain.param_groups[0], built.param_groups[0])
    ]
    assert type(plain) is type(built)
    assert len(plain.param_groups) == len(built.param_groups) == 1
    assert (ours.training.batch_size, ours.schedule.warmup) == (BATCH, 0.0)
    assert groups[0] == groups[1]
    assert groups[0]["lr"] == params["lr"] == 1e-1
    (stepped,) = build_schedules(ours.schedule, built, epochs=3, steps_per_epoch=7)
    schedule: Any = stepped.scheduler
    assert (stepped.per_step, schedule.step_size, schedule.gamma) == (False, 3, 1.0)


def test_the_plain_search_ends_with_every_trial_and_its_time() -> None:
    from scripts.bench.yardstick import plain_search

    noise = torch.Generator().manual_seed(0)
    images = torch.utils.data.TensorDataset(torch.rand(16, 1, 28, 28, generator=noise), torch.arange(16) % 10)
    loader = torch.utils.data.DataLoader(images, batch_size=8)
    told: list[Any] = []
    result = plain_search(loader, loader, trials=3, epochs=2, seed=0, progress=told.append)
    assert told == result.trials
    assert numbers(result.trials) == [0, 1, 2]
    assert all(one.state == "complete" and one.value is not None for one in result.trials)
    assert sorted(one.seconds for one in told) == [one.seconds for one in told]
    assert 0 < told[0].seconds < told[-1].seconds <= result.seconds + 0.1
    repeat = plain_search(loader, loader, trials=3, epochs=2, seed=0, progress=told.append)
    assert [one.configuration for one in repeat.trials] == [one.configuration for one in result.trials]
