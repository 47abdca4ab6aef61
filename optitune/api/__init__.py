"""The door for Python: `search`, `compare`, `retrain` and `load`, what they return, and how a notebook shows it.

Public face: what `optitune` itself exports.
"""
