"""Complete trials of an Optuna study, whoever made it, as a table of runs."""

from typing import Any

import optuna

from optitune.common.text import listed, plural
from optitune.errors import OptituneError, UsageError, unknown
from optitune.judging.table import SECONDS, RawTable
from optitune.storage.urls import StorageUrl, explained_storage, open_storage

VALUE = "value"


def read(url: str, study: str | None = None) -> RawTable:
    """The complete trials of a study: a column for each parameter and each plain attribute.

    Args:
        url: of the storage.
        study: its name; None for the only one there is.

    Raises:
        UsageError: there is no such study, it has several objectives, or several studies are there.
        OptituneError: the storage cannot be opened, or no trial is complete.
    """
    place = StorageUrl.parse(url)
    with explained_storage(place):
        storage = open_storage(place, create=False)
        names = optuna.study.get_all_study_names(storage)
        if study is None and len(names) != 1:
            there = f"there are {listed(sorted(names))}" if names else "there is none"
            raise UsageError(f"{place.shown}: which study? {there}: name one with --study")
        chosen = study if study is not None else names[0]
        if chosen not in names:
            raise unknown("study", chosen, names)
        opened = optuna.load_study(study_name=chosen, storage=storage)
        if len(opened.directions) > 1:
            raise UsageError(f"study '{chosen}' has {len(opened.directions)} objectives: a verdict is of one metric")
        trials = opened.get_trials(deepcopy=False)
        metric = (opened.metric_names or [VALUE])[0]
        sign = 1 if opened.direction == optuna.study.StudyDirection.MAXIMIZE else -1
    complete = [each for each in trials if each.state == optuna.trial.TrialState.COMPLETE]
    if not complete:
        raise OptituneError(f"study '{chosen}' has no complete trial: nothing can be judged")
    rows: list[dict[str, Any]] = []
    for trial in complete:
        facts = {key: value for key, value in trial.user_attrs.items() if isinstance(value, str | int | float)}
        seconds = trial.duration.total_seconds() if trial.duration is not None else None
        rows.append({SECONDS: seconds, **facts, **trial.params, metric: trial.value})
    notes = []
    if others := len(trials) - len(complete):
        notes.append(f"{plural(others, 'trial')} that did not complete {'is' if others == 1 else 'are'} left out.")
    drawn = {key for each in complete for key, kind in each.distributions.items() if not kind.single()}
    columns = tuple(dict.fromkeys(each for row in rows for each in row))
    params = dict.fromkeys(key for each in complete for key in each.params)
    places = tuple(f"study '{chosen}', trial {each.number}" for each in complete)
    return RawTable(
        f"study '{chosen}'",
        columns,
        tuple(rows),
        places,
        sign=sign,
        notes=tuple(notes),
        settings=tuple(params),
        drawn=tuple(sorted(drawn)),
    )
