"""What is wrong with a node, its folder and its machine, and what to type: `prsm doctor`."""

from prsm.node.doctor.examine import examine, mend
from prsm.node.doctor.finding import Answers, Finding, Level

__all__ = ["Answers", "Finding", "Level", "examine", "mend"]
