"""From files to tensors: the split, the numbers, and every way a file can be broken."""

import re
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from file_contents import idx, random_images
from torch import Tensor

from optitune.errors import OptituneError
from optitune.tasks.data import SPLIT_SEED, Examples, split
from optitune.tasks.datasets import IDX_FILES, load_test, load_train

NOWHERE = Path("no folder is needed")
TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = IDX_FILES


@pytest.fixture(scope="module")
def digits() -> tuple[Examples, Examples]:
    return load_train("digits", NOWHERE), load_test("digits", NOWHERE)


def shares(labels: Tensor, classes: int = 10) -> list[float]:
    return (torch.bincount(labels, minlength=classes) / len(labels)).tolist()


def divided(labels: Tensor, held_out: int, seed: int = SPLIT_SEED) -> tuple[Tensor, Tensor]:
    return split(labels, len(labels), held_out, seed)


def test_the_split_is_the_one_that_it_always_was() -> None:
    train, validation = divided(torch.arange(1000) % 10, 100)
    assert train[:5].tolist() == [469, 917, 378, 650, 734]
    assert validation[:5].tolist() == [210, 304, 216, 337, 933]


def test_the_split_of_the_digits_is_the_one_that_it_always_was(digits: tuple[Examples, Examples]) -> None:
    train, validation = divided(digits[0].targets, 287)
    assert train[:5].tolist() == [1282, 808, 1295, 85, 1332]
    assert validation[:5].tolist() == [15, 823, 1183, 214, 614]
    assert digits[0].checksum() == "sha256:c6d76335a1251a9dda790a0c07b1e76e6fd2edb858f718861fdb2777ca701579"


@pytest.mark.parametrize(("n", "held_out"), [(1000, 100), (97, 13), (30, 15)])
def test_the_split_is_disjoint_and_complete(n: int, held_out: int) -> None:
    train, validation = divided(torch.arange(n) % 3, held_out)
    assert (len(train), len(validation)) == (n - held_out, held_out)
    assert sorted([*train.tolist(), *validation.tolist()]) == list(range(n))


def test_the_split_keeps_the_share_of_every_class() -> None:
    labels = torch.tensor([0] * 700 + [1] * 250 + [2] * 50)
    for part in divided(labels, 200):
        expected = torch.bincount(labels) * len(part) / len(labels)
        assert torch.all((torch.bincount(labels[part]) - expected).abs() <= 1)


def test_the_split_is_the_same_every_time_and_another_by_another_seed() -> None:
    labels = torch.arange(300) % 10
    once, again, other = divided(labels, 50), divided(labels, 50), divided(labels, 50, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))
    assert not torch.equal(once[1], other[1])


def test_the_split_depends_on_nothing_random_outside() -> None:
    labels = torch.arange(300) % 10
    torch.manual_seed(1)
    once = divided(labels, 50)
    torch.manual_seed(2)
    assert torch.equal(once[0], divided(labels, 50)[0])


def test_a_leading_part_of_the_split_is_no_run_of_neighbours() -> None:
    train, validation = divided(torch.arange(1000) % 10, 100)
    for part in (train, validation):
        assert not torch.equal(part, part.sort().values)


def test_digits_are_split_into_training_and_test_without_loss(digits: tuple[Examples, Examples]) -> None:
    train, test = digits
    assert (len(train), len(test)) == (1437, 360)
    # the 1,797 images of the bundle are all different, so an image is its own name
    names = [{row.numpy().tobytes() for row in part.inputs} for part in digits]
    assert len(names[0] | names[1]) == 1797
    assert not names[0] & names[1]
    assert shares(train.targets) == pytest.approx(shares(test.targets), abs=1 / 360)


def test_digits_are_images_of_one_channel_with_white_sixteen(digits: tuple[Examples, Examples]) -> None:
    train, _ = digits
    assert train.inputs.shape == (1437, 1, 8, 8)
    assert (train.inputs.dtype, train.targets.dtype) == (torch.uint8, torch.int64)
    assert (int(train.inputs.min()), int(train.inputs.max()), train.max_pixel) == (0, 16, 16.0)
    assert train.targets.unique().tolist() == list(range(10))


def test_a_batch_runs_from_minus_one_to_one() -> None:
    pixels = torch.tensor([0, 64, 128, 255], dtype=torch.uint8).reshape(4, 1, 1, 1)
    batch, labels = Examples(pixels, torch.arange(4), max_pixel=255.0).batch(torch.tensor([3, 0, 2]))
    assert batch.dtype == torch.float32
    assert batch.flatten().tolist() == pytest.approx([1.0, -1.0, 2 * 128 / 255 - 1])
    assert labels.tolist() == [3, 0, 2]


def test_a_batch_of_digits_runs_from_minus_one_to_one(digits: tuple[Examples, Examples]) -> None:
    batch, _ = digits[0].batch(slice(None))
    assert (batch.min().item(), batch.max().item()) == (-1.0, 1.0)


def test_making_a_batch_leaves_the_images_as_they_were(images: Examples) -> None:
    before = images.checksum()
    batch, _ = images.batch(slice(0, 3))
    batch.zero_()
    assert images.checksum() == before


def test_take_keeps_order_and_white() -> None:
    few = Examples(torch.arange(5, dtype=torch.uint8).reshape(5, 1, 1, 1), torch.arange(5), max_pixel=16.0)
    taken = few.take(torch.tensor([4, 1]))
    assert (taken.targets.tolist(), taken.inputs.flatten().tolist(), taken.max_pixel) == ([4, 1], [4, 1], 16.0)
    assert len(few.take(slice(0, 3))) == 3


def test_one_changed_pixel_or_label_changes_the_checksum(images: Examples) -> None:
    pixels, labels = images.inputs.clone(), images.targets.clone()
    assert Examples(pixels, labels).checksum() == images.checksum()
    pixels[17, 0, 2, 3] += 1
    assert Examples(pixels, images.targets).checksum() != images.checksum()
    labels[17] = 2 - labels[17]
    labels[16] = 2
    assert Examples(images.inputs, labels).checksum() != images.checksum()


def test_another_shape_of_the_same_bytes_has_another_checksum(images: Examples) -> None:
    assert Examples(images.inputs.reshape(90, 1, 2, 8), images.targets).checksum() != images.checksum()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """All four files of a tiny MNIST."""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    contents = [idx(random_images(30)), idx(torch.arange(30) % 10), idx(random_images(20)), idx(torch.arange(20) % 10)]
    for name, content in zip(IDX_FILES, contents, strict=True):
        (raw / name).write_bytes(content)
    return raw


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that nobody answers at."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def test_mnist_files_are_read_as_they_stand(folder: Path) -> None:
    train, test = load_train("mnist", folder.parents[1]), load_test("mnist", folder.parents[1])
    assert torch.equal(train.inputs, random_images(30).unsqueeze(1))
    assert torch.equal(test.inputs, random_images(20).unsqueeze(1))
    assert train.targets.tolist() == [number % 10 for number in range(30)]
    assert (train.targets.dtype, train.max_pixel, len(test)) == (torch.int64, 255.0, 20)


@pytest.mark.parametrize(("dataset", "name"), [("fashion-mnist", "FashionMNIST"), ("kmnist", "KMNIST")])
def test_each_data_set_has_a_folder_of_its_own(folder: Path, dataset: str, name: str) -> None:
    folder.parent.rename(folder.parents[1] / name)
    assert len(load_train(dataset, folder.parents[1])) == 30


ANY = r"are damaged \(\w.*; "
DAMAGES: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "truncated images": (TRAIN_IMAGES, lambda content: content[:-100], ANY),
    "images cut within the header": (TRAIN_IMAGES, lambda content: content[:6], ANY),
    "no pixels": (TRAIN_IMAGES, lambda content: content[:16], ANY),
    "empty images": (TRAIN_IMAGES, lambda content: b"", ANY),
    "images too long": (TRAIN_IMAGES, lambda content: content + b"\0", ANY),
    "zero images": (TRAIN_IMAGES, lambda content: idx(random_images(0)), ANY),
    "wrong magic": (TRAIN_IMAGES, lambda content: struct.pack(">I", 0xDEAD) + content[4:], ANY),
    "images of floats": (TRAIN_IMAGES, lambda content: struct.pack(">I", 0x0D03) + content[4:], ANY),
    "a web page": (TRAIN_IMAGES, lambda content: b"<!DOCTYPE html><html></html>", ANY),
    "wrong size": (TRAIN_IMAGES, lambda content: idx(random_images(30, size=27)), r"\(30, 27, 27\), not \(n, 28, 28\)"),
    "labels for images": (TRAIN_IMAGES, lambda content: idx(torch.zeros(30)), ANY),
    "too few labels": (TRAIN_LABELS, lambda content: idx(torch.arange(29) % 10), "30 images but 29 labels"),
    "truncated labels": (TRAIN_LABELS, lambda content: content[:-1], ANY),
    "empty labels": (TRAIN_LABELS, lambda content: b"", ANY),
    "wrong magic of labels": (TRAIN_LABELS, lambda content: b"\0\0\0\0" + content[4:], ANY),
    "a label out of range": (TRAIN_LABELS, lambda content: content[:-1] + b"\x0b", "a label of 11, not 0 to 9"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_told_with_folder_cause_and_remedy(folder: Path, damage: str) -> None:
    name, change, cause = DAMAGES[damage]
    (folder / name).write_bytes(change((folder / name).read_bytes()))
    with pytest.raises(OptituneError, match=cause) as caught:
        load_train("mnist", folder.parents[1])
    message = str(caught.value)
    assert message.startswith(f"the MNIST files in {folder} are damaged (")
    assert f"{name} {(folder / name).stat().st_size:,} bytes" in message
    assert "delete them and run the same command again to download them, or copy them anew" in message


def test_damaged_test_files_do_not_hinder_training(folder: Path) -> None:
    (folder / TEST_IMAGES).write_bytes(b"")
    assert len(load_train("mnist", folder.parents[1])) == 30
    with pytest.raises(OptituneError, match=f"are damaged .*{TEST_IMAGES} 0 bytes"):
        load_test("mnist", folder.parents[1])


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("gone", [(TRAIN_IMAGES,), (TRAIN_LABELS, TEST_IMAGES), IDX_FILES])
def test_missing_files_without_a_network_are_told_with_folder_cause_and_remedy(
    folder: Path, gone: tuple[str, ...]
) -> None:
    for name in gone:
        (folder / name).unlink()
    with pytest.raises(OptituneError, match=r"downloading failed \(\S+") as caught:
        load_train("mnist", folder.parents[1])
    message = str(caught.value)
    assert message.startswith(f"{', '.join(gone)} not found in {folder}, and downloading failed (")
    assert re.search(r"copy MNIST's files there, .* as data_dir, or use --task digits", message)
    assert "\n" not in message


@pytest.mark.usefixtures("no_network")
def test_a_data_folder_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("in the way")
    with pytest.raises(OptituneError, match=f"not found in {tmp_path / 'data'}.* as data_dir"):
        load_train("mnist", tmp_path / "data")
