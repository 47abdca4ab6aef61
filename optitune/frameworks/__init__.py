"""Training loops of other packages: `optitune.frameworks.transformers.fit` for a Trainer of Hugging Face,
`optitune.frameworks.lightning.fit` for one of Lightning.

Each gives a Trainer the optimizer and the schedule of a run, and reports every epoch. None of them is imported by the
rest, nor imports its package before it is called.
"""
