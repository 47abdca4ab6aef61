"""What a study is, as plain data: its settings, its file, its own optimizers, its trials as records, `best.toml`.

Public face: `settings.StudySettings`, `settings.resolve`, `records.TrialRecord`, `best_config.BestConfig`.
"""
