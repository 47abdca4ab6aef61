"""Begin a study with the trials of another one that lie in its search space."""

import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import optuna
from filelock import FileLock
from optuna.trial import FrozenTrial

from optitune.common.files import explained, make_folder
from optitune.common.schema import differences_table
from optitune.errors import UsageError
from optitune.sampling.forecast import LR_AHEAD
from optitune.sampling.parameters import point
from optitune.searching.objective import changes_ahead
from optitune.searching.trial_queue import SETTLE_S
from optitune.space.configuration import Configuration
from optitune.storage import studies, trials
from optitune.storage.studies import Origin, StudyLocation
from optitune.storage.study_checks import other_data
from optitune.study.settings import SAME, StudySettings, differing
from optitune.study.steps import compared_step, evaluations_per_epoch, usual_steps
from optitune.tasks.metrics import Metric, kept
from optitune.training.task_code import Record, changes, listed

OUR_OWN = (
    trials.OUTCOME, trials.REASON, trials.SECONDS, trials.EPOCHS, trials.CONFIGURATION, trials.DEVICE, trials.RUN, "lr"
)  # fmt: skip
"""Attributes that a trial keeps in another study."""

TAKEN_BY = "taken_by"
"""Of a study, the process that takes trials into it."""


@dataclass(frozen=True)
class Taking:
    """What a study is to take from another one.

    Attributes:
        origin: as the study will keep it.
        trials: as they will be in the study, in that order.
    """

    origin: Origin
    trials: tuple[FrozenTrial, ...]


def settings_of(old: StudyLocation, new: StudyLocation) -> dict[str, Any]:
    """The settings that a new study takes over from another one.

    Raises:
        UsageError: both are the same study, or the other one was not made by optitune.
        OptituneError: the other one's storage cannot be opened.
    """
    if (old.name, old.url) == (new.name, new.url):
        raise UsageError(
            f"--from {old.name}: a study cannot begin from itself; name the new one with --study {old.name}-2"
        )
    return studies.stored_settings(old.open())


def check_begun(opened: optuna.Study, old: StudyLocation | None) -> bool:
    """Whether a study that is there is still to take the trials of another one.

    Args:
        opened: the study.
        old: that `--from` names; None without it.

    Raises:
        UsageError: it has begun without them, or with those of yet another one, or it lacks some and `--from` is not
            there.
    """
    origin, name = studies.origin(opened), opened.study_name
    lacks = 0 if origin is None else len(origin.trials) - len(trials.taken(opened))
    if old is None:
        if origin is not None and lacks > 0:
            raise UsageError(
                f"study '{name}' was stopped while it took trials from study '{origin.study}', and lacks {lacks} of "
                f"{len(origin.trials)}: run the search again with {' '.join(origin.options())}"
            )
        return False
    if origin is None and opened.get_trials(deepcopy=False):
        raise UsageError(
            f"study '{name}' has trials already, and only a new study can begin from another: leave out "
            f"--from {old.name}, or add --study {name}-2"
        )
    if origin is not None and origin.study != old.name:
        raise UsageError(
            f"study '{name}' was begun from study '{origin.study}', not from '{old.name}': leave out --from, or begin "
            f"another with --study {name}-2"
        )
    return origin is None or lacks > 0


def select(
    old: StudyLocation,
    new: StudyLocation,
    settings: StudySettings,
    data: Mapping[str, Any],
    judge: Metric,
    code: Record,
    accepted: bool,
    begun: Origin | None = None,
) -> Taking:
    """Select the trials of a study that lie in the search space of another one; nothing is written.

    Args:
        old: the study that has them.
        new: the study that is to have them.
        settings: of the new one, without `auto`.
        data: checksum, digests and sizes of its task's data, and the fingerprint of its network.
        judge: metric of its task.
        code: of its task.
        accepted: whether the user says that changes of the code make no difference.
        begun: what the new one had begun to take when it was stopped; None for all that lie within.

    Raises:
        UsageError: the values of the two cannot be compared, or no trial lies within.
    """
    source = old.open()
    _comparable(source, new.name, settings, data, judge, code, accepted)
    space, made = settings.space(), studies.settings_of(source)
    examples = data["train_examples"]
    evaluations = evaluations_per_epoch(examples, data["validation_examples"])
    was, usual = usual_steps(made, examples), usual_steps(settings, examples)
    finished = [trial for trial in source.get_trials() if trial.state in trials.NO_MORE_TRAINING]
    found: list[FrozenTrial] = []
    numbers: dict[int, int] = {}
    left_out: Counter[str] = Counter()
    for trial in finished:
        configuration = Configuration.model_validate(trial.user_attrs[trials.CONFIGURATION])
        place = point(configuration, settings, space, trial.params)
        if isinstance(place, str):
            left_out[place] += 1
        elif begun is None or trial.number in begun.trials:
            attrs = {key: value for key, value in trial.user_attrs.items() if key in OUR_OWN}
            attrs[trials.FROM] = {"study": old.name, "trial": trial.number}
            for key in (trials.SAME_AS, trials.REPEATS):
                if (there := numbers.get(trial.user_attrs.get(key, -1))) is not None:
                    attrs[key] = there
            with_what = trial.user_attrs.get(studies.VERSIONS, source.user_attrs.get(studies.VERSIONS))
            if with_what != studies.versions():
                attrs[studies.VERSIONS] = with_what
            if settings.pruner == "optitune" and (
                ahead := changes_ahead(configuration.schedule, settings.epochs, evaluations, usual)
            ):
                attrs[LR_AHEAD] = ahead
            numbers[trial.number] = len(found)
            found.append(
                FrozenTrial(
                    number=len(found),
                    trial_id=0,
                    state=trial.state,
                    value=None,
                    values=trial.values,
                    datetime_start=trial.datetime_start,
                    datetime_complete=trial.datetime_complete,
                    params=dict(place.values),
                    distributions=dict(place.distributions),
                    user_attrs=attrs,
                    system_attrs={},
                    intermediate_values=_restepped(trial.intermediate_values, settings.epochs, evaluations, was, usual),
                )
            )
    if begun is not None and tuple(numbers) != begun.trials:
        raise UsageError(
            f"study '{old.name}' no longer has the trials that '{new.name}' was to take from it: begin another with "
            f"--study {new.name}-2"
        )
    if not found:
        why = "; ".join(f"{count} {reason}" for reason, count in left_out.items()) or "it has no finished trial"
        raise UsageError(
            f"no trial of study '{old.name}' lies in the search space of '{new.name}': {why}. "
            f"Leave out --from {old.name}, or widen the space"
        )
    # what is with the new one, or has a file of its own beside it, is found by its name
    beside = {new.url, studies.location(new.folder.parent, old.name, None).url}
    storage = "" if old.url in beside else old.url.shown
    return Taking(begun or Origin(old.name, storage, tuple(numbers), len(finished), dict(left_out)), tuple(found))


def take(taking: Taking, opened: optuna.Study, home: StudyLocation, tick: Callable[[], None]) -> None:
    """Write the selected trials into a study, each of them once, however often this is stopped.

    Args:
        taking: what `select` has found.
        opened: the study that is to have them.
        home: where it lives.
        tick: called before each trial.
    """
    # a call that is made again since its answer was lost would add a trial twice
    storage = getattr(opened._storage, "inner", opened._storage)
    if studies.FROM not in opened.user_attrs:
        opened.set_user_attr(studies.FROM, asdict(taking.origin))
    turn, name = make_folder(home.folder) / "turn.lock", uuid.uuid4().hex
    with explained(turn), FileLock(turn):
        alone = home.url.is_sqlite
        while lacking := _lacking(taking, opened):
            if not alone:
                # as `TrialQueue` takes trials over: of the machines that would, the last one does, if none is at it
                time.sleep(SETTLE_S)
                if len(_lacking(taking, opened)) < len(lacking):
                    continue
                opened.set_user_attr(TAKEN_BY, name)
                time.sleep(SETTLE_S)
                if len(_lacking(taking, opened)) < len(lacking):
                    continue
            for trial in lacking:
                tick()
                if not alone and opened.user_attrs.get(TAKEN_BY) != name:
                    break
                storage.create_new_trial(opened._study_id, template_trial=trial)


def _lacking(taking: Taking, opened: optuna.Study) -> list[FrozenTrial]:
    """The selected trials that are not in the study yet."""
    there = {trial.user_attrs[trials.FROM]["trial"] for trial in trials.taken(opened)}
    return [trial for trial in taking.trials if trial.user_attrs[trials.FROM]["trial"] not in there]


def _restepped(curve: Mapping[int, float], epochs: int, evaluations: int, was: int, usual: int) -> dict[int, float]:
    """A curve by the steps at which the trials of another study are compared.

    Args:
        curve: values by step.
        epochs: of a trial.
        evaluations: of an epoch.
        was: steps of an epoch in the study that the curve is from.
        usual: the same in the other study.
    """
    if was == usual:
        return dict(curve)
    places = [number / evaluations for number in range(1, epochs * evaluations + 1)]
    steps = {compared_step(at, evaluations, was): compared_step(at, evaluations, usual) for at in places}
    return {steps.get(step) or max(1, round(step * usual / was)): value for step, value in sorted(curve.items())}


def _comparable(
    source: optuna.Study,
    new: str,
    settings: StudySettings,
    data: Mapping[str, Any],
    judge: Metric,
    code: Record,
    accepted: bool,
) -> None:
    """Check that the trials of a study have values that another one's can be compared with.

    Raises:
        UsageError: they do not; the message names each difference.
    """
    old = source.study_name
    made, wanted = studies.stored_settings(source), settings.document()
    others = {key: each for key, each in differing(wanted, made).items() if key in SAME}
    judged = {"metric": judge.name, "direction": judge.direction}
    data_others, note = other_data(old, source.user_attrs[studies.DATA], {**data, **judged})
    others |= data_others
    before, now = kept(studies.metric(source)), kept(judge)
    if studies.METRIC in source.user_attrs and before != now:
        others.setdefault("metric", (judge.described(), studies.metric(source).described()))
    lines = [differences_table(others)] if others else []
    changed = [] if accepted else changes(source.user_attrs.get(studies.CODE) or {}, code)
    if changed:
        lines.append(f"  code: {listed(changed)}")
    if lines:
        only = ", or --accept-changes if what was changed makes no difference to a training" if not others else ""
        raise UsageError(
            f"study '{new}' cannot begin from study '{old}', since their values could not be compared:\n"
            + "\n".join(lines)
            + f"{note}\nUse what '{old}' was made with{only}; or leave out --from {old}"
        )
