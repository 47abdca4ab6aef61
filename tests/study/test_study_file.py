"""A study as a file: what `init` writes, what a file and `--set` may say, and what is said of a faulty one."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from optitune.cli.main import run
from optitune.errors import OptituneError, UsageError
from optitune.searching import run as searching
from optitune.searching.requests import SearchRequest
from optitune.storage import studies
from optitune.study.settings import StudySettings
from optitune.study.study_file import Budget, from_file, from_text, parted, seconds, template

LINES = [line[2:] for line in template("mine", "digits").splitlines() if re.match(r"# [\w.]+ = |# \[", line)]
"""What the template has commented out."""

OWN = LINES.index("[[optimizer]]")
"""Where the lines of an optimizer of the study's own begin."""

LION = "\n".join(LINES[OWN:]).replace("lion_pytorch:Lion", "torch.optim:Adam")
"""An optimizer of the study's own, of a class that is there and takes the same arguments."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "studies").mkdir()
    return tmp_path / "studies" / "mine.toml"


def settings_of(text: str, path: Path) -> StudySettings:
    """What a file says, with the defaults for the rest."""
    path.write_text(text)
    return StudySettings.model_validate(from_file(path)[0])


def refused(text: str, path: Path) -> str:
    """The message with which a file is refused."""
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        from_file(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_a_missing_file_says_nothing(path: Path) -> None:
    assert from_file(path) == ({}, {})


def test_a_file_says_what_stands_in_it_and_no_more(path: Path) -> None:
    path.write_text('optimizers = ["adam", "sgd"]\nepochs = 3\ntrials = 7\nadam.beta2 = 0.999\n')
    assert from_file(path) == (
        {"optimizers": ["adam", "sgd"], "epochs": 3, "adam": {"beta2": 0.999}},
        {"trials": 7},
    )


def test_init_writes_a_file_that_says_nothing_but_the_task(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["init", "mine", "--task", "digits", "--studies-dir", str(path.parent)]) == 0
    assert from_file(path) == ({"task": "digits"}, {})
    assert capsys.readouterr().out == (
        f"wrote {path}; edit it, then: optitune search --study mine --studies-dir {path.parent}\n"
    )
    assert path.read_text().splitlines()[0].endswith("optitune search --study mine")


def test_init_never_overwrites(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path.write_text("epochs = 3\n")
    assert run(["init", "mine", "--studies-dir", str(path.parent)]) == 1
    assert f"{path} is there already" in capsys.readouterr().err
    assert path.read_text() == "epochs = 3\n"


@pytest.mark.parametrize("task", ["mnist-cnn", "my_task.py:make_task", 'odd "name".py:make', "C:\\tasks\\mine.py:make"])
def test_any_task_can_be_written_into_the_file(task: str, path: Path) -> None:
    path.write_text(template("mine", task))
    assert from_file(path) == ({"task": task}, {})


@pytest.mark.parametrize("line", LINES[:OWN])
def test_each_line_of_the_template_is_valid_alone(line: str, path: Path) -> None:
    text = template("mine", "digits")
    changed = text.replace(f"# {line}", line)
    assert changed != text
    path.write_text(changed)
    said, budget = from_file(path)
    assert len(said) + len(budget) == 2, "the task and what was uncommented"


def test_all_lines_of_the_template_are_valid_together(path: Path) -> None:
    settings_of("\n".join([*LINES[:OWN], LION]), path)
    assert set(tomllib.loads(path.read_text())) > {"trials", "groups", "adam", "optimizer"}


def test_the_own_optimizer_of_the_template_can_compete(path: Path) -> None:
    settings = settings_of('optimizers = ["lion", "sgd"]\n' + LION, path)
    row = settings.rows()[0]
    assert (row.name, row.path, row.known_good[0]) == (
        "lion",
        "torch.optim:Adam",
        {"lr": 1e-4, "beta1": 0.9, "beta2": 0.99},
    )
    assert str(settings.space().optimizers["lion"]["beta2"]) == "0.9 to 0.999, log scale of 1 - value"


def test_the_template_has_every_setting_with_its_default() -> None:
    said: dict[str, Any] = tomllib.loads("\n".join(LINES[:OWN]))
    defaults = {**StudySettings().document(), **Budget().model_dump()}
    assert set(StudySettings.model_fields) - {"task", "optimizer", "hyperparameters"} <= set(said)
    assert set(Budget.model_fields) <= set(said)
    examples = {"timeout", "train_examples", "loss", "metric", "groups", "lr", "weight_decay", "adam", "sgd", "step"}
    assert {key: value for key, value in said.items() if key not in examples} == {
        key: value for key, value in defaults.items() if key not in {*examples, "task"}
    }


FAULTS = [
    ("epoch = 3", "epoch = 3: unknown "),
    ("epochs = 0", "epochs = 0: "),
    ("epochs = '3'", "epochs = '3': "),
    ("epochs = 2.5", "epochs = 2.5: "),
    ("[study]\nepochs = 3", "study = {'epochs': 3}: unknown key 'study'"),
    ('optimizers = ["adm"]', "unknown optimizer 'adm'"),
    ("optimizers = []", r"optimizers = \[\]: must name at least one"),
    ("epochs = ", "is not a TOML file: .*; mend or remove it"),
    ("seed = " + "1" * 5000, "is not a TOML file"),
    ("trials = 0", "trials = 0: "),
    ("trials = 2.5", "trials = 2.5: "),
    ("timeout = 'soon'", "timeout = 'soon': .* write 90, 90s, 10m or 2h"),
    ("timeout = 0", "timeout = 0: "),
    ("lr = [0.1, 0.01]", r"lr = \[0.1, 0.01\]: must be a value, or the two ends of a range, the lower first"),
    ("lr = [0.1, 0.2, 0.3]", r"lr = \[0.1, 0.2, 0.3\]: must be a value, or the two ends of a range"),
    ("lr = 0", "lr = 0: must be above 0"),
    ("lr = 'high'", "lr = 'high': must be a number"),
    ("lr = nan", "lr = nan: must be finite"),
    ("lr = 1e31", "lr = 1e.31: must be .* at most 1e30"),
    ("lr = 1" + "0" * 400, "lr = 1.*: must be .* at most 1e30"),
    ("momentum = 1.0", "momentum = 1.0: must be at least 0 and below 1"),
    ("nesterov = 1", "nesterov = 1: must be False or True"),
    ("adam.beta2 = 1.0", "adam.beta2 = 1.0: must be at least 0 and below 1"),
    ("adam.beta3 = 0.9", "adam.beta3 = 0.9: unknown setting of adam 'beta3': did you mean 'beta2' or 'beta1'"),
    ("radam.beta2 = 0.9", "radam: is not among the optimizers and schedules that compete"),
    ("step.gamma = 2", "step.gamma = 2: must be above 0 and at most 1"),
    ("step.step_size = 1.5", "step.step_size = 1.5: must be a whole number"),
    ("cosine.T_max = 3", "cosine: is not among the optimizers and schedules that compete"),
    ("weight_decay = [0, 0.1]", r"weight_decay = \[0, 0.1\]: low 0.0 must be above 0 on a log scale"),
    ("batch_size = 0", "batch_size = 0: must be a whole number from 1 to 65536"),
    ("batch_size = [64, 64]", r"batch_size = \[64, 64\]: must be a value, or a list of some, all different"),
    ("batch_size = []", r"batch_size = \[\]: must be a value, or a list of some"),
    ("accumulation = 2.5", "accumulation = 2.5: must be a whole number"),
    ("clip_norm = -1", "clip_norm = -1: must be at least 0"),
    ("l1 = [0.0, 1e-4]", r"l1 = \[0.0, 0.0001\]: low 0.0 must be above 0 on a log scale"),
    ("label_smoothing = 1.0", "label_smoothing = 1.0: must be at least 0 and below 1"),
    ("loss = 'mse'\nlabel_smoothing = 0.1", "label_smoothing = 0.1: only cross-entropy has labels to smooth, not mse"),
    ("loss = 'mae'", "loss = 'mae': unknown loss 'mae': did you mean 'mse'"),
    ("warmup = 1", "warmup = 1: must be at least 0 and below 1"),
    ("decay_biases = 'yes'", "decay_biases = 'yes': "),
    ("groups = 3", "groups = 3: "),
    ("groups = { 'fc*' = 0 }", r'groups\."fc\*" = 0: must be above 0'),
    ("groups = { 'fc*' = [10, 1] }", r'groups\."fc\*" = \[10, 1\]: .* the lower first'),
    ("groups = { fc.weight = 3 }", r'groups\."fc" = .*: must be a number'),
    ("optimizer = 3", "optimizer = 3: "),
    ("hyperparameters = 3", "hyperparameters"),
]


@pytest.mark.parametrize(("text", "cause"), FAULTS, ids=[text[:40] for text, _ in FAULTS])
def test_a_faulty_file_is_refused_with_its_name_the_key_and_what_is_allowed(text: str, cause: str, path: Path) -> None:
    assert re.search(cause, refused(text, path))


OWN_FAULTS = [
    ('name = "lion"\n', "", "name is missing"),
    ('"lion"', '"adam"', "name = 'adam': optitune has an optimizer of that name; choose another"),
    ('"lion"', '"li on"', "name = 'li on': "),
    (":Adam", ".Adam", "path = 'torch.optim.Adam': "),
    ("known_good = [{ lr = 1e-4,", "known_good = [{", "known_good must be some settings, each with an lr"),
    ("lr = 1e-4,", "lr = 1.0,", "known_good lr = 1.0 lies outside its range, 1e-05 to 0.001, log scale"),
    ("beta1 = 0.9,", "", "beta1 must be in every known_good"),
    ("beta1 = 0.9,", "beta1 = nan,", "known_good.0.beta1 = nan: must be a finite number, or true or false"),
    ("low = 1e-5", "low = 'small'", "ranges.lr.low = 'small': must be a finite number"),
    ('{ low = 1e-5, high = 1e-3, scale = "log" }', "[1e-3, 1e-5]", "ranges.lr = [0.001, 1e-05]: must be a value, or"),
    ('{ low = 1e-5, high = 1e-3, scale = "log" }', "0", "ranges.lr = 0: must be above 0"),
    ('scale = "log"', 'scale = "logg"', "ranges.lr.scale = 'logg': must be 'linear', 'log' or 'complement'"),
    ("low = 1e-5", "low = 1e-2", "ranges.lr: low 0.01 must be below high 0.001"),
    ("low = 1e-5,", "", "ranges.lr: must have low and high, or options"),
    ("low = 1e-5", "low = 0.0", "ranges.lr: low 0.0 must be above 0 on a log scale"),
    ('low = 1e-5, high = 1e-3, scale = "log"', "low = -1.0, high = 1e-3", "lr"),
    (
        "[[optimizer]]",
        "[[optimizer]]\ntraits = ['quick']",
        "traits.0 = 'quick': must be 'fused', 'fused-cpu', ",
    ),
    (
        "[[optimizer]]",
        "[[optimizer]]\ntrait = ['fused']",
        "trait = ['fused']: unknown key 'trait': did you mean 'traits'",
    ),
    ("[[optimizer]]", "[optimizer]", "write [[optimizer]], with two brackets"),
    ("[[optimizer]]", "[[optimizer]]\nneeds = { beta9 = 'beta1' }", "beta9"),
    ("[[optimizer]]", "lion.beta3 = 0.9\n[[optimizer]]", "lion.beta3 = 0.9: unknown setting of lion 'beta3'"),
    (
        "[[optimizer]]",
        "lion.lr = [0.1, 0.01]\n[[optimizer]]",
        "lion.lr = [0.1, 0.01]: must be a value, or the two ends",
    ),
]


@pytest.mark.parametrize(("old", "new", "cause"), OWN_FAULTS, ids=[f"{old} > {new}"[:60] for old, new, _ in OWN_FAULTS])
def test_a_faulty_row_of_the_studys_own_is_refused_with_the_place(old: str, new: str, cause: str, path: Path) -> None:
    assert old in LION
    message = refused('optimizers = ["lion"]\n' + LION.replace(old, new, 1), path)
    assert cause in message


def test_a_range_of_a_row_may_be_short_and_a_constant_has_none(path: Path) -> None:
    row = """
    [[optimizer]]
    name = "mine"
    path = "torch.optim:Adam"
    known_good = [{ lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8 }]
    ranges = { lr = [1e-4, 1e-2], beta2 = [0.9, 0.9999], eps = 1e-8 }
    """
    settings = settings_of('optimizers = ["mine"]' + row, path)
    ranges = settings.space().optimizers["mine"]
    assert {name: str(each) for name, each in ranges.items()} == {
        "lr": "0.0001 to 0.01, log scale",
        "beta1": "always 0.9",
        "beta2": "0.9 to 0.9999, log scale of 1 - value",
        "eps": "always 1e-08",
    }
    assert StudySettings.model_validate(settings.document()) == settings


def test_two_rows_of_one_name_are_refused(path: Path) -> None:
    assert "a name stands twice" in refused(f"{LION}\n{LION}", path)


UNFIT = [
    ("torch.optim:Adam", "nowhere:Adam", "optimizer 'lion' (nowhere.Adam): there is no module 'nowhere' in "),
    (
        "torch.optim:Adam",
        "torch.optim:Adm",
        "(torch.optim.Adm): cannot be imported: AttributeError: module 'torch.optim' has no",
    ),
    ("torch.optim:Adam", "math:pi", "(math.pi): is no torch.optim.Optimizer"),
    ("[[optimizer]]", "[[optimizer]]\nfixed = { fast = true }", "refuses {'fast': True, .*unexpected keyword argument"),
    ("[[optimizer]]", "[[optimizer]]\nfixed = { eps = -1.0 }", "refuses {'eps': -1.0, .*Invalid epsilon value"),
    ("[[optimizer]]", "[[optimizer]]\ntraits = ['modes']", 'leave "modes" out of its traits'),
]


@pytest.mark.parametrize(("old", "new", "cause"), UNFIT, ids=[new for _, new, _ in UNFIT])
def test_a_row_that_its_class_does_not_fit_is_refused_before_anything_trains(
    old: str, new: str, cause: str, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert old in LION
    path.write_text('task = "digits"\noptimizers = ["lion"]\n' + LION.replace(old, new, 1))
    assert run(["search", "--study", "mine", "--studies-dir", str(path.parent)]) == 2
    err = capsys.readouterr().err
    assert re.search(re.escape(cause).replace(r"\.\*", ".*"), err)
    assert len(err.splitlines()) == 1
    assert not (path.parent / "mine" / "study.db").exists()


def test_a_class_that_asks_for_a_closure_is_told_which_trait_to_say(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = '[[optimizer]]\nname = "mine"\npath = "torch.optim:LBFGS"\nknown_good = [{ lr = 1.0 }]\n'
    text = f'task = "digits"\noptimizers = ["mine"]\n{own}ranges = {{ lr = {{ low = 0.1, high = 2.0 }} }}\n'
    path.write_text(text)
    assert run(["search", "--study", "mine", "--studies-dir", str(path.parent)]) == 2
    assert 'say traits = ["closure"] in its row' in capsys.readouterr().err


def test_an_unreadable_file_is_an_error_with_its_name(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_text("epochs = 3")

    def refuse(*_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(OptituneError, match=f"cannot read {path}: permission denied"):
        from_file(path)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["epochs=10"], {"epochs": 10}),
        (["lr=1e-3"], {"lr": 1e-3}),
        (["lr = [1e-4, 0.1]"], {"lr": [1e-4, 0.1]}),
        (["loss=mse"], {"loss": "mse"}),
        (['loss="mse"'], {"loss": "mse"}),
        (["task=my_task.py:make_task"], {"task": "my_task.py:make_task"}),
        (["timeout=2h"], {"timeout": "2h"}),
        (["decay_biases=true"], {"decay_biases": True}),
        (["adam.beta2=0.999", "adam.beta1=0.8"], {"adam": {"beta2": 0.999, "beta1": 0.8}}),
        (['groups."fc*"=10', 'groups."conv1.*"=[0.1,10.0]'], {"groups": {"fc*": 10, "conv1.*": [0.1, 10.0]}}),
        (["batch_size=[32,64]"], {"batch_size": [32, 64]}),
        (['optimizers=["sgd","adam"]'], {"optimizers": ["sgd", "adam"]}),
        (["epochs=3", "epochs=4"], {"epochs": 4}),
        (["task=a=b"], {"task": "a=b"}),
        (["adam={beta1=0.8, beta2=0.9}"], {"adam": {"beta1": 0.8, "beta2": 0.9}}),
        ([], {}),
    ],
)
def test_set_takes_any_line_of_a_file_and_words_without_quotes(words: list[str], said: dict[str, Any]) -> None:
    assert from_text(words) == said


@pytest.mark.parametrize("text", ["lr", "=3", "lr=", " = ", ""])
def test_set_without_key_or_value_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match=r"^--set .*: must be KEY=VALUE, such as --set adam.beta2=0.999"):
        from_text([text])


@pytest.mark.parametrize("text", ["a b=3", "groups.fc*=10", "[adam]=3", "a..b=3"])
def test_set_with_what_is_no_key_is_refused_as_it_was_typed(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        from_text([text])
    assert str(caught.value).startswith(f"--set {text}: is not a line of a study's file: ")


@given(text=st.text())
def test_whatever_is_typed_after_set_is_taken_or_refused_by_name(text: str) -> None:
    message = ""
    try:
        said = from_text([text])
    except UsageError as error:
        said, message = {}, str(error)
    assert said or message.startswith(f"--set {text}: ")


@pytest.mark.parametrize(
    ("text", "time"), [("90", 90), ("90s", 90), ("1.5m", 90), ("2h", 7200), ("1d", 86400), (" 3s ", 3)]
)
def test_a_time_is_a_number_and_a_unit(text: str, time: float) -> None:
    assert seconds(text) == time


@pytest.mark.parametrize("text", ["", "soon", "0", "0s", "-1", "1w", "1 h", "1h30m", "inf", "nan"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a time: write 90, 90s, 10m or 2h"):
        seconds(text)


def test_the_budget_is_told_from_the_settings() -> None:
    said = {"epochs": 3, "trials": 7, "timeout": "10m", "adam": {"lr": 0.1}}
    assert parted(said, "here") == ({"epochs": 3, "adam": {"lr": 0.1}}, {"trials": 7, "timeout": 600.0})
    assert parted({"timeout": 90}, "here") == ({}, {"timeout": 90})


def settled(
    path: Path, said: dict[str, Any], trials: int | None = None, timeout: float | None = None
) -> tuple[StudySettings, Budget]:
    """What a search with this file beside it comes to."""
    request = SearchRequest(
        home=studies.location(path.parent, path.stem, None),
        settings=said,
        trials=trials,
        timeout=timeout,
        data_dir=path.parent,
        workers=1,
        device="cpu",
    )
    return searching.settle(request, torch.device("cpu"))[:2]


def test_what_is_typed_goes_before_the_file_and_the_file_before_the_defaults(path: Path) -> None:
    path.write_text('task = "digits"\nepochs = 9\nbatch_size = 32\ntrials = 7\ntimeout = "1h"\nadam.beta2 = 0.99\n')
    found, budget = settled(path, {})
    assert (found.epochs, found.batch_size, found.accumulation) == (9, 32, 1)
    assert budget == Budget(trials=7, timeout=3600.0)
    over, budget = settled(path, from_text(["epochs=8", "trials=5", "timeout=2h", "adam.lr=0.1"]))
    assert (over.epochs, over.batch_size) == (8, 32)
    assert over.hyperparameters["adam"] == {"beta2": 0.99, "lr": 0.1}
    assert budget == Budget(trials=5, timeout=7200.0)
    assert settled(path, {}, trials=3, timeout=9.0)[1] == Budget(trials=3, timeout=9.0)
    path.write_text('task = "digits"\n')
    assert settled(path, {})[1] == Budget(trials=50, timeout=None)


def test_the_loss_of_the_task_is_written_down_so_that_no_later_default_can_change_it(path: Path) -> None:
    path.write_text('task = "digits"\n')
    assert settled(path, {})[0].loss == "cross-entropy"
    with pytest.raises(UsageError, match=r"label_smoothing = 0\.1: only cross-entropy"):
        settled(path, {"loss": "mse", "label_smoothing": 0.1})
