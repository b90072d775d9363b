"""What a node wrote down beside its ledger, as a backup carries it: who may call, what it earned.

Records of tokens go, the key that signs them stays behind: nothing in a backup lets anybody in. So
tokens with a secret have ended in a restored home; those of a public key have the rights they had
when the backup was made.

Knows: the files, how each is read. Must not know: the sealed format.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import trio

from prsm.node.callers.tokens import Tokens, read_tokens
from prsm.node.clock import Clock, utc_text
from prsm.node.home import Home
from prsm.protocol.errors import PrsmError
from prsm.storage.database import Database, copy_database
from prsm.storage.earnings import open_earnings
from prsm.storage.tenancy import open_database

TOKENS: Final = "data/tokens.json"
WORKER: Final = "data/worker.json"
PLAIN: Final = frozenset((TOKENS, WORKER))
_OPENERS: Final[Mapping[str, Callable[[Path], Awaitable[Database]]]] = {
    "data/tenancy.db": open_database,
    "data/earnings.db": open_earnings,
}
DATABASES: Final = frozenset(_OPENERS)


async def book_files(home: Home, folder: Path, *, is_running: bool) -> dict[str, Path]:
    """Files of a home by their names in a backup; of databases a copy in `folder`.

    Args:
        home: held by a node, or by the caller.
        folder: for copies, the caller's own.
        is_running: a node holds the home, and its databases open.

    Raises:
        LocalError: a database that is damaged, or a disk that refused.
    """
    found = {name: home.root / name for name in sorted(PLAIN) if (home.root / name).exists()}
    for name in sorted(_OPENERS):
        source = home.root / name
        if not source.exists():
            continue
        if not is_running:
            async with _opened(name, source):
                pass  # what a crash left in its log is moved in
        copy = folder / source.name
        await trio.to_thread.run_sync(copy_database, source, copy)
        async with _opened(name, copy):
            pass  # quick_check, and its own log moved in
        found[name] = copy
    return found


async def book_notes(staged: Home, *, made_ms: int, clock: Clock) -> list[str]:
    """What a person should know of the books of a restored home.

    What cannot be read is left out and said: it must not keep ledger and keys away.

    Args:
        staged: the home that is being made.
        made_ms: when the backup was made.
        clock: decides what has ended.
    """
    notes = []
    for name in sorted(_OPENERS):
        path = staged.root / name
        if not path.exists():
            continue
        try:
            async with _opened(name, path):
                pass
        except PrsmError as error:
            path.unlink()
            notes.append(f"{name} is left out: {error.what}")
    try:
        notes += _token_notes(staged, made_ms, clock)
    except PrsmError as error:
        (staged.root / TOKENS).unlink()
        notes.append(f"{TOKENS} is left out: {error.what}")
    return notes


def _token_notes(staged: Home, made_ms: int, clock: Clock) -> Iterator[str]:
    rows = read_tokens(staged.root / TOKENS)
    alone = Tokens(staged.root / "none", staged.root / "none", clock, ())  # without a signing key
    living = [one for one in rows if alone.why_dead(one) in ("", "rotated")]
    good = [one for one in living if one.public_key]
    if len(living) > len(good):
        yield f"{len(living) - len(good)} tokens with a secret have ended: prsm token new NAME"
    if good:
        yield (
            f"{len(good)} tokens of public keys may call again, as of {utc_text(made_ms)}; what "
            "was taken back since then is not known: prsm token ls"
        )


@asynccontextmanager
async def _opened(name: str, path: Path) -> AsyncIterator[Database]:
    database = await _OPENERS[name](path)
    try:
        yield database
    finally:
        with trio.CancelScope(shield=True):  # bounded: closing a file
            await database.close()
