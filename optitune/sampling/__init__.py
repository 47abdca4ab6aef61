"""Samplers and pruners for Optuna, usable in any study: `sampler.FairSampler` shares trials among optimizers
(`allocation`), `pruner.ForecastPruner` ends those whose forecast is poor (`forecast`); `parameters` makes Optuna's
parameters of settings.

Public face: `FairSampler`, `ForecastPruner`.
"""
