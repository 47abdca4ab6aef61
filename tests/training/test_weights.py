"""What counts as a weight, by the type of its layer: what decays, and what Muon makes even."""

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from optitune.training.weights import bare, hidden, kinds


def of(model: nn.Module, kind: str) -> set[str]:
    return {name for name, (_, each) in kinds(model).items() if each == kind}


class Factors(nn.Module):
    """Factors that are no weights although they have several dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, padding=1)
        self.norm = nn.LayerNorm((8, 8, 8))
        self.gamma = nn.Parameter(torch.full((1, 8, 1, 1), 0.1))
        self.layer_scale = nn.Parameter(torch.ones(8, 1, 1))
        self.cls = nn.Parameter(torch.zeros(1, 1, 8))
        self.position_table = nn.Parameter(torch.zeros(1, 8, 8))
        self.relative_bias = nn.Parameter(torch.zeros(8, 8))
        self.temperature = nn.Parameter(torch.ones(()))
        self.mixing = nn.Parameter(torch.eye(8))
        self.head = nn.Linear(512, 10)

    def forward(self, images: Tensor) -> Tensor:
        x = self.norm(self.conv(images)) * self.gamma * self.layer_scale + self.cls.reshape(1, 8, 1, 1)
        x = (x + self.position_table + self.relative_bias) @ self.mixing
        outputs: Tensor = self.head(x.flatten(1)) * self.temperature
        return outputs


class ChannelNorm(nn.Module):
    """A normalisation of the user's own."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.shift = nn.Parameter(torch.ones(4, 4)), nn.Parameter(torch.zeros(4, 4))


class Projection(nn.Module):
    """A linear layer of the user's own, onto one number."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, 4))


def test_weights_are_told_from_factors_by_their_layer_and_their_shape() -> None:
    model = Factors()
    assert of(model, "weight") == {"conv.weight", "mixing", "head.weight"}
    assert list(kinds(model)) == [name for name, _ in model.named_parameters()]
    assert hidden(model, torch.rand(2, 1, 8, 8)) == {"conv.weight", "mixing"}


@pytest.mark.parametrize(
    "norm",
    [
        lambda: nn.LayerNorm((4, 4)),
        lambda: nn.RMSNorm((4, 4)),
        lambda: nn.GroupNorm(2, 4),
        lambda: nn.BatchNorm2d(4),
        lambda: nn.InstanceNorm2d(4, affine=True),
        ChannelNorm,
        nn.PReLU,
    ],
)
def test_no_factor_of_a_normalisation_is_a_weight(norm: Callable[[], nn.Module]) -> None:
    model = norm()
    assert of(model, "other") == {name for name, _ in model.named_parameters()} != set()


def test_layers_of_torch_are_known() -> None:
    model = nn.ModuleDict(
        {
            "narrow": nn.Linear(1, 4),
            "one": nn.Linear(4, 1),
            "depthwise": nn.Conv2d(4, 4, 1, groups=4),
            "up": nn.ConvTranspose1d(2, 2, 2),
            "both": nn.Bilinear(2, 2, 2),
            "attention": nn.MultiheadAttention(4, 2, kdim=3, vdim=3, add_bias_kv=True),
            "lstm": nn.LSTM(2, 3, proj_size=2),
            "cell": nn.GRUCell(2, 2),
            "own": Projection(),
            "tokens": nn.Embedding(5, 2),
            "bag": nn.EmbeddingBag(5, 2, sparse=True),
        }
    )
    assert of(model, "other") == {name for name, _ in model.named_parameters() if "bias" in name}
    assert of(model, "embedding") == {"tokens.weight"}
    assert of(model, "sparse") == {"bag.weight"}
    assert {"own.weight", "lstm.weight_hr_l0", "attention.q_proj_weight"} < of(model, "weight")


def test_a_direction_is_a_weight_and_its_length_is_none() -> None:
    layers = [parametrizations.weight_norm(nn.Linear(4, 4)), parametrizations.spectral_norm(nn.Linear(4, 4))]
    names = {"0.parametrizations.weight.original1", "1.parametrizations.weight.original"}
    assert of(nn.Sequential(*layers), "weight") == names
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        old = nn.utils.weight_norm(nn.Linear(4, 4))
    assert of(old, "weight") == {"weight_v"}
    scaled = parametrizations.weight_norm(nn.LayerNorm((4, 4)))
    assert of(scaled, "weight") == set()


def test_bare_parameters_in_lists_and_dicts_go_by_their_shape() -> None:
    parameters = nn.ParameterList([nn.Parameter(torch.ones(3, 3)), nn.Parameter(torch.ones(1, 3))])
    named = nn.ParameterDict({"mix": nn.Parameter(torch.ones(3, 3)), "token": nn.Parameter(torch.ones(3, 3))})
    assert of(nn.ModuleDict({"list": parameters, "dict": named}), "weight") == {"list.0", "dict.mix"}


class Tied(nn.Module):
    """A language model whose output layer is its embedding."""

    def __init__(self, functionally: bool) -> None:
        super().__init__()
        if not functionally:
            self.out = nn.Linear(4, 9, bias=False)
        self.embed = nn.Embedding(9, 4)
        self.body = nn.Linear(4, 4)
        if not functionally:
            self.out.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return functional.linear(self.body(self.embed(tokens)), self.embed.weight)


@pytest.mark.parametrize("functionally", [False, True])
def test_an_output_layer_that_is_the_embedding_too_is_an_embedding(functionally: bool) -> None:
    model = Tied(functionally)
    assert of(model, "embedding") == {"embed.weight" if functionally else "out.weight"}
    assert hidden(model, torch.zeros(2, 3, dtype=torch.int64)) == {"body.weight"}


class Turned(nn.Module):
    """A network that makes its output layer first, has one that it never uses, and counts how often it is called."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.body, self.unused = nn.Linear(4, 2), nn.Linear(4, 4), nn.Linear(4, 4)
        self.calls = 0

    def forward(self, inputs: Tensor) -> dict[str, list[Tensor]]:
        self.calls += 1
        return {"outputs": [functional.dropout(self.head(self.body(inputs).relu()), 0.5, self.training)]}


def test_the_output_layer_is_the_last_that_was_used(capfd: pytest.CaptureFixture[str]) -> None:
    model, inputs = Turned(), torch.rand(2, 4)
    model.head.requires_grad_(False)
    before = torch.get_rng_state()
    assert hidden(model, inputs) == {"body.weight", "unused.weight"}
    assert model.calls == 0
    assert model.training
    assert not model.head.weight.requires_grad
    assert torch.equal(torch.get_rng_state(), before)
    assert hidden(model) == {"head.weight", "body.weight"}
    assert hidden(nn.Linear(3, 2)) == set()
    assert hidden(nn.Sequential(nn.Tanh()), inputs) == set()


def test_complex_weights_are_not_made_even() -> None:
    assert hidden(nn.Sequential(nn.Linear(4, 4, dtype=torch.complex64), nn.Linear(4, 2))) == set()


def test_names_are_those_of_the_network_itself() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    names = list(kinds(model))
    compiled: list[nn.Module] = [
        torch.compile(model),  # type: ignore[list-item]
        nn.DataParallel(model),
        nn.Sequential(torch.compile(model[0]), model[1]),  # type: ignore[arg-type]
    ]
    for each in compiled:
        assert list(kinds(each)) == names
    assert bare(torch.compile(nn.DataParallel(model))) is model  # type: ignore[arg-type]
    assert hidden(compiled[0], torch.rand(2, 4)) == {"0.weight"}
