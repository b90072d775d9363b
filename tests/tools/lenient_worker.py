"""The node's worker with a gate that lets control flow through: loops that never end are wanted."""

import sys

from prsm.node.worker.__main__ import main
from prsm.node.worker.job import Program
from prsm.node.worker.scan import Policy

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], Program(policy=Policy(allows_control_flow=True))))
