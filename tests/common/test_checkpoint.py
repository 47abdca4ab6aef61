"""Checkpoints: what is saved is loaded, and what is damaged is said to be."""

import json
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch
from file_contents import same
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from optitune.common import checkpoint
from optitune.errors import OptituneError

DTYPES = (
    torch.float32,
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.uint8,
    torch.bool,
)


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    """Of any dtype and of up to three dimensions, some of them empty."""
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    return (torch.randn(shape, generator=generator) * 100).to(torch.int64).abs().to(draw(st.sampled_from(DTYPES)))


leaves = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), tensors())
states = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.text() | st.integers(), inner, max_size=4),
    ),
    max_leaves=12,
)


@pytest.fixture(scope="session")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("checkpoints") / "state.safetensors"


@pytest.fixture
def whole(path: Path) -> bytes:
    """The bytes of a good checkpoint."""
    checkpoint.save({"weights": torch.arange(6.0).reshape(2, 3), "epoch": 3}, path)
    return path.read_bytes()


@given(state=states)
def test_what_is_saved_is_loaded(state: Any, path: Path) -> None:
    checkpoint.save(state, path)
    assert same(checkpoint.load(path), state)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ([1], (1,)),
        (1, 1.0),
        (True, 1),
        ({"a": 1}, {"a": 1, "b": 2}),
        ({1: 0}, {"1": 0}),
        (torch.zeros(2), torch.zeros(2, dtype=torch.bfloat16)),
        (torch.zeros(()), torch.zeros(1)),
        ([1, 2], [1]),
    ],
)
def test_the_comparison_of_the_tests_above_tells_states_apart(left: Any, right: Any) -> None:
    assert not same(left, right)
    assert same(left, left)


def test_tensors_that_share_memory_or_lie_crosswise_are_saved(path: Path) -> None:
    weights = torch.arange(24.0).reshape(2, 3, 2, 2)
    state = {"a": weights, "b": weights[0], "c": weights.mT, "d": weights.to(memory_format=torch.channels_last)}
    checkpoint.save(state, path)
    assert same(checkpoint.load(path), state)


def test_parameters_come_back_as_plain_tensors(path: Path) -> None:
    checkpoint.save([torch.nn.Parameter(torch.ones(2))], path)
    (loaded,) = checkpoint.load(path)
    assert type(loaded) is Tensor
    assert not loaded.requires_grad


@pytest.mark.parametrize("state", [{1, 2}, object(), b"bytes", {"deep": [({"deeper": {3}},)]}, 1j])
def test_what_cannot_be_kept_is_refused_and_leaves_the_old_file(state: object, path: Path, whole: bytes) -> None:
    with pytest.raises(TypeError, match="cannot be kept in a checkpoint"):
        checkpoint.save(state, path)
    assert path.read_bytes() == whole


@pytest.mark.parametrize("key", [(1, 2), 0.5, None])
def test_a_key_that_cannot_be_kept_is_refused(key: object, path: Path) -> None:
    with pytest.raises(TypeError, match=f"a key of type {type(key).__name__} cannot be kept"):
        checkpoint.save({key: 1}, path)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
def test_a_truncated_checkpoint_is_refused(share: float, path: Path, whole: bytes) -> None:
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(OptituneError, match=r"damaged or not a checkpoint .*: delete it and run the same") as caught:
        checkpoint.load(path)
    assert str(caught.value).startswith(str(path))


@given(data=st.binary(max_size=200))
def test_other_bytes_are_refused(data: bytes, path: Path) -> None:
    path.write_bytes(data)
    with pytest.raises(OptituneError, match="damaged or not a checkpoint"):
        checkpoint.load(path)


@pytest.mark.parametrize(
    "outline",
    [
        "",
        "{",
        "{}",
        '{"tensor": "0"}',
        '{"tensor": ["0"]}',
        '{"tensor": ["0", 7]}',
        '{"tensor": ["1", 7]}',
        '{"tensor": [["0"], 7]}',
        '{"dict": 3}',
        '{"dict": [["a"]]}',
        '{"dict": [[["a"], 1]]}',
        '{"list": 3}',
        '{"set": [1]}',
        '{"list": [], "tuple": []}',
    ],
)
def test_an_outline_that_makes_no_sense_is_refused(outline: str, path: Path) -> None:
    checksum = str(zlib.crc32(outline.encode()))
    save_file({"0": torch.zeros(1)}, path, metadata={"outline": outline, "checksum": checksum})
    with pytest.raises(OptituneError, match="damaged or not a checkpoint"):
        checkpoint.load(path)


def test_the_weights_of_another_program_are_refused(path: Path) -> None:
    save_file({"fc1.weight": torch.zeros(1)}, path)
    with pytest.raises(OptituneError, match="damaged or not a checkpoint"):
        checkpoint.load(path)


def test_a_missing_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptituneError, match="damaged or not a checkpoint"):
        checkpoint.load(tmp_path / "none.safetensors")


def test_a_checkpoint_is_a_safetensors_file_with_json(path: Path, whole: bytes) -> None:
    header = json.loads(whole[8 : 8 + int.from_bytes(whole[:8], "little")])
    outline = json.loads(header["__metadata__"]["outline"])
    weights = zlib.crc32(torch.arange(6.0).numpy(), zlib.crc32(b"torch.float32 (2, 3)"))
    assert outline == {"dict": [["weights", {"tensor": ["0", weights]}], ["epoch", 3]]}
    assert header["__metadata__"]["checksum"] == str(zlib.crc32(header["__metadata__"]["outline"].encode()))


@pytest.mark.parametrize("place", [-1, -24])
def test_a_flipped_bit_within_a_tensor_is_noticed(place: int, path: Path, whole: bytes) -> None:
    damaged = bytearray(whole)
    damaged[place] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(OptituneError, match=r"damaged or not a checkpoint \(tensor 0 has another checksum\)"):
        checkpoint.load(path)


@pytest.mark.parametrize(("was", "now"), [("[2,3]", "[3,2]"), ('"F32"', '"I32"'), ("3]]}", "7]]}")])
def test_a_header_that_says_something_else_is_noticed(was: str, now: str, path: Path, whole: bytes) -> None:
    assert whole.count(was.encode()) == 1
    path.write_bytes(whole.replace(was.encode(), now.encode()))
    with pytest.raises(OptituneError, match="another checksum"):
        checkpoint.load(path)


@pytest.mark.parametrize(
    "tensor",
    [torch.tensor(1.5, dtype=torch.bfloat16), torch.zeros(0, 3), torch.tensor(True), torch.zeros(0, dtype=torch.bool)],
)
def test_single_numbers_and_empty_tensors_have_a_checksum_too(tensor: Tensor, path: Path) -> None:
    checkpoint.save([tensor], path)
    assert same(checkpoint.load(path), [tensor])


def test_a_checkpoint_without_checksums_is_refused(path: Path) -> None:
    save_file({"0": torch.zeros(1)}, path, metadata={"outline": '{"tensor": "0"}'})
    with pytest.raises(OptituneError, match="damaged or not a checkpoint"):
        checkpoint.load(path)


def test_what_need_not_last_is_not_waited_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[int] = []
    monkeypatch.setattr("os.fsync", waits.append)
    checkpoint.save([torch.ones(2)], path)
    assert len(waits) == 1
    checkpoint.save([torch.zeros(2)], path, durable=False)
    assert len(waits) == 1
    assert same(checkpoint.load(path), [torch.zeros(2)])


@pytest.mark.parametrize("coalesced", [False, True])
def test_a_sparse_tensor_is_kept_as_it_is(coalesced: bool, tmp_path: Path) -> None:
    kept = torch.sparse_coo_tensor(torch.tensor([[2, 0, 2]]), torch.rand(3, 2), (4, 2), check_invariants=True)
    kept = kept.coalesce() if coalesced else kept
    checkpoint.save({"momentum": kept}, tmp_path / "kept")
    found = checkpoint.load(tmp_path / "kept")["momentum"]
    assert found.is_sparse
    assert found.is_coalesced() == coalesced
    assert torch.equal(found._indices(), kept._indices())
    assert torch.equal(found._values(), kept._values())
    assert found.shape == (4, 2)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ({1, 2}, "set"),
        (torch.Size([1]), "Size"),
    ],
)
def test_what_cannot_be_kept_is_named_with_its_place(value: object, kind: str) -> None:
    with pytest.raises(TypeError) as caught:
        checkpoint.dumps({"model": {"layer._extra_state": [1, value]}})
    assert str(caught.value) == f"model.layer._extra_state.1: {kind} cannot be kept in a checkpoint"
