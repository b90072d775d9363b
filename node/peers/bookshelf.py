"""The file of the address book: read at the start, replaced whole, never trusted for being there.

Knows the file. Must not know what is in the book (`node/net/bookfile`). A file that cannot be
read is put aside and costs the addresses in it, never the start of a node.
"""

from pathlib import Path
from typing import Final

import trio

from prsm.node.home import write_private
from prsm.node.net.addresses import KEY_BYTES, AddressBook, Dice
from prsm.node.net.bookfile import BOOK_BYTES_MAX, from_bytes, to_bytes
from prsm.node.telemetry import logs
from prsm.protocol.errors import WireError
from prsm.protocol.ids import PeerId

log = logs.get("bookshelf")

DAMAGED: Final = ".damaged"
_FOLDER_MODE: Final = 0o700


def load_book(path: Path | None, *, us: PeerId, now_ms: int, dice: Dice) -> AddressBook:
    """The saved book, or an empty one with a key of its own.

    Args:
        path: its file; None: there is none.
        us: this node, never an entry.
        now_ms: wall time.
        dice: who draws the key of a new book; the system's in a node, nobody may guess it.
    """
    empty = AddressBook(bytes(dice.randrange(256) for _ in range(KEY_BYTES)), us=us)
    if path is None:
        return empty
    try:
        with path.open("rb") as file:
            return from_bytes(file.read(BOOK_BYTES_MAX + 1), us=us, now_ms=now_ms)
    except FileNotFoundError:
        return empty
    except OSError as error:
        log.warning("the address book cannot be read", path=str(path), why=error.strerror)
        return empty
    except WireError as error:
        aside = path.with_name(path.name + DAMAGED)
        log.warning("damaged address book put aside", path=str(aside), why=error.what)
        try:
            path.replace(aside)
        except OSError:
            log.warning("it cannot be moved either", path=str(path))
        return empty


async def save_book(path: Path, book: AddressBook) -> bool:
    """Replace the file in a thread; False, and a warning, where the disk refuses."""
    raw = to_bytes(book)  # here: nobody changes the book meanwhile
    try:
        await trio.to_thread.run_sync(_write, path, raw)
    except OSError as error:
        log.warning("the address book cannot be written", path=str(path), why=error.strerror)
        return False
    return True


def _write(path: Path, raw: bytes) -> None:
    path.parent.mkdir(mode=_FOLDER_MODE, exist_ok=True)
    write_private(path, raw)
