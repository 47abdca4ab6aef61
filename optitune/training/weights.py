"""Kinds of a network's parameters: weights, embeddings, and others such as biases and normalisation factors.

It needs nothing but torch, and nothing else of this package: exported code holds the text of its functions.
"""

import copy

import torch


def bare(model: torch.nn.Module) -> torch.nn.Module:
    """The network without the wrappers of `torch.compile`, `DataParallel` and `DistributedDataParallel`."""
    wrappers = (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)
    while hasattr(model, "_orig_mod") or isinstance(model, wrappers):
        model = model._orig_mod if hasattr(model, "_orig_mod") else model.module  # type: ignore[assignment]
    return model


def kinds(model: torch.nn.Module) -> dict[str, tuple[torch.nn.Parameter, str]]:
    """The parameters of a network and their kinds, by name, in the network's order.

    Kinds: `weight`, the matrix of a layer or the kernels of a convolution; `embedding`, a matrix with a row per token;
    `sparse`, an embedding with sparse gradients; `other`, all else: biases, normalisation factors, scales, learned
    tokens and positions. The type of the layer decides, or shape and name for parameters of the user's own modules.
    Names are without the prefixes of `torch.compile` and `DataParallel`.
    """
    modules = dict(bare(model).named_modules())
    found: dict[str, tuple[torch.nn.Parameter, str]] = {}
    names: dict[int, str] = {}
    for place, layer in modules.items():
        for own, parameter in layer.named_parameters(recurse=False):
            owner, attribute = layer, own
            above, marker, rest = f".{place}".rpartition(".parametrizations.")
            if marker:
                owner = modules[above[1:]]
                # weight_norm's `original0` is a length per row
                attribute = "" if own == "original0" else rest
            kind = _kind(owner, attribute, parameter)
            name = f".{place}.{own}".replace("._orig_mod.", ".").replace("..", ".")[1:]
            if id(parameter) not in names:
                names[id(parameter)] = name
                found[name] = parameter, kind
            elif kind in ("embedding", "sparse"):
                # an output layer that is its network's embedding too
                found[names[id(parameter)]] = parameter, kind
    return found


def _kind(layer: torch.nn.Module, name: str, parameter: torch.nn.Parameter) -> str:
    """The kind of the parameter of `layer` with that `name`."""
    if isinstance(layer, (torch.nn.Embedding, torch.nn.EmbeddingBag)):
        return "sparse" if layer.sparse else "embedding"
    wide = sum(size > 1 for size in parameter.shape)
    # weight_norm's `weight_g` is a length per row
    named = "weight" in name and not name.endswith("_g")
    of_torch = (
        torch.nn.Linear,
        torch.nn.Bilinear,
        torch.nn.MultiheadAttention,
        torch.nn.RNNBase,
        torch.nn.RNNCellBase,
        torch.nn.modules.conv._ConvNd,
    )
    if named and isinstance(layer, of_torch):
        return "weight" if parameter.ndim > 1 else "other"
    classes = " ".join(each.__name__ for each in type(layer).__mro__)
    beside = ("bias", "embed", "pos", "scale", "token")
    if "Norm" in classes and not isinstance(layer, of_torch):
        return "other"
    if named:
        weight = parameter.ndim == 2 or wide > 1
    else:
        # what is 1 along its first side is the same for every example
        weight = wide > 1 and parameter.shape[0] > 1 and not any(w.startswith(beside) for w in name.split("_"))
    return ("embedding" if "Embed" in classes else "weight") if weight else "other"


def hidden(model: torch.nn.Module, inputs: object = None) -> set[str]:
    """The names of the hidden weight matrices: all but those of embeddings and of the output layer.

    The output layer is the one whose weight is used last in the autograd graph of the outputs for `inputs`. Without
    inputs, or where the graph does not show it, it is the last of the network.

    Args:
        model: the network, which is not changed.
        inputs: a few inputs; None where there are none.
    """
    known = kinds(model)
    weights = [name for name, (_, kind) in known.items() if kind != "other"]
    last = _last_used(model, inputs) or (weights[-1] if weights else "")
    return {
        name
        for name, (parameter, kind) in known.items()
        if kind == "weight" and name != last and not parameter.is_complex()
    }


def _last_used(model: torch.nn.Module, inputs: object) -> str:
    """The name of the weight that is used last, by the sequence numbers of autograd's nodes; empty if unknown."""
    if inputs is None:
        return ""
    try:
        model = copy.deepcopy(bare(model))
    except Exception:
        return ""
    names = {}
    for name, (parameter, kind) in kinds(model).items():
        # a frozen output layer is one too
        parameter.requires_grad_(parameter.is_floating_point() or parameter.is_complex())
        if kind != "other":
            names[id(parameter)] = name
    with torch.enable_grad():
        given = [model.eval()(inputs)]
    nodes = []
    while given:
        each = given.pop()
        if isinstance(each, torch.Tensor):
            nodes.append(each.grad_fn)
        elif isinstance(each, (tuple, list, dict)):
            given += each.values() if isinstance(each, dict) else each
    last, found, seen = -1, "", set()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        for before, _ in node.next_functions:
            nodes.append(before)
            used = names.get(id(getattr(before, "variable", None)), "")
            if used and node._sequence_nr() > last:
                last, found = node._sequence_nr(), used
    return found
