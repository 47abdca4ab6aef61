"""Artifacts: the files that optuna-dashboard shows beside a study."""

import re

FOLDER = "artifacts"
"""Their folder within the folder of a study."""


ID = re.compile(r"[0-9a-fA-F-]{1,64}")
