"""The first stage, a search: `run` leads it, `join` takes part in one begun elsewhere, `watch` follows one; the
supervisor starts workers, which claim trials from the queue, train them and report.

Public face: `run.search`, `join.join`, `watch.watch`.
"""
