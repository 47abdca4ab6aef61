"""A GAN: two optimizers, two losses, judged by how far the means and spreads of its samples are from the data's.

optitune search --task docs/examples/gan_loop.py:train --metric distance:minimize --epochs 5 --trials 20
"""

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.utils.data import DataLoader


def ring(number):
    angle = torch.rand(number, generator=torch.Generator().manual_seed(0)) * 6.2832
    return torch.stack([angle.cos(), angle.sin()], 1)


def train(run):
    train_set, judge_set = run.split(ring(2_000))  # optitune
    loader = DataLoader(train_set, batch_size=64, shuffle=True, drop_last=True)
    generator = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 2))
    critic = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 1))
    of_generator = run.optimizer(generator, name="generator")  # optitune
    of_critic = run.optimizer(critic, name="critic")  # optitune
    schedules = [run.scheduler(each, steps_per_epoch=len(loader)) for each in (of_generator, of_critic)]  # optitune
    run.keep(generator=generator, critic=critic, of_generator=of_generator, of_critic=of_critic)  # optitune
    run.keep(**{f"schedule{number}": each for number, each in enumerate(schedules)})  # optitune
    for _ in run.epochs():  # optitune
        for real in loader:
            yes, no = torch.ones(len(real), 1), torch.zeros(len(real), 1)
            fake = generator(torch.randn(len(real), 4))
            of_critic.zero_grad()
            (bce(critic(real), yes) + bce(critic(fake.detach()), no)).backward()
            of_critic.step()
            of_generator.zero_grad()
            bce(critic(fake), yes).backward()
            of_generator.step()
            for each in schedules:
                each.step()  # optitune
        with torch.no_grad():
            fake = generator(torch.randn(len(judge_set), 4))
        distance = (fake.mean(0) - judge_set.mean(0)).norm() + (fake.std(0) - judge_set.std(0)).norm()
        run.report(distance)  # optitune
