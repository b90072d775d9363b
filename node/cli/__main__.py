"""`prsm` and `python -m prsm.node.cli`: loads `main`, and ends quietly where a person ends that."""

import sys


def main() -> None:
    """Load the program, which takes a while on a slow disk, and run it."""
    try:
        from prsm.node.cli.main import main as run

        run()
    except KeyboardInterrupt:  # also while it loads what says how it was used wrongly
        sys.exit(130)


if __name__ == "__main__":
    main()
