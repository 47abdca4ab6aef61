"""What the parameters of a network are: weights, or something beside them, such as biases and factors of a norm.

It needs nothing but torch, and nothing else of this package: exported code holds the text of its functions.
"""

import copy

import torch


def bare(model: torch.nn.Module) -> torch.nn.Module:
    """The network itself, without what `torch.compile` and `DataParallel` put around it."""
    while hasattr(model, "_orig_mod") or isinstance(model, torch.nn.DataParallel):
        model = model._orig_mod if hasattr(model, "_orig_mod") else model.module  # type: ignore[assignment]
    return model


def kinds(model: torch.nn.Module) -> dict[str, tuple[torch.nn.Parameter, str]]:
    """The parameters of a network by name, in its order, each with its kind.

    A `weight` is a matrix, or are the kernels of a convolution, between what goes into a layer and what comes out. The
    weight of an `embedding` has a row per token; one whose gradients are sparse is `sparse`. All else is `other`:
    biases, the factors of a normalisation whatever their shape, a layer's scale, learned tokens and positions.
    It goes by the type of the layer; of parameters that stand by themselves in a network of the user's own, by shape
    and name. Names are those of the network, without what `torch.compile` and `DataParallel` put into them.
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
    """What a parameter is that `layer` calls by `name`."""
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
    """The names of the weights that are neither an embedding's nor the output layer's.

    The output layer is the one whose weight is used last on the way to what the network gives for `inputs`, as torch
    recorded it in the graph of a copy of the network. Without inputs, or where the graph does not show it, it is taken
    to be the last of the network.

    Args:
        model: is left as it is.
        inputs: a few, as the network takes them; None where there are none.
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
    """The name of the weight that is used last, by the numbers that torch gives to its operations; empty if unknown."""
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
