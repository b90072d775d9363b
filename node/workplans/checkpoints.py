"""Outputs of steps as files in this node's content store, named by their CIDs.

Knows: the form of the file, the pin that keeps it. Must not know: what a step was for.
"""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import trio

from prsm.protocol.slices import encode_slices, read_layout
from prsm.protocol.tensors import Tensor
from prsm.storage.cid import Cid
from prsm.storage.store.model_store import ModelStore

OWNER: Final = "plans"
PREFIX: Final = "plan-"


class Checkpoints:
    """Keeps and reads outputs.

    Args:
        store: of this node.
        scratch: a folder on the store's file system, for files that are not in it yet.
    """

    def __init__(self, store: ModelStore, scratch: Path) -> None:
        self._store, self._scratch = store, scratch

    async def keep(self, plan: bytes, outputs: Sequence[Tensor]) -> Cid:
        """Store the outputs of a step; they stay until the plan is dropped.

        Raises:
            BadSlices: more than 64 MiB, or outputs of different numbers of rows.
            Full, StoreUnavailable: the disk refused.
        """
        raw = await trio.to_thread.run_sync(encode_slices, [outputs])
        with TemporaryDirectory(dir=self._scratch) as folder:
            path = Path(folder) / "step"
            await trio.to_thread.run_sync(path.write_bytes, raw)
            added = await self._store.add_file(path, move=True)
        await self._store.pin(added.root, name_of(plan), OWNER)
        return added.root

    async def read(self, cid: Cid) -> tuple[Tensor, ...]:
        """The outputs of a step, checked against their CID.

        Raises:
            NotFound: they are not here.
            Corrupt: the file was changed.
            BadSlices, WireError: a file of another form.
        """
        async with self._store.lease(cid, holder=OWNER, purpose="step") as path:
            await self._store.verify(cid)
            raw = await trio.to_thread.run_sync(path.read_bytes)
        layout = read_layout(raw)
        start, size = layout.place(0)
        return layout.read(0, raw[start : start + size])

    async def names(self) -> set[str]:
        """Names, see `name_of`, of the plans that have outputs here."""
        pins = await self._store.pins()
        return {pin.name for pin in pins if pin.owner == OWNER and pin.name.startswith(PREFIX)}

    async def drop(self, name: str) -> None:
        """Let the outputs of a plan that is forgotten go when room is needed.

        Raises:
            Full, StoreUnavailable: the disk refused; some may still be pinned.
        """
        for pin in await self._store.pins():
            if (pin.name, pin.owner) == (name, OWNER):
                await self._store.unpin(pin.root, name)


def name_of(plan: bytes) -> str:
    """The name under which the outputs of a plan are pinned."""
    return f"{PREFIX}{plan.hex()[:16]}"
