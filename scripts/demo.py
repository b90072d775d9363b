"""`python3 scripts/demo.py`: set everything up, then run `prsm demo` with the same arguments.

Knows how long the set-up took and hands it over; must not know what the demo does. Everything
printed here goes to stderr: with `--json`, stdout is the demo's one document.
"""

import os
import sys

import environment


def main() -> None:
    """Prepare `.venv` and the model's weights, then become the demo."""
    environment.require_python()
    seconds = environment.ensure() + environment.ensure_model()
    prsm = str(environment.VENV / "bin" / "prsm")
    os.execv(prsm, [prsm, "demo", "--install-seconds", f"{seconds:.1f}", *sys.argv[1:]])


if __name__ == "__main__":
    main()
