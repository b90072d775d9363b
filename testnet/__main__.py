"""`prsm-testnet` and `python -m prsm.testnet`: see `cli`."""

import sys


def main() -> None:
    """Load the program, which takes seconds in which a person may end it, and run it."""
    try:
        from prsm.testnet.cli import entry  # noqa: PLC0415 - see above

        entry()
    except KeyboardInterrupt:  # also while it loads what says how it was used wrongly
        sys.exit(130)


if __name__ == "__main__":
    main()
