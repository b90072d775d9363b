"""`python -m prsm.testnet.liar --home DIR`: a daemon whose worker returns wrong results.

The daemon is the product's own, honest in consensus; only the program it starts for models is
another (`liar_worker`). The product has no such switch.
"""

import sys
from typing import Final

from prsm.node.process import main

COMMAND: Final = (sys.executable, "-m", "prsm.testnet.liar_worker")

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], worker_command=COMMAND))
