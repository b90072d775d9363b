"""`python -m prsm.testnet`: see `cli`."""

from prsm.testnet.cli import entry

if __name__ == "__main__":
    entry()
