"""Processes that work: the pool and what it is sent (`pool`), what a process is to a task's code (`child_process`),
leases on trials (`leases`), and trainings that die at the same place again and again (`furthest`).

Public face: `pool.Pool`, `pool.Channel`, `leases.Owner`.
"""
