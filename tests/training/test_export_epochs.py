"""What is exported trains for any number of epochs just as `optitune retrain` does."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import nn
from torch.optim.optimizer import Optimizer, register_optimizer_step_pre_hook
from trainings import GROUPS, exported_losses, searched_losses

from optitune.space.configuration import Configuration
from optitune.space.schedules import SCHEDULES, Schedule, Settings
from optitune.study.best_config import BestConfig
from optitune.tasks.data import Examples

Configured = Callable[..., Configuration]
Network = Callable[[int], nn.Module]
Config = Callable[[Configuration], BestConfig]


@contextmanager
def learning_rates() -> Iterator[list[list[float]]]:
    """The learning rates of all groups in every step of any optimizer."""
    rates: list[list[float]] = []

    def keep(optimizer: Optimizer, *_: object) -> None:
        rates.append([float(group["lr"]) for group in optimizer.param_groups])

    hook = register_optimizer_step_pre_hook(keep)
    try:
        yield rates
    finally:
        hook.remove()


def corners(row: Schedule, epochs: int) -> Iterator[Settings]:
    """Settings of a schedule: the known-good ones, and those at either end of every range."""
    yield row.arguments(row.known_good(epochs))
    for end in (0, -1):
        yield row.arguments({name: space.ends()[end] for name, space in row.ranges(epochs).items()})


@pytest.mark.wide
@pytest.mark.parametrize(("epochs", "warmup"), [(1, 0.0), (2, 0.2), (5, 0.0), (10, 0.2), (13, 0.0)])
@pytest.mark.parametrize("row", SCHEDULES.values(), ids=SCHEDULES.keys())
def test_with_another_number_of_epochs_it_trains_as_retrain_does(
    row: Schedule,
    warmup: float,
    epochs: int,
    configured: Configured,
    best_config: Config,
    network: Network,
    images: Examples,
) -> None:
    for settings in corners(row, 4):
        configuration = configured(
            "sgd", row.name, epochs=4, warmup=warmup * (not row.warms_up), training={"groups": GROUPS}
        )
        schedule = configuration.schedule.model_copy(update={"settings": settings})
        configuration = configuration.model_copy(update={"schedule": schedule})
        config = best_config(configuration).model_copy(update={"epochs": 4})
        stretched = configuration.stretched(epochs / 4)
        trained, retrained = network(0), network(0)
        with learning_rates() as exported:
            losses = exported_losses(config, trained, images, epochs=epochs)
        with learning_rates() as wanted:
            full = config.model_copy(update={"configuration": stretched, "epochs": epochs})
            expected = searched_losses(full, retrained, images)
        assert len(exported) == len(wanted) == 6 * epochs
        assert torch.tensor(exported).numpy() == pytest.approx(torch.tensor(wanted).numpy(), rel=1e-5, abs=1e-12)
        assert losses == pytest.approx(expected, rel=1e-3)
        for mine, theirs in zip(trained.parameters(), retrained.parameters(), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4)


def test_a_rise_of_a_single_step_is_one_that_torch_takes(
    configured: Configured, best_config: Config, network: Network, images: Examples
) -> None:
    configuration = configured("sgd", "one-cycle", epochs=5, training={"batch_size": 90})
    schedule = configuration.schedule.model_copy(
        update={"settings": {**configuration.schedule.settings, "pct_start": 0.2}}
    )
    config = best_config(configuration.model_copy(update={"schedule": schedule})).model_copy(update={"epochs": 5})
    assert exported_losses(config, network(0), images) == pytest.approx(searched_losses(config, network(0), images))


def test_pasted_python_trains_for_as_long_as_asked(
    configured: Configured, best_config: Config, network: Network, images: Examples
) -> None:
    config = best_config(configured("adam"))
    assert len(exported_losses(config, network(0), images)) == 3
    assert len(exported_losses(config, network(0), images, epochs=5)) == 5
