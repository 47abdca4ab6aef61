"""Verdicts on runs that were trained elsewhere: tables of runs are read, checked and judged as a comparison's are.

Public face: `judge.judge_source`, `request.JudgeRequest` and `results.Judged`; `readers.read` for the formats.
"""
