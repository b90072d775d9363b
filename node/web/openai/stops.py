"""Cut a text that comes in parts before the first of some words.

The end of a part that may begin such a word waits for the next one. Knows: texts only.
"""

from collections.abc import Sequence


class Cutter:
    """Passes text on until a stop word begins.

    Invariants: what was passed on holds no stop word, and no beginning of the one that ended it.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._kept = ""
        self.is_cut = False

    def feed(self, text: str) -> str:
        """What may be passed on now."""
        if self.is_cut:
            return ""
        whole = self._kept + text
        # The one that is complete first, so that it does not matter how the text is parted.
        found = [(at + len(stop), at) for stop in self._stops if (at := whole.find(stop)) >= 0]
        if found:
            self.is_cut, self._kept = True, ""
            return whole[: min(found)[1]]
        held = max((overlap(whole, stop) for stop in self._stops), default=0)
        self._kept = whole[len(whole) - held :]
        return whole[: len(whole) - held]

    def end(self) -> str:
        """What waited, once no more comes."""
        kept, self._kept = self._kept, ""
        return kept


def overlap(text: str, stop: str) -> int:
    """Characters at the end of a text that begin a stop word."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
