"""`python -m prsm.testnet`: see `cli`."""

import sys

if __name__ == "__main__":
    try:
        from prsm.testnet.cli import entry  # loads for seconds, in which a person may end it
    except KeyboardInterrupt:
        sys.exit(130)
    entry()
