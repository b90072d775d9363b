"""`python -m prsm.node --home DIR`: one daemon in the foreground."""

import sys

from prsm.node.process import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
