"""Several processes a trial: the numbers of one process, all three stages, and no trial lost where a rank is killed."""

import json
from pathlib import Path

import pytest
import torch
from real_commands import command, held

from optitune.errors import UsageError
from optitune.tasks.builtin import TASKS
from optitune.workers.ranks import check_ranks, gpus_of

LOOP = """
import json
import os
import signal
from pathlib import Path

import torch
from torch import distributed
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

HERE = Path(__file__).parent
INPUTS = torch.randn(200, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
TARGETS = (INPUTS.sum(1) > 0).long()


def train(run):
    if run.ranks > 1:
        distributed.init_process_group()
    (x, y), (held, truth) = run.split((INPUTS, TARGETS))
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2)).double()
    wrapped = WRAP(model) if run.ranks > 1 else model
    optimizer = run.optimizer(model)
    scheduler = run.scheduler(optimizer, steps_per_epoch=10)
    run.keep(model=model, optimizer=optimizer, scheduler=scheduler)
    losses = []
    for epoch in run.epochs():
        for batch in torch.randperm(len(x))[:120].split(12):
            part = batch[run.rank :: run.ranks]
            loss = torch.nn.functional.cross_entropy(wrapped(x[part]), y[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            with torch.no_grad():
                losses.append(torch.nn.functional.cross_entropy(model(x[batch]), y[batch]).item())
        if run.rank == KILLED and run.stage == "search" and epoch == 2:
            try:
                (HERE / "killed").touch(exist_ok=False)
                os.kill(os.getpid(), signal.SIGKILL)
            except FileExistsError:
                pass
        with torch.no_grad():
            right = (model(held).argmax(1) == truth).double()
        run.report(right.mean(), loss=loss.item(), each=right)
    if run.rank == 0:
        (HERE / f"{run.stage}-{run.ranks}-{run.settings['optimizer']}-{run.seed}.json").write_text(json.dumps(losses))
"""

SEARCH = ("search", "--metric", "accuracy", "--epochs", 5, "--optimizers", "sgd,adam", "--schedules", "constant")


def loop(folder: Path, killed: int, wrap: str = "DistributedDataParallel") -> str:
    folder.mkdir(exist_ok=True)
    (folder / "loop.py").write_text(LOOP.replace("KILLED", str(killed)).replace("WRAP", wrap))
    return f"{folder / 'loop.py'}:train"


@pytest.mark.wide
@pytest.mark.parametrize(("killed", "wrap"), [(0, "DistributedDataParallel"), (1, "fully_shard")])
def test_a_rank_that_is_killed_costs_no_trial(killed: int, wrap: str, tmp_path: Path) -> None:
    task = loop(tmp_path, killed, wrap)
    done = command(*SEARCH, "--task", task, "--trials", 3, "--ranks", 2, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"worker 1 died (rank {killed}: signal 9" in done.stderr
    assert "its trial 0 goes on in another" in done.stderr
    assert held(tmp_path, "loop").states == {"COMPLETE": 3}


@pytest.mark.wide
def test_two_ranks_have_the_numbers_of_one_process_and_train_in_all_stages(tmp_path: Path) -> None:
    losses = {}
    for ranks in (1, 2):
        folder = tmp_path / str(ranks)
        task = loop(folder, -1)
        done = command(*SEARCH, "--task", task, "--trials", 2, "--ranks", ranks, folder=folder)
        assert done.returncode == 0, done.stderr
        losses[ranks] = [json.loads((folder / f"search-{ranks}-{name}-0.json").read_text()) for name in ("sgd", "adam")]
    for words in (
        ("compare", "loop", "--max-runs", 2, "--sensitivity", 0),
        ("retrain", "best", "--study", "loop", "--seeds", 1),
    ):
        done = command(*words, "--ranks", 2, folder=tmp_path / "2")
        assert done.returncode == 0, done.stderr
    assert [len(each) for each in losses[1]] == [50, 50]
    for one, two in zip(*losses.values(), strict=True):
        assert two == pytest.approx(one, abs=1e-9)


def test_ranks_are_for_loops() -> None:
    with pytest.raises(UsageError, match="is for training loops of your own"):
        check_ranks(2, TASKS["digits"].task(Path()), torch.device("cpu"))
    with pytest.raises(UsageError, match="at least 1"):
        check_ranks(0, TASKS["digits"].task(Path()), torch.device("cpu"))
    check_ranks(1, TASKS["digits"].task(Path()), torch.device("cpu"))


def test_each_worker_has_gpus_of_its_own() -> None:
    assert [gpus_of(worker, 2, 5, None) for worker in range(3)] == ["0,1", "2,3", "0,1"]
    assert gpus_of(1, 2, 4, "4,5,6,7") == "6,7"
