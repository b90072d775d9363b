"""`python3 scripts/test.py`: set everything up, then run the gate and all tests.

Knows the order of the two; must not know the steps of the gate (`scripts/check.py`), to which all
arguments are handed.
"""

import os
import sys

import environment


def main() -> None:
    """Prepare `.venv`, then become the gate."""
    environment.require_python()
    environment.ensure()
    environment.ensure_browser()
    gate = str(environment.ROOT / "scripts" / "check.py")
    os.execv(environment.PYTHON, [str(environment.PYTHON), gate, *sys.argv[1:]])


if __name__ == "__main__":
    main()
