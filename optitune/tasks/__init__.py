"""Model, data and metric of the user: tasks, built in or their own, data sets and their splits, metrics, networks, and
how code that is not ours is run.

Public face: `task.Task`, `metrics.Metric`, `splits.search_data`.
"""
