"""A study as plain data: its settings, file, own optimizers, trials as records, and `best.toml`.

Public face: `settings.StudySettings`, `settings.resolve`, `records.TrialRecord`, `best_config.BestConfig`.
"""
