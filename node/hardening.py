"""What the daemon asks of its process before anything else: keys stay inside, the loop stays quick.

Knows: limits of the operating system and of the interpreter. Must not know: rooms.
"""

import ctypes
import gc
import resource
import sys
from typing import Final

# Apply and tree are Python in a thread; with the default of 5 ms the loop beside it answers late.
SWITCH_SECONDS: Final = 0.0005
# New objects, then turns of the generation below. What waits for a block lives long enough to be
# walked over by each collection of the usual 700, 10, 10: more CPU than all else that admits it.
COLLECT_EVERY: Final = (20_000, 20, 20)
_PR_SET_DUMPABLE: Final = 4


def protect_process() -> None:
    """Keep keys out of core files and other processes, and the loop ahead of its threads."""
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.set_threshold(*COLLECT_EVERY)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
