"""`python -m prsm.testnet.skewed --home DIR`: a daemon whose wall clock a test can set wrong.

The daemon is the product's own; it is handed another clock. The product has no such switch. By how
much the clock is wrong stands in a file of the home and may change while the node runs, as when
somebody sets the clock of a machine; the monotonic clock is never touched, as on a machine.
"""

import mmap
import struct
import sys
from pathlib import Path
from typing import Final

from prsm.node.clock import TrioClock
from prsm.node.home import Home, write_private
from prsm.node.process import main
from prsm.protocol.ids import Millis

_SKEW: Final = struct.Struct("<q")  # milliseconds ahead of the machine


def skew_file(home: Home) -> Path:
    """Where the skew of a home's node stands."""
    return home.root / "skew_ms"


def set_skew(home: Home, skew_ms: int) -> None:
    """Set a node's wall clock ahead of the machine's, or behind it, while it runs or before.

    Overwritten in place: a running node has the file mapped.
    """
    path = skew_file(home)
    if not path.exists():
        write_private(path, _SKEW.pack(skew_ms))
        return
    with path.open("r+b", buffering=0) as file:
        file.write(_SKEW.pack(skew_ms))


class SkewedClock:
    """The clocks of a trio loop, with the wall clock wrong by what stands in the home's file."""

    def __init__(self, home: Home) -> None:
        if not skew_file(home).exists():
            set_skew(home, 0)
        self._right = TrioClock()
        with skew_file(home).open("rb") as file:
            self._map = mmap.mmap(file.fileno(), _SKEW.size, access=mmap.ACCESS_READ)

    def monotonic_ms(self) -> Millis:
        """Trio's time in milliseconds."""
        return self._right.monotonic_ms()

    def wall_ms(self) -> Millis:
        """The machine's UTC time in milliseconds, plus the skew."""
        return Millis(self._right.wall_ms() + _SKEW.unpack(self._map[:])[0])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], make_clock=SkewedClock))
