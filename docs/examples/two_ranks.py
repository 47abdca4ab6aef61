"""One trial on several processes: handwritten digits with DistributedDataParallel and a DistributedSampler.

optitune search --task docs/examples/two_ranks.py:train --metric accuracy --epochs 5 --trials 20 --ranks 2
"""

import torch
from sklearn.datasets import load_digits
from torch import distributed, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset


def train(run):
    # nccl on GPUs, gloo on the CPU; the addresses are in the environment, as under torchrun
    distributed.init_process_group()
    digits = load_digits()
    inputs, targets = torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target)
    train_set, judge_set = run.split(TensorDataset(inputs, targets))  # optitune
    sampler = DistributedSampler(train_set, seed=run.seed)
    loader = DataLoader(train_set, batch_size=64 // run.ranks, sampler=sampler)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)).to(run.device)
    wrapped = DistributedDataParallel(model, device_ids=[run.device] if run.device.type == "cuda" else None)
    optimizer = run.optimizer(model)  # optitune
    scheduler = run.scheduler(optimizer, steps_per_epoch=len(loader))  # optitune
    run.keep(model=model, optimizer=optimizer, scheduler=scheduler)  # optitune
    for epoch in run.epochs():  # optitune
        sampler.set_epoch(epoch)
        total = 0.0
        for x, y in loader:
            loss = functional.cross_entropy(wrapped(x.to(run.device)), y.to(run.device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()  # optitune
            total += loss.item()
        # every rank judges its part of the examples; run.report puts the parts together
        judging = DataLoader(judge_set, batch_size=256, sampler=DistributedSampler(judge_set, shuffle=False))
        with torch.no_grad():
            right = torch.cat([model(x.to(run.device)).argmax(1).cpu() == y for x, y in judging])
        run.report(right.float().mean(), loss=total / len(loader), each=right)  # optitune
