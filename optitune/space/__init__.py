"""What can be searched, as frozen rows without torch: ranges, optimizers, schedules, losses, and the search space of a
study.

Public face: the registries `optimizers.OPTIMIZERS`, `schedules.SCHEDULES`, `losses.LOSSES`, the ranges `ranges.Float`,
`Int`, `Choice` and `Fixed`, `configuration.Configuration`, and `search_space.SearchSpace`.
"""
