"""Tasks: their rows, their data, and the networks they build."""

from pathlib import Path

import pytest
import torch

from optitune import data, tasks
from optitune.data import DATASETS, Images, load_train
from optitune.errors import UsageError
from optitune.tasks import ROWS, TASKS, SearchData, Task, build, described, search_data

CPU = torch.device("cpu")
NOWHERE = Path("no folder is needed")

every_task = pytest.mark.parametrize("task", ROWS, ids=lambda task: task.name)


@pytest.fixture(scope="module")
def digits() -> SearchData:
    return search_data(TASKS["digits"], NOWHERE, None)


@every_task
def test_a_row_has_a_data_set_and_a_description(task: Task) -> None:
    assert TASKS[task.name] is task
    assert described(task) == f"{DATASETS[task.dataset].about}; {task.about}"
    assert task.about


@every_task
def test_the_initial_weights_follow_from_the_seed(task: Task) -> None:
    once, again, other = build(task, 3, CPU), build(task, 3, CPU), build(task, 4, CPU)
    pairs = zip(once.parameters(), again.parameters(), strict=True)
    assert all(torch.equal(left, right) for left, right in pairs)
    assert not torch.equal(next(once.parameters()), next(other.parameters()))


def test_convolutions_lie_channels_last() -> None:
    weights = dict(build(TASKS["mnist-cnn"], 0, CPU).named_parameters())["conv2.weight"]
    assert weights.is_contiguous(memory_format=torch.channels_last)


def test_a_task_trains_on_its_data(digits: SearchData) -> None:
    task = TASKS["digits"]
    pixels, labels = digits.train.batch(slice(0, 9))
    loss = task.loss(build(task, 0, CPU)(pixels), labels)
    assert loss.shape == ()
    assert loss.isfinite()


def test_a_search_sees_everything_but_the_test_set_once(digits: SearchData) -> None:
    assert (len(digits.train), len(digits.validation)) == (1150, 287)
    everything = load_train("digits", NOWHERE)
    assert digits.checksum == everything.checksum()
    seen = {row.numpy().tobytes() for part in (digits.train, digits.validation) for row in part.pixels}
    assert seen == {row.numpy().tobytes() for row in everything.pixels}


def test_the_validation_images_have_every_class_in_its_share(digits: SearchData) -> None:
    both = [torch.bincount(part.labels) / len(part) for part in (digits.train, digits.validation)]
    assert torch.all((both[0] - both[1]).abs() < 1 / 287)


def test_fewer_training_images_are_the_first_of_all(digits: SearchData) -> None:
    few = search_data(TASKS["digits"], NOWHERE, 100)
    assert torch.equal(few.train.pixels, digits.train.pixels[:100])
    assert torch.equal(few.validation.labels, digits.validation.labels)
    assert few.checksum == digits.checksum


def test_as_many_training_images_as_there_are_is_allowed_and_one_more_is_not() -> None:
    assert len(search_data(TASKS["digits"], NOWHERE, 1150).train) == 1150
    with pytest.raises(UsageError, match=r"--train-images 1151: task 'digits' has 1150 images to train on"):
        search_data(TASKS["digits"], NOWHERE, 1151)


def test_too_few_images_for_a_validation_set_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    few = Images(torch.zeros(573, 1, 8, 8, dtype=torch.uint8), torch.arange(573) % 10)
    monkeypatch.setattr(tasks, "load_train", lambda dataset, data_dir: few)
    with pytest.raises(UsageError, match=r"holds out 287 .* only 573 in there: is the data set complete"):
        search_data(TASKS["digits"], Path("there"), None)


def test_a_search_never_opens_the_test_set(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    inner = data._load

    def load(dataset: str, data_dir: Path, part: data.Part) -> Images:
        opened.append(part)
        return inner(dataset, data_dir, part)

    monkeypatch.setattr(data, "_load", load)
    search_data(TASKS["digits"], NOWHERE, None)
    assert opened == ["train"]


def test_an_unknown_task_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"unknown task 'digit': did you mean 'digits'\? \(see 'optitune tasks'\)"):
        tasks.find("digit")
    assert tasks.find("digits") is TASKS["digits"]
