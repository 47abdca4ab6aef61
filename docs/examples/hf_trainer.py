"""The Trainer of Hugging Face: a small BERT, made from a configuration, reads sequences; nothing is downloaded.

optitune search --task docs/examples/hf_trainer.py:train --metric accuracy --epochs 4 --trials 20
"""

import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

from optitune.frameworks.transformers import fit  # optitune


def sequences(number=600, length=12):
    """Sequences of words, and whether the word 1 comes in them more often than the word 2."""
    words = torch.randint(1, 20, (number, length), generator=torch.Generator().manual_seed(0))
    labels = ((words == 1).sum(1) > (words == 2).sum(1)).long()
    return [{"input_ids": row, "labels": label} for row, label in zip(words, labels, strict=True)]


def right(prediction):
    return prediction.predictions.argmax(-1) == prediction.label_ids


def train(run):  # optitune
    train_set, judge_set = run.split(sequences())  # optitune
    config = BertConfig(
        vocab_size=20, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, num_labels=2
    )
    trainer = Trainer(
        BertForSequenceClassification(config),
        TrainingArguments(run.folder, per_device_train_batch_size=32, use_cpu=True),  # optitune: run.folder
        train_dataset=train_set,
        eval_dataset=judge_set,
        compute_metrics=lambda prediction: {"accuracy": right(prediction).mean()},
    )
    fit(run, trainer, each=right)  # optitune, in place of trainer.train()
