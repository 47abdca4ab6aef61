"""Runs as plain rows and what follows from them: the sequential test, the verdict, costs. No torch, no Optuna, so that
it also serves runs that were trained elsewhere.

Public face: `runs.Run`, `runs.Plan`, `verdict.judge`, `sequential_test.half_width`, `costs.costs`.
"""
