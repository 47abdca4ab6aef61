"""What is decided about runs that were trained elsewhere, and what is said of it."""

from math import log
from pathlib import Path

import numpy as np
import pytest
from judged_runs import three_arms, values, write_csv

from optitune.errors import OptituneError, UsageError
from optitune.judging.columns import Asked, words
from optitune.judging.judge import judge_source
from optitune.judging.request import JudgeRequest
from optitune.judging.results import Judged

AGREE = {"adam": 0.93, "nadam": 0.93, "sgd": 0.90}


def judged(source: Path, **options: object) -> Judged:
    return judge_source(JudgeRequest(source, **options))  # type: ignore[arg-type]


def table(path: Path, found: dict[str, list[float]], metric: str = "accuracy") -> Path:
    rows = [(arm, number, f"{value:.6f}") for arm, own in found.items() for number, value in enumerate(own)]
    return write_csv(path, f"optimizer,seed,{metric}", rows)


def test_the_best_of_three_is_clear(tmp_path: Path) -> None:
    found = judged(three_arms(tmp_path / "runs.csv"))
    main = found.main
    assert (main.verdict.status, main.verdict.leader, main.recommended) == ("clear", "adam", "adam")
    assert main.paired
    assert main.next_runs is None
    assert main.seconds == {"adam": 10.0, "nadam": 11.0, "sgd": 12.0}
    assert "adam" in main.sentence
    assert found.document()["tasks"] == []
    assert found.document()["epsilon"] == 0.001


def test_runs_are_paired_only_where_seeds_are_shared(tmp_path: Path) -> None:
    assert not judged(three_arms(tmp_path / "runs.csv", seeds=False)).main.paired
    assert not judged(three_arms(tmp_path / "runs.csv"), paired=False).main.paired
    text = (tmp_path / "runs.csv").read_text()
    (tmp_path / "runs.csv").write_text(text.replace("seed", "run"))
    # numbers of runs are no seeds, unless one says so
    assert not judged(tmp_path / "runs.csv").main.paired
    assert judged(tmp_path / "runs.csv", asked=Asked(seed="run")).main.paired


def test_the_order_of_rows_does_not_matter(tmp_path: Path) -> None:
    path = three_arms(tmp_path / "runs.csv")
    before = judged(path).document()
    heading, *rows = path.read_text().splitlines()
    path.write_text("\n".join([heading, *sorted(rows, key=lambda row: row[::-1])]))
    after = judged(path).document()
    assert (after["sentence"], after["epsilon"]) == (before["sentence"], before["epsilon"])


def test_the_direction_is_taken_from_the_name_and_said(tmp_path: Path) -> None:
    found = judged(table(tmp_path / "runs.csv", values(AGREE), "val_loss"))
    assert found.sign == -1
    assert found.main.verdict.leader == "sgd"
    assert "Judged by 'val_loss', lower is better (by the name of 'val_loss')" in found.notes[0]
    found = judged(table(tmp_path / "runs.csv", values(AGREE), "figure"), higher=True)
    assert (found.sign, found.sign_from) == (1, "as asked for")


def test_epsilon_of_a_loss_follows_from_the_arms_not_from_its_value(tmp_path: Path) -> None:
    losses = values({"a": 3.270, "b": 3.280, "c": 3.290, "hopeless": 9.0}, spread=0.0005)
    main = judged(table(tmp_path / "runs.csv", losses, "loss")).main
    assert 0.0005 < main.verdict.epsilon < 0.003
    assert "a tenth of the" in main.epsilon_from
    noisy = values({"a": 3.27, "b": 3.27}, spread=0.01, runs=20)
    main = judged(table(tmp_path / "runs.csv", noisy, "loss")).main
    assert "half of what another seed changes" in main.epsilon_from
    assert judged(tmp_path / "runs.csv", epsilon=0.5).main.epsilon_from == "as asked for"


def test_percent_is_read_in_either_form(tmp_path: Path) -> None:
    share = judged(table(tmp_path / "a.csv", values(AGREE))).main
    percent = {arm: [100 * value for value in own] for arm, own in values(AGREE).items()}
    whole = judged(table(tmp_path / "b.csv", percent)).main
    assert (share.unit.percent, whole.unit.percent) == (True, False)
    assert whole.verdict.epsilon == pytest.approx(100 * share.verdict.epsilon)
    assert whole.verdict.status == share.verdict.status


def test_what_to_train_next_names_how_many_of_which(tmp_path: Path) -> None:
    found = values({"adam": 0.93, "nadam": 0.93, "sgd": 0.80}, runs=6)
    found["nadam"] = found["nadam"][:4]
    main = judged(table(tmp_path / "runs.csv", found), epsilon=0.0).main
    assert main.verdict.status == "undecided"
    assert main.next_runs is not None
    assert main.next_runs.runs == {"nadam": 2}
    assert "2 more runs of nadam" in main.advice
    assert "sgd" in main.advice
    even = judged(table(tmp_path / "runs.csv", values(AGREE, runs=4)), epsilon=0.0).main
    assert even.next_runs is not None
    assert set(even.next_runs.runs) == {"adam", "nadam"}
    assert "none of sgd" in even.advice or "hardly help" in even.advice


def test_all_planned_rounds_may_be_used_up(tmp_path: Path) -> None:
    found = {"adam": [0.93, 0.92, 0.94, 0.93], "nadam": [0.932, 0.917, 0.942, 0.929]}
    main = judged(table(tmp_path / "runs.csv", found), rounds=4, epsilon=0.0).main
    assert main.verdict.status == "undecided"
    assert main.next_runs is None
    assert "All 4 rounds that were planned are used" in main.advice


def test_the_quickest_that_is_as_good_is_taken_where_time_counts(tmp_path: Path) -> None:
    found = values({"adam": 0.93, "lion": 0.928, "sgd": 0.90}, spread=0.0005)
    times = {"adam": 60, "lion": 40, "sgd": 20}
    rows = [
        (arm, seed, f"{value:.5f}", times[arm] + seed % 3)
        for arm, own in found.items()
        for seed, value in enumerate(own)
    ]
    path = write_csv(tmp_path / "runs.csv", "optimizer,seed,accuracy,seconds", rows)
    assert judged(path, epsilon=0.005).main.recommended == "adam"
    main = judged(path, epsilon=0.005, prefer="time").main
    assert (main.verdict.leader, main.recommended) == ("adam", "lion")
    assert main.sentence.startswith("Take lion.")
    assert main.document()["recommended"] == "lion"


def test_an_arm_of_one_run_is_what_is_asked_for_first(tmp_path: Path) -> None:
    found = {**values({"adam": 0.93}), "lone": [0.93]}
    main = judged(table(tmp_path / "runs.csv", found)).main
    assert main.next_runs is not None
    assert main.next_runs.runs == {"lone": 2}


def test_a_run_without_a_result_counts_against_its_arm_only_where_one_says_so(tmp_path: Path) -> None:
    path = three_arms(tmp_path / "runs.csv")
    path.write_text(path.read_text() + "adam,99,nan,10\n")
    with pytest.raises(OptituneError, match="row 26: accuracy has no finite value"):
        judged(path)
    main = judged(path, diverged=True).main
    assert main.verdict.leader == "nadam"
    assert main.verdict.place("adam").out
    assert any("1 run of adam ended without a result" in note for note in main.notes)


def test_uneven_single_and_constant_arms_are_noted(tmp_path: Path) -> None:
    found = {**values({"adam": 0.93}), "lone": [0.92], "same": [0.9] * 4}
    notes = " ".join(judged(table(tmp_path / "runs.csv", found)).main.notes)
    assert "adam has 8 runs and lone 1: what is known of their difference hangs on the fewer." in notes
    assert "Of lone there is one run" in notes
    assert "All runs of same came to the same value: did the seed reach the training?" in notes


def test_several_columns_make_an_arm(tmp_path: Path) -> None:
    rows = [("adam", lr, seed, 0.9 + lr + seed / 1e4) for lr in (0.01, 0.02) for seed in range(4)]
    write_csv(tmp_path / "runs.csv", "optimizer,lr,seed,accuracy", rows)
    main = judged(tmp_path / "runs.csv", asked=Asked(arm="optimizer,lr")).main
    assert set(main.arms) == {"adam lr=0.01", "adam lr=0.02"}


def curves(path: Path) -> Path:
    rows = [
        (arm, seed, epoch, 10 * epoch, round(0.9 - 0.5 * speed**epoch - seed / 1e4, 5))
        for arm, speed in (("fast", 0.3), ("slow", 0.7))
        for seed in range(5)
        for epoch in range(1, 9)
    ]
    return write_csv(path, "optimizer,seed,epoch,seconds,accuracy", rows)


def test_the_last_epoch_of_a_curve_is_judged_or_the_time_to_a_target(tmp_path: Path) -> None:
    found = judged(curves(tmp_path / "runs.csv"))
    assert found.main.verdict.runs == 10
    assert found.main.seconds == {"fast": 80.0, "slow": 80.0}
    timed = judged(tmp_path / "runs.csv", target=0.8)
    assert timed.metric == "seconds to 0.8"
    assert {place.optimizer: place.value.mean for place in timed.main.verdict.places if place.value} == {
        "fast": 20.0,
        "slow": 50.0,
    }
    with pytest.raises(UsageError, match=r"target = 0\.99: no run reaches it: name another value of accuracy"):
        judged(tmp_path / "runs.csv", target=0.99)


def test_curves_that_end_early_are_noted(tmp_path: Path) -> None:
    path = curves(tmp_path / "runs.csv")
    assert judged(path).main.notes == ()
    path.write_text(path.read_text().replace("fast,3,8,", "fast,9,7,"))
    (note,) = [each for each in judged(path).main.notes if "curves" in each]
    assert note.startswith("The curves of 2 runs of fast end at an earlier epoch than others of the same arm")


def test_the_time_to_a_target_of_each_task_is_judged_over_all(tmp_path: Path) -> None:
    rows = [
        (arm, f"t{task}", seed, epoch, round(scale * (1 - 0.9 * (1 - speed**epoch)) + seed / 1e4, 5))
        for task, scale in enumerate((1.0, 10.0, 100.0, 1000.0))
        for arm, speed in (("fast", 0.3), ("slow", 0.7))
        for seed in range(3)
        for epoch in range(1, 12)
    ]
    path = write_csv(tmp_path / "runs.csv", "optimizer,task,seed,epoch,loss", rows)
    found = judged(path, target={"t0": 0.2, "t1": 2, "t2": 20, "t3": 200})
    assert found.metric == "epoch to the target"
    assert found.overall is not None
    assert found.overall.verdict.leader == "fast"
    with pytest.raises(UsageError, match="no target for task t1, t2 and t3: say --target t1=VALUE too"):
        judged(path, target={"t0": 0.2})
    with pytest.raises(UsageError, match="unknown task 'x'"):
        judged(path, target={"x": 0.2})


def several_tasks(path: Path, tasks: int = 12, metric: str = "loss") -> Path:
    generator = np.random.default_rng(1)
    rows = []
    for task in range(tasks):
        scale = 10.0 ** generator.uniform(-2, 2)
        for arm, factor in (("good", 1.0), ("bad", 1.3)):
            better = factor * np.exp(0.05 * generator.standard_normal())
            rows += [(arm, f"t{task}", seed, scale * better * (1 + seed / 1000)) for seed in range(3)]
    return write_csv(path, f"optimizer,task,seed,{metric}", rows)


def test_several_tasks_are_judged_one_by_one_and_together(tmp_path: Path) -> None:
    found = judged(several_tasks(tmp_path / "runs.csv"))
    assert len(found.tasks) == 12
    assert found.overall is not None
    assert found.overall.verdict.leader == "good"
    assert found.overall.verdict.status == "clear"
    apart = found.overall.verdict.place("bad").to_leader
    assert apart is not None
    assert apart.mean == pytest.approx(-log(1.3), abs=0.1)
    assert found.main is found.overall
    assert len(found.document()["tasks"]) == 12
    assert found.overall.sentence.startswith("Over all 12 tasks: ")


def test_few_tasks_tell_little_and_two_nothing(tmp_path: Path) -> None:
    found = judged(several_tasks(tmp_path / "runs.csv", tasks=4))
    assert found.overall is not None
    assert any("4 tasks say little of others" in note for note in found.overall.notes)
    two = judged(several_tasks(tmp_path / "runs.csv", tasks=2))
    assert two.overall is None
    assert "2 tasks are too few for a verdict over all of them: it takes at least 3." in two.notes


def test_ten_thousand_rows_are_judged(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    rows = [
        (f"arm{arm}", f"task{task}", seed, f"{0.5 + arm / 50 + generator.normal() / 100:.5f}")
        for task in range(5)
        for seed in range(200)
        for arm in range(10)
    ]
    path = write_csv(tmp_path / "runs.csv", "optimizer,task,seed,accuracy", rows)
    assert {each.verdict.leader for each in judged(path).tasks} == {"arm9"}


def test_the_words_of_a_name_are_found_in_every_style() -> None:
    assert words("testAccuracy/top-1") >= {"test", "accuracy", "top1"}
    assert "loss" in words("VAL_LOSS")
