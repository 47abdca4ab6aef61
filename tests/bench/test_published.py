"""The calibration on published seeds, in small: on made-up records in the formats of the real ones, which are not part
of the project."""

import gzip
import json
import sys
from collections.abc import Callable
from math import log
from pathlib import Path

import numpy as np
import pytest

from scripts.bench.verdict import procedures, published, records
from scripts.bench.verdict.procedures import PROCEDURES, Procedure, adastop, follow, p_value, welch
from scripts.bench.verdict.records import Question

pytestmark = pytest.mark.wide


def write(path: Path, lines: list[str]) -> None:
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    lines = ["method,run,steps,val_loss"]
    for name, steps, mean in (("slow", 3000, 3.280), ("quick", 2000, 3.2785), ("other", 2000, 3.2783)):
        lines += [f"{name},{run},{steps},{mean + 0.001 * generator.standard_normal():.5f}" for run in range(12)]
    write(tmp_path / "nanogpt_track3.csv.gz", [*lines, "quick,12,2500,3.1"])
    lines = ["problem,optimizer,lr,momentum,seed,epoch,train_loss,test_loss,train_accuracy,test_accuracy"]
    for problem, accuracy in (("net", "0.9"), ("vae", "")):
        for optimizer, loss in (("Adam", 27.0), ("Momentum", 28.0)):
            for seed in range(51, 41, -1):
                good = f"{float(accuracy) + 0.0001 * seed:.4f}" if accuracy else ""
                lines += [
                    f"{problem},{optimizer},0.1,,{seed},1,{loss},{loss + 0.01 * seed},{good},{good}",
                    f"{problem},{optimizer},0.1,,{seed},0,99,99,{accuracy},{accuracy}",
                ]
            lines.append(f"{problem},{optimizer},0.2,,42,1,1,1,{accuracy},{accuracy}")
    write(tmp_path / "deepobs.csv.gz", lines)
    lines = ["ruleset,algorithm,workload,trial,study,step,value,seconds"]
    for ruleset, algorithm, trial, pace in (
        ("external_tuning", "baseline", "trial_1", 100),
        ("external_tuning", "baseline", "trial_2", 50),
        ("self_tuning", "baseline", "trial_1", 70),
        ("external_tuning", "weak", "trial_1", 1_000_000),
    ):
        for study in range(5):
            ends = [(1, 0.1), (2, 0.27), (3, 0.282)] if pace < 1_000_000 else [(1, 0.1), (2, 0.2)]
            lines += [
                f"{ruleset},{algorithm},ogbg,{trial},study_{study},{step},{value + 0.0001 * study},{pace * step}"
                for step, value in ends
            ]
    write(tmp_path / "algoperf.csv.gz", [*lines, "external_tuning,few,ogbg,trial_1,study_0,1,0.5,1"])
    return tmp_path


# records


def test_settings_of_other_numbers_of_steps_are_others(folder: Path) -> None:
    found = records.nanogpt(folder)
    assert {name: len(values) for name, values in found.items()} == {
        "slow, 3000 steps": 12,
        "quick, 2000 steps": 12,
        "other, 2000 steps": 12,
        "quick, 2500 steps": 1,
    }


def test_a_problem_has_the_repeated_settings_after_their_last_epoch_in_the_order_of_seeds(folder: Path) -> None:
    net, vae = records.deepobs(folder)
    assert (net.metric, net.sign, net.epsilon) == ("test accuracy", 1, 0.001)
    assert net.arms["Adam"] == pytest.approx([0.9 + 0.0001 * seed for seed in range(42, 52)])
    assert (vae.metric, vae.sign) == ("test loss", -1)
    assert vae.arms["Momentum"] == pytest.approx([28 + 0.01 * seed for seed in range(42, 52)])


def test_a_workload_asks_for_the_best_value_and_for_the_time_to_the_target(folder: Path) -> None:
    value, time = records.algoperf(folder)
    assert (value.name, value.metric, value.sign) == ("ogbg", "best mean average precision", 1)
    assert set(value.arms) == {"baseline", "baseline (self-tuning)", "weak"}
    assert value.arms["weak"] == pytest.approx([0.2, 0.2001, 0.2002, 0.2003, 0.2004])
    # of its settings the quicker one; the weak one never got there
    assert set(time.arms) == {"baseline", "baseline (self-tuning)"}
    assert time.arms["baseline"] == pytest.approx([log(150)] * 5)


def test_equal_seeds_that_are_alike_are_noticed() -> None:
    generator = np.random.default_rng(0)
    luck = generator.standard_normal(10)
    alike = Question("", "", 1, 0.1, {name: luck + 0.1 * generator.standard_normal(10) for name in "abc"})
    others = Question("", "", 1, 0.1, {name: generator.standard_normal(10) for name in "abc"})
    seen, chance = records.seeds_shared(alike, generator, 200)
    assert seen > 0.8
    assert chance < 0.01
    assert records.seeds_shared(others, generator, 200)[1] > 0.05


# procedures


def question(*means: float, rounds: int = 10, sign: int = 1, seed: int = 0) -> Question:
    generator = np.random.default_rng(seed)
    arms = {f"o{place}": mean + generator.standard_normal(rounds) for place, mean in enumerate(means)}
    return Question("", "", sign, 0.0, arms)


@pytest.mark.parametrize("procedure", PROCEDURES, ids=lambda each: each.name)
def test_each_sees_what_is_far_apart_and_knows_which_way_is_better(procedure: Procedure) -> None:
    *_, (_, runs, said) = follow(procedure, question(0, 20, 20.1), 10)
    assert {("o1", "o0"), ("o2", "o0")} <= said.better
    assert runs <= 30
    *_, (_, _, said) = follow(procedure, question(0, 20, 20.1, sign=-1), 10)
    assert {("o0", "o1"), ("o0", "o2")} <= said.better
    assert said.status == "clear"
    assert not said.wanted


def test_whoever_is_out_trains_no_further_and_a_fixed_number_is_looked_at_once() -> None:
    usual, fixed = (next(each for each in PROCEDURES if each.fixed == fixed) for fixed in (False, True))
    looks = list(follow(usual, question(0, 20, 20.1), 10))
    assert [look for look, _, _ in looks][:2] == [3, 4]
    assert looks[-1][1] < 30
    assert [(look, runs) for look, runs, _ in follow(fixed, question(0, 20, 20.1), 10)] == [(10, 30)]


def test_a_p_value_is_that_of_welch() -> None:
    from scipy import stats

    one, other = np.array([1.0, 2.0, 4.0]), np.array([1.5, 7.0, 3.0, 9.0])
    assert p_value(one, other) == pytest.approx(stats.ttest_ind(one, other, equal_var=False).pvalue)
    assert (p_value(one * 0, other * 0), p_value(one * 0, other * 0 + 1)) == (1.0, 0.0)


def test_adastop_keeps_its_level_and_its_package_does_not() -> None:
    wrong = dict.fromkeys((False, True), 0)
    for seed in range(300):
        null = question(0, 0, seed=seed)
        for signed in wrong:
            wrong[signed] += bool(adastop(null.arms, null, 10, signed=signed).better)
    assert wrong[False] <= 24 < wrong[True] <= 50


def test_adastop_says_nothing_where_too_few_permutations_could() -> None:
    apart = question(0, 50, rounds=3)
    assert not adastop(apart.arms, apart, 3).better
    assert procedures.halves(2)[0] == pytest.approx([0.5, 0.5, -0.5, -0.5])
    assert welch(apart.arms, apart, 3).better == {("o1", "o0")}


# tables


def test_parts_have_every_value_once_and_a_spread_between_settings_is_the_error() -> None:
    parts = published.split(np.arange(11.0), 3, np.random.default_rng(0))
    values = np.concatenate(list(parts.values())).tolist()
    assert ([len(each) for each in parts.values()], len(set(values))) == ([3, 3, 3], 9)
    assert published.averaged("x", [[True, False], [True, True]]) == {"x": 75.0, "±": 25.0}


def test_who_is_better_counts_by_the_round_of_a_look_and_by_the_plan_of_a_fixed_one() -> None:
    far = Question("", "", -1, 0.0, {"better": question(0).arms["o0"], "worse": question(0, 20).arms["o1"]})
    for procedure in PROCEDURES:
        right, runs = published.first_seen(procedure, far, (3, 5, 10))
        assert right == sorted(right)
        assert right[-1] == 1
        assert runs <= 20
        back = Question("", "", 1, 0.0, far.arms)
        assert published.first_seen(procedure, back, (3, 5, 10))[0][-1] == -1


def test_the_script_prints_tables_and_one_line_of_json(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["published", str(folder), "--repeats", "40", "--quick"])
    published.main()
    *tables, last = capsys.readouterr().out.strip().splitlines()
    found = json.loads(last)
    assert (found["repeats"], found["seed"]) == (2, 0)
    assert sum(line.startswith("### ") for line in tables) == 8
    assert {row["parts"] for row in found["Parts of the same seeds"]} == {2, 3}
    assert [row["trained"] for row in found["AlgoPerf, by workload"]] == ["ogbg", "ogbg"]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: path.unlink(), "no such file"),
        (lambda path: path.write_text("method,run"), "cannot be read as gzipped CSV"),
        (lambda path: write(path, ["method,run", "a,1"]), "no column steps, val_loss"),
        (lambda path: write(path, ["method,run,steps,val_loss", "a,1,5,low"]), "val_loss = 'low' is no number"),
    ],
)
def test_records_that_cannot_be_read_are_named_in_one_line(
    spoil: Callable[[Path], object],
    said: str,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spoil(folder / "nanogpt_track3.csv.gz")
    monkeypatch.setattr(sys, "argv", ["published", str(folder)])
    with pytest.raises(SystemExit, match="2"):
        published.main()
    error = capsys.readouterr().err
    assert "nanogpt_track3.csv.gz" in error
    assert said in error
