"""The second stage, a comparison: the best of each optimizer trained again on fresh seeds, round by round, until the
verdict is clear.

Public face: `run.compare`, `results.Comparison`, `plan.make_plan`.
"""
