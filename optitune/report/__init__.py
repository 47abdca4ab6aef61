"""The report: its page, tables and figures; trials as tables and files for other programs.

Public face: `page.write`, `dataframes`, `interchange`.
"""
