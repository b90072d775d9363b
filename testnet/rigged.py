"""`python -m prsm.testnet.rigged --home DIR [--liar]`: a daemon in which faults can be ordered.

The daemon is the product's own, with a clock that can be set wrong (`skewed`), with something
between agreement and the network that lies when the file `lie` of the home says how (`deceit`),
if asked, with a worker that lies (`liar`), and as the version before this one while its home has
the mark of that (`previous`). The product has none of these switches.
"""

import sys
from pathlib import Path
from typing import Final

from prsm.node.home import Home
from prsm.node.process import WORKER, main
from prsm.testnet import liar, previous
from prsm.testnet.deceit import deceive
from prsm.testnet.skewed import SkewedClock

LIAR: Final = "--liar"

if __name__ == "__main__":
    arguments = [each for each in sys.argv[1:] if each != LIAR]
    if previous.mark_of(Home(Path(arguments[arguments.index("--home") + 1]))).exists():
        previous.forget()
    sys.exit(
        main(
            arguments,
            worker_command=liar.COMMAND if LIAR in sys.argv else WORKER,
            make_clock=SkewedClock,
            around=deceive,
        )
    )
