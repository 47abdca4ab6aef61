"""optuna-dashboard: the notes, pictures, figures and files that a study has there, and the server.

Public face: `server.serve`, `trial_notes`, `search_notes`, `result_notes`.
"""
