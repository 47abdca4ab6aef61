"""Where the files that optuna-dashboard shows beside a study lie, and how they are called."""

import re

FOLDER = "artifacts"
"""Within the folder of a study."""


ID = re.compile(r"[0-9a-fA-F-]{1,64}")
