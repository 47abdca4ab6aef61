"""What every other folder may use: files that are whole or not there (`files`), strict models and TOML (`schema`),
tensors on disk without pickle (`checkpoint`), torch's random state (`randomness`), modules beside a user's file
(`user_modules`), colours and commands to type.

Public face: `files.replacing`, `schema.Strict`, `schema.validated`, `checkpoint.save`, `checkpoint.load`.
"""
