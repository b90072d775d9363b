"""What a store does when nobody asks: scrub a little, drop what is idle, tidy the index.

Knows: how often, and how much. Must not know: how each of it is done.
"""

from typing import Final

import trio

from prsm.storage.diskguard import DiskState
from prsm.storage.errors import Corrupt, Full, StoreUnavailable
from prsm.storage.store.scrub import PERIOD_MS, Scrub, Scrubbed
from prsm.storage.store.shelf import Shelf
from prsm.storage.store.space import Space

PERIOD_S: Final = 60
LOOK_S: Final = 10  # between two looks at the disk: somebody else may fill it meanwhile

assert PERIOD_S % LOOK_S == 0


class Upkeep:
    """The upkeep of one store.

    Attributes:
        trouble: what the disk last refused; empty: nothing.
    """

    def __init__(self, shelf: Shelf, space: Space, scrub: Scrub) -> None:
        """Tend a shelf."""
        self._shelf = shelf
        self._space = space
        self._scrub = scrub
        self._owed_bytes = 0.0
        self.trouble = ""

    async def run(self) -> None:
        """Tend the store every minute until cancelled; a disk that refuses ends nothing."""
        looks = 0
        while True:
            try:
                if looks % (PERIOD_S // LOOK_S) == 0:
                    await self.once(PERIOD_S)
                elif self._shelf.guard is not None:
                    self._shelf.guard.tend()
                self.trouble = ""
            except (Full, StoreUnavailable, Corrupt) as error:
                self.trouble = error.what
            looks += 1
            await trio.sleep(LOOK_S)

    async def once(self, seconds: float) -> Scrubbed:
        """Do what is due after so many seconds.

        Raises:
            Full, StoreUnavailable, Corrupt: the disk refused, or the index is damaged.
        """
        shelf = self._shelf
        if shelf.guard is not None and shelf.guard.tend().state is DiskState.READ_ONLY:
            return Scrubbed(0, 0, ())
        await shelf.save_uses()
        await self._space.drop_idle()
        await shelf.index.tidy()
        self._owed_bytes += (await shelf.index.used()).files * seconds * 1000 / PERIOD_MS
        done = Scrubbed(0, 0, ())
        if self._owed_bytes >= 1:
            done = await self._scrub.run(int(self._owed_bytes))
            self._owed_bytes -= done.checked_bytes
        return done
