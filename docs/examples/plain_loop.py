"""A plain PyTorch loop: handwritten digits, with what optitune needs on the lines marked with a comment.

optitune search --task docs/examples/plain_loop.py:train --metric accuracy --epochs 5 --trials 20
"""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset


def train(run):
    digits = load_digits()
    inputs, targets = torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target)
    train_set, judge_set = run.split(TensorDataset(inputs, targets))  # optitune
    loader = DataLoader(train_set, batch_size=64, shuffle=True)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)).to(run.device)  # optitune
    optimizer = run.optimizer(model)  # optitune
    scheduler = run.scheduler(optimizer, steps_per_epoch=len(loader))  # optitune
    run.keep(model=model, optimizer=optimizer, scheduler=scheduler)  # optitune
    for _ in run.epochs():  # optitune
        model.train()
        total = 0.0
        for x, y in loader:
            loss = functional.cross_entropy(model(x.to(run.device)), y.to(run.device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()  # optitune
            total += loss.item()
        model.eval()
        with torch.no_grad():
            right = torch.cat(
                [model(x.to(run.device)).argmax(1).cpu() == y for x, y in DataLoader(judge_set, batch_size=256)]
            )
        run.report(right.float().mean(), loss=total / len(loader), each=right)  # optitune
