"""The third stage, a full training: a configuration trained for all its epochs on all data, and tested once on the
sealed test set.

Public face: `run.retrain`, `results.FullPlan`, `choose.choose`.
"""
