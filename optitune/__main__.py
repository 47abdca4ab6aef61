"""`python -m optitune`."""

import sys

if __name__ == "__main__":
    # Python looks into the present folder before anywhere else; a file `random.py` there is not what torch means
    present = None if sys.flags.safe_path else sys.path.pop(0)

    from pathlib import Path

    from optitune.cli import main
    from optitune.common.user_modules import importable

    if present is not None:
        importable(Path(present).resolve())
    main()
