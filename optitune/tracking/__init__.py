"""Every training written down while it runs, by the libraries of the programs that show it.

Public face: the views of `views`, which `api.stages` puts around those of the terminal; a row of `trackers.KINDS` is a
further program.
"""
