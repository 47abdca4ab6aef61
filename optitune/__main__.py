"""`python -m optitune`."""

from optitune.cli import main

if __name__ == "__main__":
    main()
