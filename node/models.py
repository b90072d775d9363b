"""The models of this node: prepared, stored, named on the ledger, fetched from peers.

Knows: which room does which step of it. Must not know: bytes of a model (the worker's) or of a
block (the store's).
"""

import functools
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Literal

import trio

from prsm.node import logs
from prsm.node.clock import Clock
from prsm.node.driver import Driver
from prsm.node.inference.interface import TransactionFailed
from prsm.node.inference.pool import Pool
from prsm.node.inference.prepared import Prepared
from prsm.node.net.blocks import BlockServer, PeerSource
from prsm.node.net.interface import Network
from prsm.node.wallet import TxResult, Wallet
from prsm.protocol.errors import LocalError, PrsmError, RemoteError, Unsupported
from prsm.protocol.ids import PeerId, TxId
from prsm.protocol.limits import LEAF_BYTES
from prsm.protocol.messages.models import Compute, ManifestFile, ModelManifest, Shard
from prsm.protocol.transactions.payloads import REGISTER_MODEL, RegisterModel
from prsm.protocol.transactions.results import Code
from prsm.storage.cid import Cid, decode_cid, parse_cid
from prsm.storage.errors import Conflict, NotFound
from prsm.storage.exchange import Exchange
from prsm.storage.interfaces import Source
from prsm.storage.manifest import decode_manifest, sign_manifest
from prsm.storage.model_store import ModelStore
from prsm.storage.unixfs import UNIXFS_V1_2025, import_chunks

log = logs.get("models")

KIND: Final = "onnx"
COMMIT_SECONDS: Final = 60.0
WorkerState = tuple[Literal["starting", "running"], int, str]


class UnknownModel(LocalError):
    """No model of that name, version or CID is known here."""

    reason = "model_not_found"


class NotCommitted(LocalError):
    """The chain did not take a transaction in time; it may still."""

    reason = "not_committed"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A model to add: a file on the node's disk, and what it is to be called."""

    path: Path
    name: str
    semver: str
    stages: tuple[int, ...]
    tokenizer: Path | None
    licence: str
    register: bool


@dataclass(frozen=True, slots=True)
class Known:
    """A model: its manifest, whether it is here whole, whether the ledger names it."""

    cid: Cid
    manifest: ModelManifest
    is_held: bool
    is_registered: bool


@dataclass(frozen=True, slots=True)
class Stats:
    """What the store holds, and whom it can ask."""

    files: int
    used_bytes: int
    quota_bytes: int
    models: int
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Tools:
    """What models work with."""

    store: ModelStore
    pool: Pool | None  # None: the executor is off, models can be kept but not prepared
    network: Network
    driver: Driver
    wallet: Wallet
    scratch: Path
    quota_bytes: int
    external: Sequence[Source] = ()  # IPFS daemons of the configuration


class Models:
    """Adds, fetches and finds models; serves their blocks to peers."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._held: dict[Cid, ModelManifest] = {}
        self._exchange = Exchange(tools.store, on_fault=self._blame)
        self.server = BlockServer(tools.network, tools.store)
        # Peers that announced a manifest; they are asked first (node/beacons).
        self.holders: Callable[[bytes], Collection[PeerId]] = lambda _cid: ()

    async def load(self) -> None:
        """Find what the store holds; before anything else is asked."""
        for cid, manifest in await self._tools.store.models():
            if await self._tools.store.has_model(manifest):
                self._held[cid] = manifest

    def held(self) -> tuple[bytes, ...]:
        """CIDs of the manifests whose files are all here, ascending."""
        return tuple(sorted(cid.raw for cid in self._held))

    async def manifest(self, cid: bytes) -> ModelManifest:
        """The manifest of a CID, asked of peers when it is not here.

        Raises:
            NotFound, SourceFailed: nobody here or among the peers has it.
        """
        parsed = decode_cid(cid)
        try:
            return await self._tools.store.load_manifest(parsed)
        except NotFound:
            raw = await self._exchange.fetch_block(parsed.digest, self._sources(cid))
            manifest = decode_manifest(raw)
            await self._tools.store.save_manifest(manifest)
            return manifest

    async def file(self, cid: bytes, index: int) -> Path:
        """Local path of a file of a model, fetched and verified when it is not here.

        Raises:
            NotFound, SourceFailed, Full: it is not to be had.
        """
        manifest = await self.manifest(cid)
        file = manifest.files[index]
        root = decode_cid(file.root)
        if not await self._tools.store.has(root):
            await self._exchange.fetch(root, file.size, self._sources(cid))
        return await self._tools.store.path(root)

    async def add(self, wanted: Wanted) -> tuple[Known, TxId | None]:
        """Prepare a model in a sandbox, store it, and name it on the ledger.

        Raises:
            Unsupported: the executor of this node is off.
            NotFound: no such file, or the node may not read it.
            Conflict: the ledger has another model of that name and version.
            WalletLocked: the name needs a signature.
            ModelRefused, NoCut: the model may not run, or has no such cut.
            LocalError: the ledger or the wallet refuses the name; nothing is registered.
        """
        tools = self._tools
        if tools.pool is None:
            raise Unsupported(
                "this node runs no models, so it cannot prepare one",
                hint="set executor.enabled = true in config.toml and start again",
            )
        self._check_name(wanted)
        for path in (wanted.path, wanted.tokenizer):
            if path is not None:
                _check_file(path)
        # Only reads, so a stop of the node need not wait for it.
        raw_root = await trio.to_thread.run_sync(_root_of, wanted.path, abandon_on_cancel=True)
        with self._scratch() as folder:
            prepared = await tools.pool.prepare(
                wanted.path, out_dir=folder, stages=wanted.stages, tokenizer=wanted.tokenizer
            )
            manifest = await self._store(wanted, prepared, raw_root)
        cid = await tools.store.save_manifest(manifest)
        self._held[cid] = manifest
        tx_id = await self._register(cid, manifest) if wanted.register else None
        return Known(cid, manifest, is_held=True, is_registered=tx_id is not None), tx_id

    async def pull(self, ref: str) -> Known:
        """Bring a model here from peers, every block verified.

        Raises:
            UnknownModel: the ledger does not know the name.
            NotFound, SourceFailed, Full: it is not to be had.
        """
        cid = self.resolve(ref)
        manifest = await self._exchange.fetch_model(cid, self._sources(cid.raw))
        self._held[cid] = manifest
        return Known(cid, manifest, is_held=True, is_registered=self._is_registered(cid))

    def resolve(self, ref: str) -> Cid:
        """The manifest of `name@version`, of a name (its newest version), or of a CID.

        Raises:
            UnknownModel: neither the ledger nor this node knows it.
            BadCid: text that looks like a CID and is none.
        """
        name, _, semver = ref.partition("@")
        named = [m for m in self._tools.driver.ledger.view.models() if m.name == name]
        named.sort(key=lambda model: _version(model.semver))
        if semver:
            named = [model for model in named if model.semver == semver]
        if named:
            return decode_cid(named[-1].manifest)
        local = [c for c, m in self._held.items() if ref in {m.name, f"{m.name}@{m.semver}"}]
        if local:
            return local[-1]
        if not semver and ref.startswith(("baf", "Qm")) and len(ref) > 45:
            return parse_cid(ref)
        raise UnknownModel(
            f"no model is called {ref!r}", hint="see: prsm model ls, or add one: prsm model add"
        )

    async def known(self) -> list[Known]:
        """Models held here or named on the ledger; unread manifests of others are left out."""
        registered = {decode_cid(m.manifest) for m in self._tools.driver.ledger.view.models()}
        stored = dict(await self._tools.store.models())
        return [
            Known(cid, manifest, is_held=cid in self._held, is_registered=cid in registered)
            for cid, manifest in stored.items()
        ]

    async def find(self, ref: str) -> Known:
        """One model by reference; its manifest is asked of peers when it is not here.

        Raises:
            UnknownModel, NotFound, SourceFailed: it is not known, or not to be had.
        """
        cid = self.resolve(ref)
        manifest = await self.manifest(cid.raw)
        return Known(
            cid, manifest, is_held=cid in self._held, is_registered=self._is_registered(cid)
        )

    def worker_state(self) -> WorkerState:
        """State of the program that runs models, for status."""
        pool = self._tools.pool
        if pool is None:
            return "running", 0, "off by configuration"
        return ("running" if pool.runtime else "starting"), 0, ",".join(pool.layers)

    async def stats(self) -> Stats:
        """What the store holds."""
        files, peers = await self._tools.store.list(), self._tools.network.peers()
        return Stats(
            files=len(files),
            used_bytes=await self._tools.store.used_bytes(),
            quota_bytes=self._tools.quota_bytes,
            models=len(self._held),
            sources=tuple(peer.peer for peer in peers),
        )

    async def held_bytes(self, manifest: ModelManifest) -> int:
        """Bytes of a model's files that are here, whole."""
        sizes = [
            file.size
            for file in manifest.files
            if await self._tools.store.has(decode_cid(file.root))
        ]
        return sum(sizes)

    async def _store(self, wanted: Wanted, prepared: Prepared, raw_root: Cid) -> ModelManifest:
        files = []
        for file in prepared.files:
            added = await self._tools.store.add_file(prepared.out_dir / file.path)
            if added.sha256 != file.sha256:
                raise LocalError(f"{file.path} changed between the worker and the store")
            files.append(ManifestFile(file.path, added.root.raw, added.size, added.sha256))
        tokenizer = prepared.tokenizer
        manifest = ModelManifest(
            version=2,
            name=wanted.name,
            semver=wanted.semver,
            kind=KIND,
            profile=UNIXFS_V1_2025.name,
            files=tuple(files),
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
            created_ms=self._clock.wall_ms(),
            sealing=(),
            card=None,
            chain_id=self._tools.driver.ledger.genesis.chain_id,
            signature=None,
        )
        # A locked wallet makes a draft: it has a CID and no name.
        wallet = self._tools.wallet
        return manifest if wallet.is_locked else sign_manifest(manifest, wallet.signer)

    def _check_name(self, wanted: Wanted) -> None:
        """Say before minutes of work what would be refused after them."""
        if not wanted.register:
            return
        _ = self._tools.wallet.signer  # raises when it is locked
        if self._tools.driver.ledger.view.model(wanted.name, wanted.semver) is not None:
            raise Conflict(
                f"{wanted.name}@{wanted.semver} is on the ledger already",
                hint="choose another name, or another version with --semver",
            )

    async def _register(self, cid: Cid, manifest: ModelManifest) -> TxId:
        wallet = self._tools.wallet
        tx_id = await wallet.submit(
            REGISTER_MODEL,
            RegisterModel(
                manifest=cid.raw,
                name=manifest.name,
                semver=manifest.semver,
                pinned_sha256=manifest.compute.pinned_sha256,
                total_bytes=manifest.total_bytes,
                parents=manifest.parents,
            ),
        )
        result: TxResult | None = None
        with trio.move_on_after(COMMIT_SECONDS):
            result = await wallet.wait_committed(tx_id)
        if result is None:
            raise NotCommitted(
                f"{manifest.name}@{manifest.semver} is in no block after {COMMIT_SECONDS:.0f} s; "
                f"the model is stored as {cid}",
                hint="see: prsm chain status",
            )
        if result.receipt.code is not Code.DONE:
            code = result.receipt.code.name.lower()
            raise TransactionFailed(
                f"the ledger refused {manifest.name}@{manifest.semver}: {code}",
                hint="choose another name or version",
            )
        return tx_id

    @property
    def _clock(self) -> Clock:
        return self._tools.driver.clock

    def _is_registered(self, cid: Cid) -> bool:
        return self._tools.driver.ledger.view.model_by_cid(cid.raw) is not None

    def _sources(self, cid: bytes) -> Sequence[Source]:
        """Peers that announced it, other peers, the IPFS daemons of the configuration."""
        network, holders = self._tools.network, self.holders(cid)
        live = sorted(network.peers(), key=lambda info: info.peer not in holders)
        return [*(PeerSource(network, info.peer) for info in live), *self._tools.external]

    def _blame(self, name: str, error: PrsmError) -> None:
        if isinstance(error, RemoteError):
            self._tools.network.penalise(PeerId(name), error)
        log.warning("source dropped", source=name, why=error.what)

    @contextmanager
    def _scratch(self) -> Iterator[Path]:
        with TemporaryDirectory(dir=self._tools.scratch) as folder:
            yield Path(folder)


def _version(semver: str) -> tuple[int, ...]:
    return tuple(int(part) for part in semver.partition("-")[0].split(".") if part.isdecimal())


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


def _root_of(path: Path) -> Cid:
    """CID of a file that is not kept; runs in a thread."""
    with path.open("rb") as file:
        chunks = iter(functools.partial(file.read, LEAF_BYTES), b"")
        return import_chunks(chunks, profile=UNIXFS_V1_2025, keep=lambda *_: None).root
