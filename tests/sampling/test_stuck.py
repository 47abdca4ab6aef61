"""Which trials that are no better than guessing are ended: those that stand still where others never stood."""

import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from optitune.sampling.stuck import stays_at

COMPLETE, RUNNING = TrialState.COMPLETE, TrialState.RUNNING
LEARNED = [0.2, 0.5, 0.6, 0.7, 0.8, 0.9]
LATE = [0.1, 0.1, 0.1, 0.1, 0.5, 0.9]
NEVER = [0.1, 0.09, 0.1, 0.1, 0.1, 0.1]


def trial(curve: list[float], state: TrialState = COMPLETE, sign: int = 1) -> FrozenTrial:
    return create_trial(
        intermediate_values={10 * place: sign * value for place, value in enumerate(curve, start=1)},
        value=sign * curve[-1] if state == COMPLETE else None,
        state=state,
    )


def stuck(curve: list[float], *others: list[float], state: TrialState = COMPLETE, sign: int = 1) -> bool:
    known = [trial(each, state, sign) for each in others]
    for number, each in enumerate(known):
        each.number = number
    ideal = 1.0 if sign > 0 else None
    return stays_at(sign * 0.1, trial(curve, RUNNING, sign), 10 * len(curve), known, sign > 0, ideal)


@pytest.mark.parametrize("sign", [1, -1])
def test_one_that_stands_still_where_all_others_had_learned_is_stuck(sign: int) -> None:
    assert stuck(NEVER[:4], *[LEARNED] * 5, sign=sign)
    assert stuck(NEVER[:4], *[LEARNED] * 5, *[NEVER] * 20, sign=sign)


def test_nothing_is_concluded_from_few_that_learned() -> None:
    assert not stuck(NEVER[:4], *[LEARNED] * 4, *[NEVER] * 20)
    assert not stuck(NEVER[:4])
    assert not stuck(NEVER[:4], *[LEARNED] * 5, state=TrialState.PRUNED)
    assert not stuck(NEVER[:1], *[LEARNED] * 5)


def test_one_that_learned_later_lets_all_others_live_until_then() -> None:
    others = [*[LEARNED] * 20, LATE]
    assert [stuck(NEVER[:age], *others) for age in (4, 5)] == [False, True]


@pytest.mark.parametrize("sign", [1, -1])
def test_one_that_is_no_better_but_comes_nearer_is_not_stuck(sign: int) -> None:
    worse = [-0.9, -0.5, -0.3, -0.1]
    assert not stuck(worse, *[LEARNED] * 5, sign=sign)
