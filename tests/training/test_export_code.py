"""What is exported can be pasted: the Python trains to the same numbers, and TOML and JSON say the same."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from trainings import GROUPS, Loader, exported_losses, searched_losses

from optitune.space.configuration import Configuration
from optitune.space.optimizers import OPTIMIZERS
from optitune.space.schedules import SCHEDULES
from optitune.study.best_config import BestConfig
from optitune.tasks.data import Examples
from optitune.tasks.models import Mlp

Configured = Callable[..., Configuration]
Network = Callable[[int], nn.Module]
Config = Callable[[Configuration], BestConfig]

every_pair = pytest.mark.parametrize(
    ("optimizer", "variant", "schedule"),
    [
        pytest.param(row.name, variant, schedule, id=f"{row.name}-{variant}-{schedule}")
        for row in OPTIMIZERS.values()
        for variant in range(len(row.known_good))
        for schedule in SCHEDULES
    ],
)


def test_the_loader_of_these_tests_meets_every_example_once_an_epoch(images: Examples) -> None:
    loader = Loader(images, 16)
    first, second = [list(loader) for _ in range(2)]
    assert [len(targets) for _, targets in first] == [16] * 5 + [10]
    assert len(first) == len(loader)
    assert not torch.equal(first[0][0], second[0][0])
    assert torch.equal(torch.cat([targets for _, targets in first]).bincount(), images.targets.bincount())


@every_pair
def test_pasted_python_trains_as_the_search_did(
    optimizer: str,
    variant: int,
    schedule: str,
    configured: Configured,
    best_config: Config,
    network: Network,
    images: Examples,
) -> None:
    config = best_config(configured(optimizer, schedule, epochs=3, variant=variant))
    trained, searched = network(0), network(0)
    assert exported_losses(config, trained, images) == pytest.approx(
        searched_losses(config, searched, images), rel=1e-4
    )
    for mine, theirs in zip(trained.parameters(), searched.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.wide
@every_pair
def test_it_does_so_step_by_step_with_another_number_of_epochs(
    optimizer: str,
    variant: int,
    schedule: str,
    configured: Configured,
    best_config: Config,
    network: Network,
    images: Examples,
) -> None:
    """All examples in one batch, so that every loss is that of one step; for twice as many epochs as exported."""
    configuration = configured(optimizer, schedule, epochs=3, variant=variant, training={"batch_size": 90})
    config = best_config(configuration)
    told = exported_losses(config, network(0), images, epochs=6)
    longer = config.model_copy(update={"configuration": configuration.stretched(2), "epochs": 6})
    assert told == pytest.approx(searched_losses(longer, network(0), images), rel=1e-4)
    assert len(told) == 6


SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "groups": {"training": {"groups": GROUPS}},
    "groups that hold all": {"training": {"groups": {"*": 0.5}}},
    "groups whose factor is one": {"training": {"groups": {"fc*": 1.0}}},
    "decay of biases": {"training": {"decay_biases": True}},
    "groups and decay of biases": {"training": {"decay_biases": True, "groups": GROUPS}},
    "clipping": {"training": {"clip_norm": 0.3}},
    "accumulation": {"training": {"accumulation": 4}},
    "accumulation, a group of one batch at the end": {"training": {"accumulation": 5}},
    "l1": {"training": {"l1": 0.01}},
    "l1 of biases too": {"training": {"l1": 0.01, "decay_biases": True}},
    "label smoothing": {"training": {"label_smoothing": 0.2}},
    "mse of classes": {"training": {"loss": "mse"}},
    "warm-up": {"warmup": 0.3},
    "warm-up under a schedule of steps": {"warmup": 0.3, "schedule": "cosine"},
    "warm-up under a schedule of epochs": {"warmup": 0.3, "schedule": "step"},
    "warm-up and a plateau": {"warmup": 0.3, "schedule": "reduce-on-plateau"},
    "all at once": {
        "warmup": 0.2,
        "schedule": "polynomial",
        "training": {
            "groups": GROUPS,
            "clip_norm": 0.5,
            "accumulation": 2,
            "l1": 0.001,
            "label_smoothing": 0.1,
        },
    },
    "mse and all but smoothing": {
        "warmup": 0.2,
        "schedule": "linear",
        "training": {"groups": GROUPS, "clip_norm": 0.5, "accumulation": 4, "l1": 0.001, "loss": "mse"},
    },
    "one cycle over accumulated steps": {"schedule": "one-cycle", "training": {"accumulation": 4}},
}


FAST: Mapping[str, Mapping[str, float]] = {
    "sgd": {"lr": 0.1, "weight_decay": 0.1},
    "adam": {"lr": 0.01},
    "adamw": {"lr": 0.01, "weight_decay": 2.0},
    "muon": {"lr": 0.02, "weight_decay": 2.0},
    "lbfgs": {},
    "adamw-schedulefree": {"lr": 0.02, "weight_decay": 2.0},
}
"""Settings under which few steps lead far, so that a setting that is forgotten shows."""


def grouped(optimizer: str, said: Mapping[str, Any]) -> dict[str, Any]:
    """The same for an optimizer that takes no parameter groups: one group for all."""
    training = dict(said.get("training", {}))
    if "one-group" in OPTIMIZERS[optimizer].traits and training.get("groups") == GROUPS:
        training["groups"] = {"*": 0.5}
    return {**said, "training": training}


@pytest.mark.parametrize("said", SETTINGS.values(), ids=SETTINGS.keys())
@pytest.mark.parametrize("optimizer", FAST)
def test_pasted_python_does_all_that_the_training_settings_say(
    optimizer: str,
    said: Mapping[str, Any],
    configured: Configured,
    best_config: Config,
    network: Network,
    images: Examples,
) -> None:
    config = best_config(configured(optimizer, epochs=3, **FAST[optimizer], **grouped(optimizer, said)))
    told = exported_losses(config, network(0), images)
    # a line search takes another turn where sums of several losses differ in their last bit
    rel = 1e-3 if optimizer == "lbfgs" else 1e-4
    assert told == pytest.approx(searched_losses(config, network(0), images), rel=rel)


@pytest.mark.parametrize("name", [name for name in SETTINGS if name != "groups whose factor is one"])
def test_the_settings_of_the_test_above_make_a_difference(
    name: str, configured: Configured, best_config: Config, network: Network, images: Examples
) -> None:
    said = SETTINGS[name]
    ended = [
        exported_losses(best_config(configured("adamw", **FAST["adamw"], **each)), network(0), images)
        for each in (said, {"schedule": said.get("schedule", "constant")})
    ]
    assert ended[0] != pytest.approx(ended[1], rel=3e-4)


@pytest.mark.parametrize("said", [{}, SETTINGS["all at once"], SETTINGS["mse of classes"]], ids=["plain", "all", "mse"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "muon", "lbfgs"])
def test_pasted_python_trains_in_bfloat16(
    optimizer: str,
    said: Mapping[str, Any],
    configured: Configured,
    best_config: Config,
    network: Network,
    images: Examples,
) -> None:
    config = best_config(configured(optimizer, epochs=3, **FAST[optimizer], **grouped(optimizer, said)))
    config = config.model_copy(update={"precision": "bf16"})
    told = exported_losses(config, network(0), images)
    # a last bit that differs is rounded to other numbers later on
    assert told == pytest.approx(searched_losses(config, network(0), images), rel=2e-3)
    single = searched_losses(config.model_copy(update={"precision": "fp32"}), network(0), images)
    assert told != pytest.approx(single, rel=1e-6)


def numbers(images: Examples, shape: tuple[int, ...]) -> Examples:
    """The same images with numbers to predict."""
    inputs = images.inputs.float().flatten(1) / 255
    return Examples(inputs, (images.targets.float() + inputs.mean(1)).reshape(shape))


@pytest.mark.parametrize("shape", [(90,), (90, 1)], ids=["(n,)", "(n, 1)"])
@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_pasted_python_trains_on_numbers(
    optimizer: str, shape: tuple[int, ...], configured: Configured, best_config: Config, images: Examples
) -> None:
    """Outputs are (n, 1); that targets of (n,) are compared one by one is what a plain loss would get wrong."""
    data = numbers(images, shape)
    config = best_config(configured(optimizer, training={"loss": "mse"}))
    ended = []
    for losses in (exported_losses, searched_losses):
        torch.manual_seed(0)
        ended.append(losses(config, Mlp((16, 8, 1)), data))
    assert ended[0] == pytest.approx(ended[1], rel=1e-4)


@pytest.mark.parametrize("loss", [nn.MSELoss(), functional.smooth_l1_loss, partial(functional.huber_loss, delta=0.5)])
@pytest.mark.parametrize("out", [(1,), ()], ids=["(n, 1)", "(n,)"])
def test_pasted_python_compares_numbers_one_by_one_with_torchs_losses(
    loss: Any, out: tuple[int, ...], configured: Configured, best_config: Config, images: Examples
) -> None:
    data = numbers(images, (90,) if out else (90, 1))
    config = best_config(configured("adam", training={"loss": "task"}))
    ended = []
    for losses in (exported_losses, searched_losses):
        torch.manual_seed(0)
        model = nn.Sequential(Mlp((16, 8, 1)), nn.Flatten(1 if out else 0))
        ended.append(losses(config, model, data, loss))
    assert ended[0] == pytest.approx(ended[1], rel=1e-4)


def focal(outputs: Tensor, targets: Tensor) -> Tensor:
    """A loss that no row has."""
    log_likely = -functional.cross_entropy(outputs, targets, reduction="none")
    return -((1 - log_likely.exp()) ** 2 * log_likely).mean()


@pytest.mark.parametrize("training", [{}, {"accumulation": 4, "l1": 0.01, "clip_norm": 0.5}], ids=["plain", "more"])
@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_pasted_python_takes_a_loss_of_the_tasks_own(
    optimizer: str,
    training: Mapping[str, Any],
    configured: Configured,
    best_config: Config,
    network: Network,
    images: Examples,
) -> None:
    config = best_config(configured(optimizer, training={"loss": "task", **training}))
    told = exported_losses(config, network(0), images, focal)
    assert told == pytest.approx(searched_losses(config, network(0), images, focal), rel=1e-4)


def test_pasted_python_leaves_frozen_parameters_as_they_are(
    configured: Configured, best_config: Config, network: Network, images: Examples
) -> None:
    config = best_config(configured("adamw", training={"l1": 0.01, "groups": {"*.bias": 2.0}}))
    models = network(0), network(0)
    for model in models:
        model.conv1.requires_grad_(False)
    told = exported_losses(config, models[0], images)
    assert told == pytest.approx(searched_losses(config, models[1], images), rel=1e-4)
    assert torch.equal(models[0].conv1.weight, network(0).conv1.weight)


def test_pasted_python_leaves_weights_that_take_no_part_as_they_are(
    configured: Configured, best_config: Config, network: Network, images: Examples
) -> None:
    config = best_config(configured("adamw", training={"l1": 0.01, "clip_norm": 0.5}))
    for losses in (exported_losses, searched_losses):
        model = network(0)
        model.unused = nn.Linear(3, 3)
        before = model.unused.weight.detach().clone()
        losses(config, model, images)
        assert torch.equal(model.unused.weight, before)


def normalised() -> nn.Module:
    """A network that cannot train on a single example, and whose factors and first layer are particular."""
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Flatten(), nn.Linear(16, 16), nn.Unflatten(1, (4, 4)), nn.LayerNorm((4, 4)), nn.Flatten()),
        *(nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3)),
    )


@pytest.mark.parametrize("examples", [48, 49, 50])
@pytest.mark.parametrize("training", [{}, {"accumulation": 2, "l1": 0.01}], ids=["plain", "more"])
@pytest.mark.parametrize("schedule", ["cosine", "step"])
def test_pasted_python_leaves_out_a_last_batch_of_a_single_example(
    schedule: str,
    training: Mapping[str, Any],
    examples: int,
    configured: Configured,
    best_config: Config,
    images: Examples,
) -> None:
    # what comes before batch normalisation has a gradient of zero but for rounding, which a small eps would blow up
    config = best_config(configured("adamw", schedule, training=training, eps=1e-3))
    some = images.take(slice(0, examples))
    models = normalised(), normalised()
    told = exported_losses(config, models[0], some)
    assert told == pytest.approx(searched_losses(config, models[1], some), rel=1e-4)
    for mine, theirs in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4)


def test_pasted_python_takes_single_examples_where_all_batches_are(
    configured: Configured, best_config: Config, network: Network, images: Examples
) -> None:
    config = best_config(configured("adamw", "cosine", training={"batch_size": 1, "accumulation": 2}))
    some = images.take(slice(0, 9))
    assert exported_losses(config, network(0), some) == pytest.approx(searched_losses(config, network(0), some))


class Particular(nn.Module):
    """A network with an output layer that is made first, a normalisation of two axes, and a learned factor."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head, self.norm, self.body = nn.Linear(16, 3), nn.LayerNorm((4, 4)), nn.Linear(16, 16)
        self.gamma = nn.Parameter(torch.full((1, 16), 0.5))

    def forward(self, images: Tensor) -> Tensor:
        outputs: Tensor = self.head(self.body(self.norm(images).flatten(1)) * self.gamma)
        return outputs


@pytest.mark.parametrize("training", [{}, {"l1": 0.01}, {"l1": 0.01, "decay_biases": True}], ids=str)
@pytest.mark.parametrize("optimizer", ["sgd", "muon"])
def test_pasted_python_knows_weights_by_their_layers(
    optimizer: str, training: Mapping[str, Any], configured: Configured, best_config: Config, images: Examples
) -> None:
    config = best_config(configured(optimizer, training=training, **FAST[optimizer]))
    told = exported_losses(config, Particular(), images)
    assert told == pytest.approx(searched_losses(config, Particular(), images), rel=1e-4)
