"""Blocks by digest: those put by themselves, and every other one the store holds.

Knows: owners of stray blocks, and where else a digest may be: nodes, manifests, leaves of files.
Must not know: who asks for them (bitswap, CAR files, repair).

A stray block without an owner is cached and may go when room is needed; one with an owner stays
until that owner gives it up. Large things are better files: one copy, leaves as byte ranges.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from prsm.protocol.errors import LocalError
from prsm.protocol.limits import BLOCK_BYTES_MAX
from prsm.storage.cid import Cid
from prsm.storage.dag.hashing import CHUNK
from prsm.storage.errors import Corrupt, NotFound, WrongHash
from prsm.storage.store import sealed
from prsm.storage.store.index import Use
from prsm.storage.store.shelf import Shelf
from prsm.storage.store.space import STRAY, Space

DIGESTS_MAX: Final = 8192  # of one call, so that a hostile list of wants stays cheap
OWNER_LETTERS_MAX: Final = 128
_EMPTY: Final = hashlib.sha256(b"").digest()


class Blocks:
    """The blocks of one store."""

    def __init__(self, shelf: Shelf, space: Space) -> None:
        """Stand beside a store; `ModelStore.blocks` is the way in."""
        self._shelf = shelf
        self._space = space

    async def put(self, digest: bytes, raw: bytes, *, owner: str = "") -> None:
        """Keep one block; twice is once.

        Args:
            digest: sha2-256 of the bytes.
            raw: at most 2 MiB.
            owner: who keeps it until `delete`; empty: cached.

        Raises:
            WrongHash: bytes of another digest; nothing was stored.
            LocalError: too large, or the owner's name too long.
            Full: no room, with the figures.
        """
        if hashlib.sha256(raw).digest() != digest:
            raise WrongHash(f"{len(raw)} bytes are not block {digest.hex()[:16]}")
        await self.put_many((raw,), owner=owner)

    async def put_many(self, blocks: Sequence[bytes], *, owner: str = "") -> None:
        """Keep blocks in one transaction, all or none.

        Raises:
            LocalError, Full: as for `put`.
        """
        if not blocks:
            return
        key = _key(owner)
        if (most := max(len(raw) for raw in blocks)) > BLOCK_BYTES_MAX:
            raise LocalError(f"a block of {most} bytes, at most {BLOCK_BYTES_MAX}")
        async with self._space.reserved(sum(len(raw) for raw in blocks)) as reservation:
            use = Use()
            if not owner:
                for raw in blocks:
                    use = self._shelf.use(hashlib.sha256(raw).digest())
            async with reservation.settled():
                await self._shelf.index.put_blocks(key, blocks, use)

    async def get(self, digest: bytes) -> bytes:
        """Return a block: stray, interior node, manifest, or leaf of a file, checked.

        Raises:
            NotFound: it is not here.
            Corrupt: it has changed on disk.
        """
        try:
            raw = await self._shelf.index.get_block(digest)
        except NotFound:
            return await self._leaf(digest)
        self._shelf.uses.touch_known(digest, self._shelf.now_ms())
        return raw

    async def held(self, digests: Sequence[bytes]) -> Mapping[bytes, int]:
        """Return the sizes of those blocks that are here, leaves of files included.

        Raises:
            LocalError: more than 8,192 digests.
        """
        if len(digests) > DIGESTS_MAX:
            raise LocalError(f"{len(digests)} digests, at most {DIGESTS_MAX}")
        found = dict(await self._shelf.index.held_blocks(digests))
        for partial in self._shelf.partials.values():
            leaves = [partial.find(digest) for digest in digests]
            found |= {leaf.digest: leaf.size for leaf in leaves if leaf is not None}
        rest = [digest for digest in digests if digest not in found]
        places = await self._shelf.index.find_leaves(rest)
        sizes: dict[Cid, int] = {}
        for root in {root for root, _ in places.values()}:
            row = await self._shelf.index.get_root(root)
            sizes[root] = 0 if row is None else row.size
        for digest, (root, place) in places.items():
            if sizes[root]:  # else: removed meanwhile, or the empty file
                found[digest] = min(CHUNK, sizes[root] - place * CHUNK)
            elif digest == _EMPTY:
                found[digest] = 0
        return found

    async def owned(self, owner: str) -> Sequence[bytes]:
        """Return the digests of an owner's blocks, in order."""
        return [row.digest for row in await self._shelf.index.owned_blocks(_key(owner))]

    async def delete(self, digest: bytes, *, owner: str = "") -> None:
        """Give a block up; it goes when nobody else owns it.

        Raises:
            NotFound: this owner has no such block.
        """
        await self.delete_many((digest,), owner=owner)

    async def delete_many(self, digests: Sequence[bytes], *, owner: str = "") -> None:
        """Give blocks up in one transaction.

        Raises:
            NotFound: this owner has none of them.
        """
        if not await self._shelf.index.drop_blocks(_key(owner), digests):
            raise NotFound(f"{owner or 'the cache'} holds none of {len(digests)} blocks")
        for digest in digests:
            self._shelf.uses.forget(digest)

    async def _leaf(self, digest: bytes) -> bytes:
        for partial in self._shelf.partials.values():
            if (leaf := partial.find(digest)) is not None:
                return _checked(digest, await self._shelf.hop(partial.read, leaf))
        found = await self._shelf.index.find_leaves((digest,))
        if digest not in found:
            raise NotFound(f"no block {digest.hex()[:16]} in this store")
        root, place = found[digest]
        # Its own hash is checked, so it does not matter whether somebody touched the file.
        leaf = (await self._shelf.leaves(await self._shelf.sealed_row(root)))[place]
        self._shelf.use_part(root)
        return _checked(digest, await self._shelf.hop(sealed.read_one, self._file(root), leaf))

    def _file(self, root: Cid) -> Path:
        return self._shelf.folders.file(root)


def _checked(digest: bytes, raw: bytes) -> bytes:
    if hashlib.sha256(raw).digest() != digest:
        raise Corrupt(f"block {digest.hex()[:16]} has changed on disk")
    return raw


def _key(owner: str) -> bytes:
    if len(owner) > OWNER_LETTERS_MAX:
        raise LocalError(f"an owner's name of {len(owner)} letters, at most {OWNER_LETTERS_MAX}")
    return STRAY + owner.encode()
