"""A module of Lightning: handwritten digits.

optitune search --task docs/examples/lightning_loop.py:train --metric accuracy --epochs 5 --trials 20
"""

import lightning
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from optitune.frameworks.lightning import fit  # optitune


class Digits(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.network = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))

    def training_step(self, batch, index):
        inputs, targets = batch
        return functional.cross_entropy(self.network(inputs), targets)

    def validation_step(self, batch, index):
        inputs, targets = batch
        self.log("accuracy", (self.network(inputs).argmax(1) == targets).float().mean())


def train(run):  # optitune
    digits = load_digits()
    inputs, targets = torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target)
    train_set, judge_set = run.split(TensorDataset(inputs, targets))  # optitune
    loaders = DataLoader(train_set, batch_size=64, shuffle=True), DataLoader(judge_set, batch_size=256)
    trainer = lightning.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    fit(run, trainer, Digits(), *loaders)  # optitune, in place of trainer.fit(Digits(), *loaders)
