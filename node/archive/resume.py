"""The end of an observer's state by its operator: log and guard of a stopped home begin afresh.

Nothing here can know what the key signed and this home forgot, so the operator names the first
height at which it may sign again, and answers for it. A document of who did what and when is
written before anything is changed. Knows: the home, its ledger's height, what log and guard say.
Must not know: a running node. Source: docs/spec/pbft.md, "Observer".
"""

import os
from pathlib import Path
from typing import Final

import msgspec
import trio

from prsm.node.archive.chains import opened_ledger
from prsm.node.chain.signfiles import Opened, open_signfiles, records_from
from prsm.node.clock import TrioClock
from prsm.node.home import Home, write_private
from prsm.protocol.errors import LocalError
from prsm.storage.disk import PosixDisk
from prsm.storage.errors import NotFound

_HINT: Final = "ask the other operators: prsm chain status, prsm chain validators"


class ResumeRefused(LocalError):
    """A height that this home itself shows to be settled, or voted on in a way it cannot bind."""

    reason = "resume_refused"


async def resume_signing(home: Home, height: int) -> dict[str, object]:
    """Let a validator sign again from a height on; its old log and guard are kept aside.

    Args:
        home: of a stopped node, held by the caller.
        height: the first one at which it may sign.

    Returns:
        What the document says, and where it lies.

    Raises:
        NotFound: the home has no consensus key.
        ResumeRefused: ledger, log or guard speak of that height already.
        LocalError: whatever refuses to open the ledger or the log, or the disk.
    """
    if not home.consensus_keys:
        raise NotFound(
            f"{home.consensus_key} does not exist: this home signs nothing anyway",
            hint="put the validator's consensus key there first",
        )
    async with opened_ledger(home.data / "ledger.db") as store:
        tip = await store.tip()
    opened = open_signfiles(PosixDisk(), home.data, ledger_height=tip[0] if tip else 0)
    try:
        if height <= opened.settled:
            raise ResumeRefused(
                f"height {height} is not above {opened.settled}, the last one that this home's "
                "ledger, log or guard has settled",
                hint=_HINT,
            )
        document = _document(home, height, opened, ledger_height=tip[0] if tip else 0)
        path = _write(home, document)
        keep = records_from(opened.records, height)
        kept = await trio.to_thread.run_sync(opened.files.renew, height, keep)
    finally:
        opened.files.close()
    return {**document, "kept": list(kept), "audit": str(path)}


def _document(home: Home, height: int, opened: Opened, *, ledger_height: int) -> dict[str, object]:
    return {
        "act": "unsafe-resume",
        "first_height": height,
        "time_ms": TrioClock().wall_ms(),
        "home": str(home.root),
        "ledger_height": ledger_height,
        "settled_height": opened.settled,
        "observer_because": opened.observer,
        "user_id": os.getuid(),
    }


def _write(home: Home, document: dict[str, object]) -> Path:
    """Write the document durably, before what it speaks of."""
    number = 1
    while (path := home.data / f"unsafe-resume-{number}.json").exists():
        number += 1
    write_private(path, msgspec.json.encode(document) + b"\n")
    PosixDisk().sync_folder(str(path))
    return path
