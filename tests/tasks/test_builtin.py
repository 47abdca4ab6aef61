"""Tasks: their rows, their data, and the networks they build."""

from pathlib import Path

import pytest
import torch

from optitune.errors import UsageError
from optitune.space.configuration import TrainingSettings
from optitune.tasks import datasets, loading
from optitune.tasks.builtin import ROWS, TASKS, BuiltIn
from optitune.tasks.data import Examples
from optitune.tasks.datasets import DATASETS, load_train
from optitune.tasks.splits import SearchData, full_data, load_test, search_data
from optitune.training.build import build, build_loss

CPU = torch.device("cpu")
NOWHERE = Path("no folder is needed")

DIGITS = TASKS["digits"].task(NOWHERE)

every_task = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)


@pytest.fixture(scope="module")
def digits() -> SearchData:
    return search_data(DIGITS, None)


@every_task
def test_a_row_has_a_data_set_and_a_description(row: BuiltIn) -> None:
    assert TASKS[row.name] is row
    assert row.described() == f"{DATASETS[row.dataset].about}; {row.about}"
    assert row.about
    task = row.task(NOWHERE)
    assert (task.name, task.about, task.validation) == (row.name, row.described(), row.validation)
    assert (task.loss_name, task.judge.name, task.own_loss) == ("cross-entropy", "accuracy", None)


@every_task
def test_the_initial_weights_follow_from_the_seed(row: BuiltIn) -> None:
    task = row.task(NOWHERE)
    once, again, other = build(task, 3, CPU), build(task, 3, CPU), build(task, 4, CPU)
    pairs = zip(once.parameters(), again.parameters(), strict=True)
    assert all(torch.equal(left, right) for left, right in pairs)
    assert not torch.equal(next(once.parameters()), next(other.parameters()))


def test_convolutions_lie_channels_last() -> None:
    weights = dict(build(TASKS["mnist-cnn"].task(NOWHERE), 0, CPU).named_parameters())["conv2.weight"]
    assert weights.is_contiguous(memory_format=torch.channels_last)


def test_a_task_trains_on_its_data(digits: SearchData) -> None:
    assert isinstance(digits.train, Examples)
    pixels, labels = digits.train.batch(slice(0, 9))
    loss = build_loss(TrainingSettings(), None)(build(DIGITS, 0, CPU)(pixels), labels)
    assert loss.shape == ()
    assert loss.isfinite()


def test_a_search_sees_everything_but_the_test_set_once(digits: SearchData) -> None:
    assert (len(digits.train), len(digits.validation)) == (1150, 287)
    everything = load_train("digits", NOWHERE)
    assert digits.checksum == everything.checksum()
    seen = {row.numpy().tobytes() for part in (digits.train, digits.validation) for row in part.inputs}
    assert seen == {row.numpy().tobytes() for row in everything.inputs}


def test_a_full_training_sees_what_the_search_saw_and_the_test_set_apart(digits: SearchData) -> None:
    everything, test = full_data(DIGITS).train, load_test(DIGITS)
    assert everything.checksum() == digits.checksum
    assert isinstance(everything, Examples)
    assert isinstance(test, Examples)
    assert (len(everything), len(test)) == (1437, 360)
    assert not {row.numpy().tobytes() for row in everything.inputs} & {row.numpy().tobytes() for row in test.inputs}


def test_the_validation_images_have_every_class_in_its_share(digits: SearchData) -> None:
    both = [torch.bincount(part.targets) / len(part) for part in (digits.train, digits.validation)]
    assert torch.all((both[0] - both[1]).abs() < 1 / 287)


def test_fewer_training_images_are_the_first_of_all(digits: SearchData) -> None:
    few = search_data(DIGITS, 100)
    assert torch.equal(few.train.inputs, digits.train.inputs[:100])
    assert torch.equal(few.validation.targets, digits.validation.targets)
    assert few.checksum == digits.checksum


def test_as_many_training_images_as_there_are_is_allowed_and_one_more_is_not() -> None:
    assert len(search_data(DIGITS, 1150).train) == 1150
    with pytest.raises(UsageError, match=r"train_examples = 1151: task 'digits' has 1150 examples to train on"):
        search_data(DIGITS, 1151)


def test_too_few_images_for_a_validation_set_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    few = Examples(torch.zeros(573, 1, 8, 8, dtype=torch.uint8), torch.arange(573) % 10, max_pixel=16.0)
    monkeypatch.setattr("optitune.tasks.builtin.load_train", lambda dataset, data_dir: few)
    with pytest.raises(UsageError, match=r"holds out 287 examples .* only 573.*: is the data set complete"):
        search_data(TASKS["digits"].task(Path("there")), None)


def test_a_search_never_opens_the_test_set(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    inner = datasets._load

    def load(dataset: str, data_dir: Path, half: datasets.Half) -> Examples:
        opened.append(half)
        return inner(dataset, data_dir, half)

    monkeypatch.setattr(datasets, "_load", load)
    search_data(DIGITS, None)
    assert opened == ["train"]


def test_an_unknown_task_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"unknown task 'digit': did you mean 'digits'\? \(see 'optitune tasks'"):
        loading.find("digit", NOWHERE)
    assert loading.find("digits", NOWHERE).about == TASKS["digits"].described()
