"""An `Index` in memory: the dumb twin of the one in SQLite."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import trio

from prsm.storage.cid import Cid, hash_block
from prsm.storage.errors import Conflict, Corrupt, NotFound
from prsm.storage.store.index import BlockRow, PinRow, RootRow, State, Use, Used

_NO_USE = Use()


@dataclass
class MemoryIndex:
    """Dictionaries; every call is a checkpoint, as those of the real one are."""

    rows: dict[Cid, RootRow] = field(default_factory=dict)
    raw_of: dict[bytes, bytes] = field(default_factory=dict)
    owners: dict[bytes, set[bytes]] = field(default_factory=dict)
    block_uses: dict[bytes, Use] = field(default_factory=dict)
    listed: dict[Cid, Sequence[bytes]] = field(default_factory=dict)
    manifest_cids: set[Cid] = field(default_factory=set)
    pinned: dict[tuple[Cid, str], PinRow] = field(default_factory=dict)
    adopted: bool = False

    async def close(self) -> None:
        await trio.lowlevel.checkpoint()

    async def tidy(self) -> None:
        await trio.lowlevel.checkpoint()

    async def used(self) -> Used:
        await trio.lowlevel.checkpoint()

        def total(*states: State) -> int:
            return sum(
                row.size
                for row in self.rows.values()
                if row.state in states and (row.bitmap or row.state is not State.BAD)
            )

        files = total(State.SEALED, State.SEALING)
        blocks = sum(map(len, self.raw_of.values()))
        return Used(files, total(State.PARTIAL), total(State.BAD), blocks, len(self.rows))

    async def pinned_bytes(self) -> int:
        await trio.lowlevel.checkpoint()
        names = {pin.root for pin in await self.pins()}
        return sum(row.size for row in self.rows.values() if row.root in names)

    async def bytes_of(self, roots: Collection[Cid]) -> int:
        await trio.lowlevel.checkpoint()
        return sum(row.size for root, row in self.rows.items() if root in roots)

    async def get_root(self, root: Cid) -> RootRow | None:
        await trio.lowlevel.checkpoint()
        return self.rows.get(root)

    async def roots(self) -> Sequence[RootRow]:
        await trio.lowlevel.checkpoint()
        return list(self.rows.values())

    async def is_adopted(self) -> bool:
        await trio.lowlevel.checkpoint()
        return self.adopted

    async def note_adopted(self) -> None:
        await trio.lowlevel.checkpoint()
        self.adopted = True

    async def put_root(
        self,
        row: RootRow,
        nodes: Sequence[bytes] = (),
        leaves: Sequence[bytes] = (),
        *,
        pin: PinRow | None = None,
    ) -> None:
        await trio.lowlevel.checkpoint()
        old = self.rows.get(row.root)
        if old is not None:
            row = replace(row, use=old.use, scrub_next=old.scrub_next, scrubbed_ms=old.scrubbed_ms)
        self.rows[row.root] = row
        self._own(row.root.raw, nodes)
        if leaves:
            self.listed[row.root] = tuple(leaves)
        if pin is not None:
            self.pinned[pin.root, pin.name] = pin

    async def note_progress(self, root: Cid, bitmap: bytes, now_ms: int) -> None:
        await trio.lowlevel.checkpoint()
        row = self.rows.get(root)
        if row is not None and row.state is State.PARTIAL:
            use = Use(row.use.heat, now_ms)
            self.rows[root] = replace(row, bitmap=bitmap, use=use)

    async def note_uses(self, files: Mapping[Cid, Use], blocks: Mapping[bytes, Use]) -> None:
        await trio.lowlevel.checkpoint()
        for root, use in files.items():
            if root in self.rows:
                self.rows[root] = replace(self.rows[root], use=use)
        self.block_uses |= {key: use for key, use in blocks.items() if key in self.block_uses}

    async def note_scrub(self, root: Cid, next_leaf: int, scrubbed_ms: int) -> None:
        await trio.lowlevel.checkpoint()
        if root in self.rows:
            self.rows[root] = replace(
                self.rows[root], scrub_next=next_leaf, scrubbed_ms=scrubbed_ms
            )

    async def remove_root(self, root: Cid, *, even_pinned: bool = False) -> None:
        await trio.lowlevel.checkpoint()
        names = [name for key, name in self.pinned if key == root]
        if names and not even_pinned:
            raise Conflict(f"{root} is pinned as {', '.join(sorted(names))}")
        if root not in self.rows:
            raise NotFound(f"{root} is not in this store")
        del self.rows[root]
        self.listed.pop(root, None)
        self._disown(root.raw, [key for key, who in self.owners.items() if root.raw in who])

    async def remove_roots(self, roots: Collection[Cid], names: Collection[str]) -> None:
        await trio.lowlevel.checkpoint()
        for root, name in self.pinned:
            if root in roots and name not in names:
                raise Conflict(f"{root} is pinned as {name}")
        self.pinned = {key: pin for key, pin in self.pinned.items() if key[0] not in roots}
        for root in self.rows.keys() & set(roots):
            await self.remove_root(root)

    async def unlisted(self) -> Sequence[Cid]:
        await trio.lowlevel.checkpoint()
        sealed = [row.root for row in self.rows.values() if row.state is State.SEALED]
        return [root for root in sealed if root not in self.listed]

    async def find_leaves(self, digests: Sequence[bytes]) -> Mapping[bytes, tuple[Cid, int]]:
        await trio.lowlevel.checkpoint()
        return {
            digest: (root, list(listed).index(digest))
            for root, listed in self.listed.items()
            for digest in digests
            if digest in listed and self.rows[root].state is State.SEALED
        }

    async def put_blocks(self, owner: bytes, blocks: Sequence[bytes], use: Use = _NO_USE) -> None:
        await trio.lowlevel.checkpoint()
        self._own(owner, blocks)
        if use.used_ms:
            self.block_uses |= {hash_block(raw).digest: use for raw in blocks}

    async def get_block(self, digest: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        if digest not in self.raw_of:
            raise NotFound(f"no block {digest.hex()[:16]} in this store")
        raw = self.raw_of[digest]
        if hash_block(raw).digest != digest:
            raise Corrupt(f"block {digest.hex()[:16]} has changed")
        return raw

    async def held_blocks(self, digests: Sequence[bytes]) -> Mapping[bytes, int]:
        await trio.lowlevel.checkpoint()
        return {key: len(self.raw_of[key]) for key in digests if key in self.raw_of}

    async def drop_blocks(self, owner: bytes, digests: Sequence[bytes]) -> int:
        await trio.lowlevel.checkpoint()
        return self._disown(owner, digests)

    async def owned_blocks(self, owner: bytes) -> Sequence[BlockRow]:
        await trio.lowlevel.checkpoint()
        return [
            BlockRow(key, len(self.raw_of[key]), self.block_uses.get(key, Use()))
            for key, who in sorted(self.owners.items())
            if owner in who
        ]

    async def put_manifest(self, raw: bytes) -> Cid:
        await trio.lowlevel.checkpoint()
        cid = hash_block(raw)
        self.manifest_cids.add(cid)
        self._own(cid.raw, (raw,))
        return cid

    async def remove_manifest(self, cid: Cid) -> None:
        await trio.lowlevel.checkpoint()
        if cid not in self.manifest_cids:
            raise NotFound(f"no manifest {cid} in this store")
        self.manifest_cids.remove(cid)
        self._disown(cid.raw, (cid.digest,))

    async def manifests(self) -> Sequence[Cid]:
        await trio.lowlevel.checkpoint()
        return sorted(self.manifest_cids, key=lambda cid: cid.raw)

    async def pin(self, pin: PinRow) -> None:
        await trio.lowlevel.checkpoint()
        self.pinned[pin.root, pin.name] = pin

    async def unpin(self, root: Cid, name: str) -> None:
        await trio.lowlevel.checkpoint()
        if (root, name) not in self.pinned:
            raise NotFound(f"{root} is not pinned as {name!r}")
        del self.pinned[root, name]

    async def pins(self) -> Sequence[PinRow]:
        await trio.lowlevel.checkpoint()
        return sorted(self.pinned.values(), key=lambda pin: (pin.root.raw, pin.name))

    def _own(self, owner: bytes, blocks: Sequence[bytes]) -> None:
        for raw in blocks:
            digest = hash_block(raw).digest
            self.raw_of[digest] = raw
            self.owners.setdefault(digest, set()).add(owner)

    def _disown(self, owner: bytes, digests: Sequence[bytes]) -> int:
        count = 0
        for digest in digests:
            if owner in self.owners.get(digest, set()):
                count += 1
                self.owners[digest].remove(owner)
                if not self.owners[digest]:
                    del self.owners[digest], self.raw_of[digest]
                    self.block_uses.pop(digest, None)
        return count
