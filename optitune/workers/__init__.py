"""Worker processes: the pool of this machine (`pool`), what supervises workers of any kind (`supervisor`), what they
report (`events`), what a process is to a task's code (`child_process`), leases on trials (`leases`), and trainings that
die at the same place again and again (`progress`).

Public face: `pool.Pool`, `pool.Channel`, `events.Event`, `leases.Owner`.
"""
