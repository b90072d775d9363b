"""Adding a model: prepared in a sandbox, stored, and named on the ledger.

Knows: the steps and their order. Must not know: bytes of a model (the worker's) or of a block (the
store's).
"""

import functools
import hashlib
import os
from pathlib import Path

import msgspec
import trio

from prsm.node.inference.prepared import Prepared
from prsm.node.models.cardtext import card_owner, make_card
from prsm.node.models.naming import check_name
from prsm.node.models.records import CardText, Tools, Wanted
from prsm.node.models.tasks import Task
from prsm.node.models.templates import check_templates, with_templates
from prsm.protocol.ed25519 import Ed25519Signer
from prsm.protocol.errors import LocalError, Unsupported
from prsm.protocol.limits import LEAF_BYTES
from prsm.protocol.messages.models import Compute, ManifestFile, ModelManifest, Shard
from prsm.storage.card import card_cid, encode_card, sign_card
from prsm.storage.cid import Cid, decode_cid
from prsm.storage.dag.unixfs import UNIXFS_V1_2025, import_chunks
from prsm.storage.envelope import RING_NAME, encode_ring, make_ring, seal_file
from prsm.storage.errors import NotFound
from prsm.storage.manifest import MODEL_KIND, sign_manifest
from prsm.storage.store.pins import ADDED
from prsm.storage.store.staging import Stage, Staging
from prsm.storage.wholefile import refused


class Adding:
    """Makes models of files."""

    def __init__(self, tools: Tools) -> None:
        self.staging = Staging(tools.store, tools.scratch)
        self._tools = tools

    async def prepare(
        self, wanted: Wanted, *, task: Task | None = None
    ) -> tuple[Cid, ModelManifest]:
        """Prepare a model in a sandbox and store it, as a whole or not at all.

        A task is told of the bytes stored.

        Raises:
            Unsupported: the executor of this node is off.
            NotFound: no such file, or the node may not read it.
            Conflict: the ledger has another thing of that name and version.
            LocalError: it would refuse the name, as `check_name`.
            WalletLocked: the name needs a signature.
            ModelRefused, NoCut: the model may not run, or has no such cut; its template fails.
            InputMismatch: files of templates of other names.
        """
        tools = self._tools
        if tools.pool is None:
            raise Unsupported(
                "this node runs no models, so it cannot prepare one",
                hint="set executor.enabled = true in config.toml and start again",
            )
        self._check_name(wanted)
        self._check_readers(wanted)
        for path in (wanted.path, wanted.tokenizer, *wanted.templates):
            if path is not None:
                _check_file(path)
        await check_templates(tools.pool, wanted.templates, now_ms=tools.driver.clock.wall_ms())
        # Only reads, so a stop of the node need not wait for it.
        raw_root = await trio.to_thread.run_sync(_root_of, wanted.path, abandon_on_cancel=True)
        async with self.staging.begin() as stage:
            prepared = await tools.pool.prepare(
                wanted.path,
                out_dir=stage.folder,
                stages=wanted.stages,
                tokenizer=wanted.tokenizer,
                sides=wanted.sides,
            )
            prepared = await trio.to_thread.run_sync(with_templates, prepared, wanted.templates)
            if task is not None:
                task.report(0, sum(file.size for file in prepared.files))
            files, key_ids = await self._store_files(wanted, prepared, stage, task)
            manifest = self._manifest(wanted, prepared, raw_root, files, key_ids)
            manifest = await self._signed(manifest, wanted, stage)
            # What was added here may be nowhere else yet: it is no cache entry that may go.
            for file in manifest.files:
                await stage.pin(decode_cid(file.root), ADDED, "operator")
            # Last: a model that is removed leaves what it shares to one that is named here.
            cid = await stage.save_manifest(manifest)
        return cid, manifest

    def _manifest(
        self,
        wanted: Wanted,
        prepared: Prepared,
        raw_root: Cid,
        files: tuple[ManifestFile, ...],
        key_ids: tuple[bytes, ...],
    ) -> ModelManifest:
        tokenizer = prepared.tokenizer
        return ModelManifest(
            version=3,
            name=wanted.name,
            semver=wanted.semver,
            kind=MODEL_KIND,
            profile=UNIXFS_V1_2025.name,
            files=files,
            shards=tuple(
                Shard(
                    stages=shard.stages,
                    index=shard.index,
                    file=prepared.file_index(shard.file),
                    golden=prepared.file_index(shard.golden),
                    inputs=shard.inputs,
                    outputs=shard.outputs,
                    weight_flops=shard.weight_flops,
                    weight_bytes=shard.weight_bytes,
                    weights=tuple(map(prepared.file_index, shard.weights)),
                )
                for shard in prepared.shards
            ),
            tokenizer=None if tokenizer is None else prepared.file_index(tokenizer),
            compute=Compute(
                runtime=prepared.runtime,
                options=prepared.options,
                raw_root=raw_root.raw,
                pinned_sha256=prepared.pinned_sha256,
            ),
            licence=wanted.licence,
            publisher=self._tools.wallet.address,
            parents=(),
            created_ms=self._tools.driver.clock.wall_ms(),
            sealing=key_ids,
            card=None,
            chain_id=self._tools.driver.ledger.genesis.chain_id,
            signature=None,
        )

    async def _signed(self, manifest: ModelManifest, wanted: Wanted, stage: Stage) -> ModelManifest:
        """Sign it, with its card; a locked wallet makes a draft, which has a CID and no name."""
        wallet = self._tools.wallet
        if wanted.card is not None:
            manifest = await self._with_card(manifest, wanted.card, stage)
        return manifest if wallet.is_locked else sign_manifest(manifest, wallet.signer)

    async def _store_files(
        self, wanted: Wanted, prepared: Prepared, stage: Stage, task: Task | None
    ) -> tuple[tuple[ManifestFile, ...], tuple[bytes, ...]]:
        """Store what was prepared, sealed if readers were named; files and the readers' key ids."""
        if not wanted.encrypt_to:
            return await self._take(prepared, stage, task), ()
        assert self._tools.seed is not None, "checked before the work"
        own = Ed25519Signer(self._tools.seed).public_key
        ring, key = make_ring([*wanted.encrypt_to, own])
        folder = prepared.out_dir
        files = []
        for file in prepared.files:
            sealed = folder / f"{file.path}.sealed"
            # Set aside until it is whole: then the store sets the same bytes aside.
            async with self._tools.store.budget.reserved(file.size):
                await trio.to_thread.run_sync(_seal, folder / file.path, sealed, file.sha256, key)
            added = await stage.add_file(sealed, move=True)
            files.append(ManifestFile(file.path, added.root.raw, added.size, added.sha256))
        (folder / RING_NAME).write_bytes(encode_ring(ring))
        added = await stage.add_file(folder / RING_NAME)
        files.append(ManifestFile(RING_NAME, added.root.raw, added.size, added.sha256))
        return tuple(files), ring.key_ids

    async def _take(
        self, prepared: Prepared, stage: Stage, task: Task | None
    ) -> tuple[ManifestFile, ...]:
        files, done = [], 0
        whole = sum(file.size for file in prepared.files)
        for file in prepared.files:
            told = None if task is None else task.counting(done, whole)
            added = await stage.add_file(prepared.out_dir / file.path, on_progress=told)
            if added.sha256 != file.sha256:
                raise _changed(file.path)
            files.append(ManifestFile(file.path, added.root.raw, added.size, added.sha256))
            done += file.size
        return tuple(files)

    async def _with_card(
        self, manifest: ModelManifest, text: CardText, stage: Stage
    ) -> ModelManifest:
        """Store the card, and name it in the manifest before that is signed."""
        card = sign_card(make_card(text, manifest), self._tools.wallet.signer)
        cid = card_cid(card)
        await stage.put_blocks((encode_card(card),), card_owner(manifest))
        return msgspec.structs.replace(manifest, card=cid.raw)

    def _check_readers(self, wanted: Wanted) -> None:
        if wanted.encrypt_to and self._tools.seed is None:
            raise Unsupported("this node has no key of its own to seal a model with")
        if wanted.encrypt_to:
            make_ring(wanted.encrypt_to)  # refuses what is no key

    def _check_name(self, wanted: Wanted) -> None:
        """Say before minutes of work what would be refused after them."""
        if wanted.card is not None:
            _ = self._tools.wallet.signer  # a card is signed
        if not wanted.register:
            return
        _ = self._tools.wallet.signer  # raises when it is locked
        view, us = self._tools.driver.ledger.view, self._tools.wallet.address
        check_name(view, wanted.name, wanted.semver, publisher=us)


def _check_file(path: Path) -> None:
    try:
        is_good = path.is_absolute() and path.is_file() and os.access(path, os.R_OK)
    except OSError:  # a folder on the way is closed to us
        is_good = False
    if not is_good:
        raise NotFound(
            f"{path} is no file on the node's machine that the node may read",
            hint="give an absolute path of a file that the node's user may read",
        )


def _seal(source: Path, target: Path, sha256: bytes, key: bytes) -> None:
    with source.open("rb") as file:
        if hashlib.file_digest(file, "sha256").digest() != sha256:
            raise _changed(source.name)
    seal_file(source, target, key)


def _changed(name: str) -> LocalError:
    return LocalError(f"{name} changed between the worker and the store")


def _root_of(path: Path) -> Cid:
    """CID of a file that is not kept; runs in a thread."""
    with refused(path), path.open("rb") as file:
        chunks = iter(functools.partial(file.read, LEAF_BYTES), b"")
        return import_chunks(chunks, profile=UNIXFS_V1_2025, keep=lambda *_: None).root
