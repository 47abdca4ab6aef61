"""Small data, networks and settings that several test files share."""

import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings
from left_behind import MARK, Processes, left, threads
from torch import nn
from torch.nn import functional
from xdist.scheduler import LoadFileScheduling

from optitune.cli.main import run
from optitune.space import optimizers, schedules
from optitune.space.configuration import Configuration
from optitune.study.best_config import BestConfig
from optitune.tasks.data import Examples
from optitune.tasks.models import Cnn

# the same examples in every run, no clock, and nothing left on the disk
settings.register_profile(
    "optitune", derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("optitune")


APART = ("tests/slow/test_machines.py", "tests/faults/test_kills_while_writing.py")
"""Files whose tests take minutes each and share nothing."""
LONGEST = ("tests/slow/test_ray.py", "tests/slow/test_mnist.py", APART[0], "tests/faults/", "tests/end_to_end/")
"""What has to begin first, so that nobody waits for it in the end."""


class Scheduling(LoadFileScheduling):
    """A file's tests run in one process, for what they share, but those of `APART` in whichever is free."""

    def __init__(self, config: pytest.Config, log: Any) -> None:
        super().__init__(config, log)
        # pytest-xdist would begin with the files of most tests, and end with one process at the longest ones
        config.option.loadscopereorder = False

    def _split_scope(self, nodeid: str) -> str:
        return nodeid if nodeid.startswith(APART) else super()._split_scope(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling | None:
    return Scheduling(config, log) if config.getoption("dist") == "loadfile" else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest tests first, then other slow ones, then wide ones; of equals, files of most tests first."""
    tests = Counter(item.path for item in items)

    def turn(item: pytest.Item) -> tuple[bool, bool, bool, int, Path]:
        marks = {mark.name for mark in item.iter_markers()}
        return (
            not item.nodeid.startswith(LONGEST),
            "slow" not in marks,
            "wide" not in marks,
            -tests[item.path],
            item.path,
        )

    items.sort(key=turn)


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Sums in another order are other sums: what is bit-equal is so for one number of threads."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def signals_handled() -> None:
    """A shell that runs the tests in the background, or nohup, lets them ignore signals, and so what they start."""
    for name in ("SIGINT", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL)


@pytest.fixture(autouse=True, scope="session")
def processes(request: pytest.FixtureRequest) -> Iterator[Processes]:
    """Looks at what the tests have started. None of it outlives them, not even what a whole module shares."""
    os.environ[MARK] = f"{os.getpid()}-{time.time()}"
    look = Processes(os.environ[MARK])
    before = {**threads(), **look()}
    yield look
    if not any(item.get_closest_marker("slow") for item in request.session.items):
        assert not left(before, lambda: {**threads(), **look()})


@pytest.fixture(autouse=True)
def nothing_left_behind(processes: Processes, request: pytest.FixtureRequest) -> Iterator[None]:
    """No test leaves a thread or a process behind: it would write, or compute, in the midst of a later one.

    Slow tests are left out: servers, a browser and a Ray cluster live on from one to the next.
    """
    if request.node.get_closest_marker("slow") is not None:
        yield
        return
    before = {**threads(), **processes()}
    yield
    assert not left(before, lambda: {**threads(), **processes()})


@pytest.fixture
def run_command(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., tuple[int, str, str]]]:
    """Run a command line: exit code, stdout, stderr. A test that fails shows what its commands told."""
    told: list[str] = []

    def call(*words: str) -> tuple[int, str, str]:
        code = run([*words])
        printed = capsys.readouterr()
        told.append(printed.err)
        return code, printed.out, printed.err

    yield call
    print(*told, file=sys.stderr)


@pytest.fixture
def command(folder: Path, run_command: Callable[..., tuple[int, str, str]]) -> Callable[..., tuple[int, str, str]]:
    """`run_command` on the studies of a file's fixture `folder`."""
    return lambda *words: run_command(*words, "--studies-dir", str(folder))


@pytest.fixture(scope="session")
def images() -> Examples:
    """90 images of 4x4 pixels in three classes, told apart by which row is bright."""
    noise = torch.Generator().manual_seed(0)
    labels = torch.arange(90) % 3
    pixels = torch.randint(0, 100, (90, 1, 4, 4), generator=noise, dtype=torch.uint8)
    pixels[torch.arange(90), 0, labels] += 150
    return Examples(pixels, labels, max_pixel=255.0)


@pytest.fixture(scope="session")
def network() -> Callable[[int], nn.Module]:
    """Seed -> a tiny convolutional network for `images`, laid out as tasks lay theirs out."""

    def build(seed: int = 0) -> nn.Module:
        torch.manual_seed(seed)
        return Cnn(size=4, channels=(4, 8), hidden=16, classes=3).to(memory_format=torch.channels_last)

    return build


@pytest.fixture(scope="session")
def configured() -> Callable[..., Configuration]:
    """Names -> a known-good configuration, with other settings in place of some.

    `training` holds training settings, `warmup` the share of steps of a warm-up.
    """

    def build(
        optimizer: str = "adam",
        schedule: str = "constant",
        epochs: int = 3,
        variant: int = 0,
        warmup: float = 0.0,
        training: Mapping[str, Any] = MappingProxyType({}),
        **other: Any,
    ) -> Configuration:
        row, curve = optimizers.find(optimizer), schedules.find(schedule)
        arguments = row.arguments({**row.known_good[variant], **other})
        return Configuration.model_validate(
            {
                "optimizer": {"name": optimizer, "settings": arguments},
                "schedule": {
                    "name": schedule,
                    "settings": curve.arguments(curve.known_good(epochs)),
                    "warmup": warmup,
                },
                "training": {"batch_size": 16, **training},
            }
        )

    return build


@pytest.fixture(scope="session")
def best_config() -> Callable[[Configuration], BestConfig]:
    """Configuration -> a `BestConfig` around it."""

    def build(configuration: Configuration) -> BestConfig:
        return BestConfig(
            study="digits",
            task="digits",
            trial=7,
            metric="accuracy",
            value=0.9721,
            epochs=3,
            train_examples=1150,
            validation_examples=287,
            precision="fp32",
            seed=0,
            data_checksum="sha256:" + "0" * 64,
            configuration=configuration,
            versions={"torch": "2.9.0"},
        )

    return build


@pytest.fixture(scope="session")
def plain_training() -> Callable[..., Iterator[float]]:
    """A training loop as anyone would write it: yields each epoch's mean loss."""

    def train(
        model: nn.Module, optimizer: Any, scheduler: Any, images: Examples, epochs: int, batch_size: int, seed: int
    ) -> Iterator[float]:
        pixels, total = images.inputs.float() / 127.5 - 1, len(images)
        for epoch in range(epochs):
            torch.manual_seed((seed << 20) + epoch + 1)
            summed = 0.0
            for batch in torch.randperm(total).split(batch_size):
                optimizer.zero_grad()
                loss = functional.cross_entropy(model(pixels[batch]), images.targets[batch])
                loss.backward()
                optimizer.step()
                summed += loss.item() * len(batch)
            if scheduler is not None:
                scheduler.step()
            yield summed / total

    return train
