"""How the finalists stand in a comparison, as rows and tables; a column is added here, for all that show it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import isfinite

from optitune.common.tables import Table, Tone, column
from optitune.common.text import Unit, duration, plural, short
from optitune.comparing.results import Comparison
from optitune.comparing.sentences import OTHERS, VARIES, chance
from optitune.statistics.costs import Change, Cost
from optitune.study.steps import UNKNOWN_EXAMPLES, examples_text


@dataclass(frozen=True)
class Finalist:
    """How one optimizer stands in a comparison.

    Attributes:
        optimizer: its name.
        value: mean of the metric over its runs that ended; None without one.
        low: lower end of the value's 95 % interval, which holds for the leader too; None for fewer than two runs.
        high: its upper end.
        runs: how many were trained, those that diverged included.
        probability_best: that none of the others is better.
        regret: how much better another one may be at most, if this one is taken; None while nothing is known of it.
        relation: to the leader: `leader`, `better`, `worse`, `equal`, `undecided` or `diverged`; None before a common
            round.
        difference: by how much it is better than the leader; None of the leader itself.
        difference_low: its lower bound, which holds however often one looks; None while it is not known.
        difference_high: its upper bound.
        diverged: how many of its runs did.
        loss: mean over its runs that ended.
        trial: of the search, whose configuration was compared.
        lr: of that configuration.
        epoch_seconds: of an epoch, the median over its runs.
        target_seconds: to the target, the median; None where not half of its runs reached it.
        target_epochs: to the target, the median.
        memory: bytes that the optimizer keeps for every byte of weights.
        cost: all that is known of it.
    """

    optimizer: str
    value: float | None
    low: float | None
    high: float | None
    runs: int
    probability_best: float
    regret: float | None
    relation: str | None
    difference: float | None
    difference_low: float | None
    difference_high: float | None
    diverged: int
    loss: float | None
    trial: int
    lr: float
    epoch_seconds: float | None
    target_seconds: float | None
    target_epochs: float | None
    memory: float | None
    cost: Cost


def finalists(found: Comparison) -> list[Finalist]:
    """A row per finalist, the leader first."""
    rows = []
    for place in found.verdict.places:
        value, apart, cost = place.value, place.to_leader, found.costs[place.optimizer]
        chosen = found.plan.finalist(place.optimizer)
        relation: str | None = "worse" if place.out else apart.relation if apart else None
        if place.diverged:
            relation = "diverged"
        elif place.optimizer == found.verdict.leader:
            relation = "leader"
        rows.append(
            Finalist(
                optimizer=place.optimizer,
                value=value.mean if value else None,
                low=value.low if value else None,
                high=value.high if value else None,
                runs=(len(value.each) if value else 0) + place.diverged,
                probability_best=place.best,
                regret=place.regret if isfinite(place.regret) else None,
                relation=relation,
                difference=apart.mean if apart else None,
                difference_low=apart.low if apart and isfinite(apart.low) else None,
                difference_high=apart.high if apart and isfinite(apart.high) else None,
                diverged=place.diverged,
                loss=place.loss.mean if place.loss else None,
                trial=chosen.trial,
                lr=chosen.configuration.lr,
                epoch_seconds=cost.epoch_seconds,
                target_seconds=cost.target.seconds,
                target_epochs=cost.target.epochs,
                memory=cost.state,
                cost=cost,
            )
        )
    return rows


def comparison_table(found: Comparison) -> Table:
    """How good every finalist is, and how sure that is."""
    verdict, unit, plan = found.verdict, found.unit, found.plan
    sure = f"{100 * (1 - verdict.error):.0f} %"
    add = partial(column, finalists(found))

    def interval(low: float | None, high: float | None, form: Callable[[float, float], str] = unit.span) -> str | None:
        return None if low is None or high is None else form(low, high)

    def tone(row: Finalist) -> Tone:
        return {"leader": "good", "diverged": "bad"}.get(row.relation or "", "")  # type: ignore[return-value]

    columns = (
        add("optimizer", lambda row: row.optimizer),
        add(f"held-out\n{unit.metric}", lambda row: None if row.value is None else unit.value(row.value)),
        add("95 %\ninterval", lambda row: interval(row.low, row.high), keep=3),
        add("loss", lambda row: None if row.loss is None else f"{row.loss:.4g}", keep=1),
        add("runs", lambda row: str(row.runs), keep=4),
        add("P(best)", lambda row: chance(row.probability_best), keep=4),
        add(
            f"may lose,\nat most{unit.points}",
            lambda row: None if row.regret is None else unit.size(row.regret),
        ),
        add(
            f"against\n{verdict.leader}{unit.points}",
            lambda row: None if row.difference is None else unit.change(row.difference),
            keep=2,
        ),
        add(
            f"its bounds,\n{sure}{unit.points}",
            lambda row: interval(row.difference_low, row.difference_high, unit.between),
        ),
        add("verdict", lambda row: _relation(row), tone=tone),
    )
    doubt = "" if not found.epsilon_from else f" ({found.epsilon_from})"
    rule = " Judged by the rule of version 0.1." if found.old_rule else ""
    others = OTHERS[plan.split].format(plan.held_out)
    if plan.validation:
        # a loop of the user's own may divide its data itself, and then nobody knows their number
        known = plan.held_out > UNKNOWN_EXAMPLES
        others = f"{plan.held_out} validation examples, the same in all" if known else "what the loop judges on"
    varies = "" if plan.validation else VARIES[plan.split]
    caption = (
        f"Each optimizer's best configuration, trained anew: {plural(verdict.runs, 'run')} in all, "
        f"{plural(plan.epochs, 'epoch')} each on {examples_text(plan.train_examples)}, judged on {others}. The "
        f"interval is of each over its own runs; P(best) is the probability of being best. With {sure} confidence, "
        "however often one looks, the best is not among those called worse, and none is better than another by more "
        f"than that one may lose; less than {unit.difference(verdict.epsilon)} does not matter{doubt}."
        f"{varies}{rule}"
    )
    return Table(caption, columns)


def _relation(row: Finalist) -> str | None:
    if row.relation == "diverged":
        return f"diverged in {row.diverged}"
    return {"leader": "leads"}.get(row.relation or "", row.relation)


def front_table(found: Comparison) -> Table | None:
    """The best, the cheapest that is as good, and what is between them; None where no other choice saves anything."""
    choice, unit, verdict = found.recommendation, found.unit, found.verdict
    if not choice.front:
        return None
    kind = choice.kind
    names = dict(zip(choice.front, ("best", *["between"] * (len(choice.front) - 2), "cheapest as good"), strict=True))
    add = partial(column, [row for name in choice.front for row in finalists(found) if row.optimizer == name])

    def share(row: Finalist) -> str | None:
        each = choice.shares[kind].get(row.optimizer)
        if each is None:
            return None
        sure = (
            ""
            if each.low in (None, each.high) or each.high is None
            else f" ({100 * each.low:.0f} to {100 * each.high:.0f})"
        )
        return f"{100 * each.mean:.0f} %{sure}"

    columns = (
        add("optimizer", lambda row: row.optimizer),
        add("choice", lambda row: names[row.optimizer]),
        add(f"held-out\n{unit.metric}", lambda row: None if row.value is None else unit.value(row.value)),
        add(f"may lose,\nat most{unit.points}", lambda row: None if row.regret is None else unit.size(row.regret)),
        add("a training\ntakes", lambda row: None if row.cost.seconds is None else duration(row.cost.seconds)),
        add("memory,\nx weights", lambda row: None if row.memory is None else f"{row.memory:.1f}"),
        add(f"{kind} against\n{choice.leader}", share),
    )
    caption = (
        f"As good means that with {100 * (1 - verdict.error):.0f} % confidence none is better by more than "
        f"{unit.difference(verdict.epsilon)}. Shares of the {kind} of a training are means over paired rounds, with "
        f"Student's 95 % interval in brackets; --prefer {kind} takes the cheapest."
    )
    return Table(caption, columns)


def costs_table(found: Comparison) -> Table:
    """What every finalist costs, and how much it hangs on its settings."""
    unit = found.unit
    target = unit.value(found.target) if found.target is not None else "the target"
    add = partial(column, finalists(found))
    columns = (
        add("optimizer", lambda row: row.optimizer),
        add(f"time to\n{target}", _time_to),
        add("epochs\nto it", lambda row: None if row.target_epochs is None else short(row.target_epochs), keep=2),
        add("an\nepoch", lambda row: None if row.epoch_seconds is None else duration(row.epoch_seconds), keep=3),
        add("memory,\nx weights", lambda row: None if row.memory is None else f"{row.memory:.1f}"),
        add(f"half the\nlr{unit.points}", lambda row: _change(row.cost.half, unit)),
        add(f"twice the\nlr{unit.points}", lambda row: _change(row.cost.twice, unit)),
        add(f"by\ntuning{unit.points}", lambda row: _change(row.cost.tuning, unit, -1)),
        add(
            "diverged in\nthe search",
            lambda row: None if row.cost.diverged is None else f"{100 * row.cost.diverged:.0f} %",
            keep=1,
        ),
    )
    caption = (
        f"Times are medians over the runs, to the first evaluation that reaches {target}; memory is what the optimizer "
        "keeps beside weights and gradients; what another lr changes, and tuning against known-good settings, are "
        "means over the runs in brackets."
    )
    return Table(caption, columns)


def _time_to(row: Finalist) -> str:
    target = row.cost.target
    some = "" if target.reached == target.rounds else f"{target.reached} of {target.rounds}"
    if target.seconds is None:
        return f"in {target.reached} of {target.rounds}"
    return f"{duration(target.seconds)} ({some})" if some else duration(target.seconds)


def _change(change: Change | None, unit: Unit, sign: int = 1) -> str | None:
    if change is None:
        return None
    text = "diverged" if change.change is None else unit.change(sign * change.change)
    return f"{text} ({change.rounds})"
