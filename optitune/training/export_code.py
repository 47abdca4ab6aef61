"""A configuration as something to paste: Python that needs torch alone, TOML, or JSON."""

import ast
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from textwrap import indent
from typing import Any

from optitune.common.text import over_runs, plural
from optitune.errors import UsageError
from optitune.space import losses, schedules
from optitune.space.configuration import Configuration, TrainingSettings
from optitune.space.schedules import Schedule
from optitune.study.best_config import BestConfig, dumps
from optitune.training.export_epoch import Expression, call, epoch_lines, has_steps_per, indented

FORMATS = ("python", "toml", "json")


def export(config: BestConfig, form: str, epochs: int | None = None) -> str:
    """A configuration as text, without a newline at the end.

    Args:
        config: what is exported.
        form: one of `FORMATS`.
        epochs: number that `train` of the Python trains for unless it is called with another, at least 1; None for the
            search's.

    Raises:
        UsageError: `epochs` is given for TOML or JSON, which have the search's.
    """
    if form == "python":
        return python(config, epochs)
    if epochs is not None:
        raise UsageError(
            f"epochs = {epochs}: {form} has the schedule of the search's {config.epochs} epochs, which is stretched "
            f"when it is trained: 'optitune retrain FILE --epochs {epochs}'"
        )
    return dumps(config).rstrip() if form == "toml" else json.dumps(config.model_dump(mode="json"), indent=2)


def python(config: BestConfig, epochs: int | None = None, about: str = "") -> str:
    """Python that trains a model as the search did: `train(model, loader)`.

    Of a training loop of the user's own it is `build(model, steps_per_epoch)`, which gives optimizer and schedulers.

    Args:
        config: what is exported.
        epochs: default of the argument `epochs` of `train`; None for the search's. For any number of epochs, the
            schedule is stretched as a full training's is.
        about: what it came to, a line each; empty for the value in the search.

    Raises:
        UsageError: `epochs` is less than 1.
    """
    if epochs is not None and epochs < 1:
        raise UsageError(f"epochs = {epochs}: must be at least 1")
    configuration = config.configuration
    path = configuration.optimizer.how[0]
    training = configuration.training
    parts = [
        *(_scaling(config), _class_of_ours(path), _groups(configuration), _loss(training)),
        (_build if training.loss == losses.OF_LOOP else _train)(config, epochs or config.epochs),
    ]
    body = "\n\n\n".join(part for part in parts if part)
    body = "\n\n\n".join([*_functions_of_ours("weights", body), body])
    needed = [module for module in ("copy", "fnmatch", "itertools", "math") if f"{module}." in body]
    package = path.partition(":")[0]
    third = sorted(["torch"] + [package] * (package.partition(".")[0] not in ("torch", "optitune")))
    imports = [*(f"import {module}" for module in needed), *[""] * bool(needed), *(f"import {each}" for each in third)]
    if "functional." in body:
        imports.append("from torch.nn import functional")
    found = about or (
        f"{config.task}: validation {config.metric} {config.unit.value(config.value)} after "
        f"{length_text(configuration, config.epochs)} (trial {config.trial}, {over_runs(config.runs)})"
    )
    return "\n".join([*imports, "", indent(found, "# "), "", "", body])


def length_text(configuration: Configuration, epochs: int) -> str:
    """Epochs and batch size in words; a training loop of the user's own has batches of its own."""
    batches = f" of batches of {configuration.training.batch_size}"
    return plural(epochs, "epoch") + batches * (configuration.training.loss != losses.OF_LOOP)


def _scaling(config: BestConfig) -> str:
    """Mean and deviation of the targets that the search trained on; nothing where it did not scale them."""
    if not config.scaling:
        return ""
    return "\n".join(
        [
            "# the network learns scaled targets: outputs * target_sd + target_mean are in the targets' own unit",
            f"target_mean = torch.tensor({config.scaling['mean']!r})",
            f"target_sd = torch.tensor({config.scaling['sd']!r})",
        ]
    )


def _class_of_ours(path: str) -> str:
    """The source of an optimizer that this package brings, so that what is pasted needs torch alone."""
    module = path.partition(":")[0]
    if not module.startswith("optitune."):
        return ""
    text = Path(__file__).with_name(module.rpartition(".")[2] + ".py").read_text(encoding="utf-8")
    return text[text.index("\nclass ") :].strip()


def _functions_of_ours(module: str, body: str) -> list[str]:
    """The source of the functions of a module of this package that `body` calls, and that those call."""
    text = Path(__file__).with_name(f"{module}.py").read_text(encoding="utf-8")
    functions = [each for each in ast.parse(text).body if isinstance(each, ast.FunctionDef)]
    found: dict[str, str] = {}
    while missing := [
        each
        for each in functions
        if each.name not in found and re.search(rf"\b{each.name}\(", "\n".join([body, *found.values()]))
    ]:
        found |= {each.name: ast.get_source_segment(text, each) or "" for each in missing}
    return [found[each.name].replace("  # type: ignore[assignment]", "") for each in functions if each.name in found]


def _groups(configuration: Configuration) -> str:
    """A function that gives the parameter groups; nothing where one group holds all."""
    optimizer, training = configuration.optimizer, configuration.training
    decay = bool(optimizer.settings.get("weight_decay"))
    matrices = "matrices" in optimizer.how[1]
    apart = any(times != 1 for times in training.groups.values())
    if not (decay or apart or matrices):
        return ""
    loop = training.loss == losses.OF_LOOP
    lines = [f"def {_groups_call(configuration)}:", '    """The parameters, by what is particular to them."""']
    if matrices and loop:
        lines += ["    matrices = hidden(model)"]
    elif matrices:
        lines += [
            "    with torch.random.fork_rng():",
            "        inputs = next(iter(loader))[0][:2]",
            "    matrices = hidden(model, inputs)",
        ]
    lines += [
        "    found = {}",
        "    for name, (parameter, kind) in kinds(model).items():",
        "        if not parameter.requires_grad:",
        "            continue",
        "        own = {}",
    ]
    if apart:
        lr = configuration.lr
        named = "'.'.join(filter(None, [of, name]))" if loop else "name"
        lrs = {pattern: lr * times if times != 1 else None for pattern, times in training.groups.items()}
        usual = ["                if lr is not None:"] * (None in lrs.values())
        lines += [
            f"        for pattern, lr in {lrs!r}.items():",
            f"            if fnmatch.fnmatchcase({named}, pattern):",
            *usual,
            "    " * len(usual) + '                own["lr"] = lr',
            "                break",
        ]
    if decay:
        lines += [f"        if {_spared(training)}:", '            own["weight_decay"] = 0.0']
    if matrices:
        lines += ['        own["matrix"] = name in matrices']
    lines += [
        '        found.setdefault(str(own), {"params": [], **own})["params"].append(parameter)',
        "    return list(found.values())",
    ]
    return "\n".join(lines)


def _groups_call(configuration: Configuration) -> str:
    """The call of the function of parameter groups, which is its signature as well."""
    if configuration.training.loss == losses.OF_LOOP:
        return "groups(model, of)"
    return f"groups(model{', loader' * ('matrices' in configuration.optimizer.how[1])})"


def _spared(training: TrainingSettings) -> str:
    """What is true of the `kind` of a parameter that neither weight decay nor l1 pulls at."""
    return 'kind == "sparse"' if training.decay_biases else 'kind in ("sparse", "other")'


def _loss(training: TrainingSettings) -> str:
    """A function for a loss that compares numbers; nothing for one that is called as it is."""
    if training.loss in losses.UNNAMED or not losses.find(training.loss).one_hot:
        return ""
    name = losses.find(training.loss).path.partition(":")[2]
    return "\n".join(
        [
            "def loss_of(outputs, targets):",
            "    if not targets.is_floating_point():",
            "        targets = functional.one_hot(targets, outputs.shape[1]).to(outputs.dtype)",
            "    if outputs.numel() == targets.numel():",
            "        outputs = outputs.reshape(targets.shape)",
            f"    return functional.{name}(outputs, targets)",
        ]
    )


_LAZY = (
    "if any(map(torch.nn.parameter.is_lazy, model.parameters())):",
    "    # layers such as LazyLinear have no shape before a first batch",
    "    with torch.no_grad():",
    "        model.eval()(next(iter(loader))[0])",
)


def _train(config: BestConfig, usual: int) -> str:
    """The training itself, of `usual` epochs if nothing else is said."""
    configuration = config.configuration
    training, traits = configuration.training, configuration.optimizer.how[1]
    own = training.loss == losses.OF_TASK
    what = "the mean loss of every epoch"
    lines = [
        f"def train(model, loader, {'loss_of, ' if own else ''}epochs={usual}):",
        f'    """Train `model` on the batches of {training.batch_size} (inputs, targets) of `loader`; {what}."""',
        *["    # where the loss has parameters, give the optimizer list(loss_of.parameters()) as well"] * own,
        *indented(_LAZY * (bool(_groups(configuration)) or training.l1 > 0), 1),
        *indented(building(configuration, config.epochs), 1),
        *[f"    penalised = [p for p, kind in kinds(model).values() if not ({_spared(training)})]"] * bool(training.l1),
        "    losses = []",
        "    for _ in range(epochs):",
        "        model.train()",
        *["        optimizer.train()"] * ("modes" in traits),
        "        total = seen = 0",
        *indented(epoch_lines(config), 2),
        *["        optimizer.eval()"] * ("modes" in traits),
        *["        scheduler.step()"] * has_steps_per(configuration, "epoch"),
        *["        scheduler.step(total / seen)"] * schedules.find(configuration.schedule.name).observes,
        "        losses.append(total / seen)",
        "    return losses",
    ]
    return "\n".join(lines)


def _build(config: BestConfig, usual: int) -> str:
    """Optimizer and schedulers of a training loop of the user's own, for `usual` epochs if nothing else is said."""
    configuration = config.configuration
    training, traits, schedule = configuration.training, configuration.optimizer.how[1], configuration.schedule
    row = schedules.find(schedule.name)
    per_step = ["warmup"] * bool(schedule.warmup) + ["scheduler"] * (bool(row.path) and row.per == "step")
    per_epoch = ["scheduler"] * (bool(row.path) and row.per == "epoch")
    read = {name: getattr(training, name) for name in ("batch_size", "accumulation", "label_smoothing")}
    plain = TrainingSettings()
    notes = [
        *[f"the loop has {name} = {value!r}" for name, value in read.items() if value != getattr(plain, name)],
        *["optimizer.step takes a closure"] * ("closure" in traits),
        *["call optimizer.train() before training, and optimizer.eval() before judging"] * ("modes" in traits),
        *["the scheduler's step takes the mean training loss of the epoch"] * row.observes,
        *[f"before a step: torch.nn.utils.clip_grad_norm_(model.parameters(), {training.clip_norm!r})"]
        * bool(training.clip_norm),
        *[f"the loss has {training.l1!r} times the sum of absolute weights, without {_spared_text(training)}"]
        * bool(training.l1),
    ]
    lines = [
        *(f"# {each}" for each in notes),
        f'def build(model, steps_per_epoch, epochs={usual}, of=""):',
        '    """Optimizer of `model`, schedulers to step after each of its steps, and those to step after each epoch.',
        "",
        "    `of` is the name of the optimizer, where the loop has several.",
        '    """',
        *indented(building(configuration, config.epochs), 1),
        f"    return optimizer, [{', '.join(per_step)}], [{', '.join(per_epoch)}]",
    ]
    return "\n".join(lines)


def _spared_text(training: TrainingSettings) -> str:
    """What neither weight decay nor l1 pulls at."""
    return "sparse embeddings" if training.decay_biases else "biases, factors of normalisation, sparse embeddings"


def building(configuration: Configuration, epochs: int, stretching: bool = True) -> Iterator[str]:
    """Lines that build optimizer and schedulers.

    Args:
        configuration: what is built.
        epochs: number of epochs that the schedule was made for.
        stretching: whether the schedule follows the variable `epochs`, as `Configuration.stretched` does; if not, its
            lengths are plain numbers.
    """
    optimizer, training, schedule = configuration.optimizer, configuration.training, configuration.schedule
    row = schedules.find(schedule.name)
    parameters = "model.parameters()"
    if _groups(configuration):
        parameters = _groups_call(configuration)
    path = optimizer.how[0]
    name = path.partition(":")[2] if path.startswith("optitune.") else path.replace(":", ".")
    if "closure" in optimizer.how[1]:
        yield "# LBFGS takes weights in their plain order alone"
        yield "model.to(memory_format=torch.contiguous_format)"
    yield f"optimizer = {call(name, parameters, dict(optimizer.settings))}"
    if training.loss == losses.OF_LOOP:
        yield from ["steps = steps_per_epoch"] * (row.per == "step" or bool(schedule.warmup))
    elif row.per == "step" or schedule.warmup:
        counted, size = "len(loader)", training.batch_size
        if size > 1:
            yield "# a last batch of a single example is left out"
            yield f"batches = len(loader) - (len(getattr(loader, 'dataset', ())) == {size} * len(loader) - {size - 1})"
            counted = "batches"
        yield "steps = " + (f"math.ceil({counted} / {training.accumulation})" if training.accumulation > 1 else counted)
    if row.path:
        settings: dict[str, Any] = dict(schedule.settings)
        if stretching:
            settings |= _stretched(row, settings, epochs)
        if row.per == "step":
            settings |= {each: Expression(f"{settings[each]!r} * steps") for each in row.in_epochs}
        if stretching and "pct_start" in settings:
            # torch divides by the length of the rise less one step
            settings["pct_start"] = Expression(f"{settings['pct_start']!r} * (1 + 1e-12)")
        if row.lr_argument:
            settings = {row.lr_argument: Expression('[group["lr"] for group in optimizer.param_groups]'), **settings}
        if "longer" in repr(settings):
            yield "# the schedule is stretched to the number of epochs"
            yield f"longer = epochs / {epochs}"
        yield f"scheduler = {call(row.path.replace(':', '.'), 'optimizer', settings)}"
    if schedule.warmup:
        yield f"ramp = round({schedule.warmup!r} * {'epochs' if stretching else epochs} * steps)"
        yield "warmup = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=1 / (ramp + 1), total_iters=ramp)"


def _stretched(row: Schedule, settings: Mapping[str, Any], epochs: int) -> dict[str, Any]:
    """The settings that `Schedule.stretched` changes, as expressions of `epochs` and `longer`, their ratio."""
    slower = {name: Expression(f"{settings[name]!r} ** (1 / longer)") for name in row.per_epoch}
    return slower | {name: _length(settings[name], epochs) for name in row.in_epochs}


def _length(value: Any, epochs: int) -> Any:
    if isinstance(value, list):
        return [_length(each, epochs) for each in value]
    if value == epochs:
        return Expression("epochs")
    return Expression(f"max(1, round({value} * longer))") if value else value


def glance(configuration: Configuration, epochs: int) -> list[str]:
    """Optimizer and schedulers as torch takes them in a training of `epochs`, with a line on the parameter groups."""
    lines = list(building(configuration, epochs, stretching=False))
    optimizer, training = configuration.optimizer, configuration.training
    if not _groups(configuration):
        return lines
    about = [
        *[f"no weight decay of {_spared_text(training)}"] * bool(optimizer.settings.get("weight_decay")),
        *[f"hidden matrices for {optimizer.name}, the rest beside it"] * ("matrices" in optimizer.how[1]),
        *(f"lr * {times!r} for {pattern}" for pattern, times in training.groups.items() if times != 1),
    ]
    return [f"# groups, as 'optitune export' defines it: {'; '.join(about)}", *lines]
