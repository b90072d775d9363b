"""Other forms of a model: smaller weights, inputs for an adapter, and adapted models.

Knows: files on this machine, the pool, the store. Must not know: what is in a graph or an adapter;
both are read in sealed children alone. An adapted model is a manifest of its own: files and shards
of the base, one file more, the base as parent; so a job names weights and adapter by one CID.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import msgspec
import trio

from prsm.node.chain.outbox import Sent
from prsm.node.inference import compression
from prsm.node.inference.compression import FILE, Wish
from prsm.node.inference.pool import Pool
from prsm.node.models.naming import check_name, register_model
from prsm.node.models.records import Known, OpenFile, Tools
from prsm.protocol.errors import Unsupported
from prsm.protocol.messages.forms import Compressed, MadeAdaptable, Samples
from prsm.protocol.messages.models import ADAPTER_PATH, ManifestFile, ModelManifest
from prsm.protocol.messages.pipe import InputMismatch
from prsm.protocol.slices import MAGIC
from prsm.storage.cid import decode_cid
from prsm.storage.errors import Conflict, NotFound
from prsm.storage.manifest import sign_manifest
from prsm.storage.store.pins import ADDED
from prsm.storage.store.staging import Staging
from prsm.storage.wholefile import new_file, refused

_THEIRS: Final = 0o666  # of a file for its caller, less what this process masks


@dataclass(frozen=True, slots=True)
class WantedAdapted:
    """A model to adapt: the adapter's file, and what the two are to be called together."""

    adapter: Path
    name: str
    semver: str
    licence: str
    register: bool


class Forms:
    """Makes other forms of models."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._staging = Staging(tools.store, tools.scratch)

    async def compress(self, wish: Wish, *, out: Path | None) -> Compressed:
        """Make a model's weights smaller, and measure what that costs.

        Args:
            wish: files of this machine; the kind of the samples is looked up here.
            out: where the smaller file goes, or None.

        Raises:
            Unsupported: the executor of this node is off.
            NotFound: a file that is not there, or that the node may not read.
            Conflict: `out` exists.
            Full, StoreUnavailable: the disk refused it; nothing is left there.
            ModelRefused, InputMismatch: as `compression.compress`.
        """
        for path in (wish.source, wish.tokenizer, wish.samples):
            if path is not None:
                _check_file(path)
        wish = replace(wish, kind=await trio.to_thread.run_sync(_kind_of, wish.samples))
        _check_out(out)
        with self._scratch() as folder:
            done = await compression.compress(
                self._pool(), wish, folder=folder, is_wanted=out is not None
            )
            if out is not None:
                await trio.to_thread.run_sync(_hand_over, folder / FILE, out)
        return done

    async def make_adaptable(self, source: Path, out: Path) -> MadeAdaptable:
        """Write a model's graph with inputs for an adapter.

        Raises:
            Unsupported, NotFound, Conflict, Full, StoreUnavailable: as `compress`.
            ModelRefused: it has no product an adapter stands beside.
        """
        _check_file(source)
        _check_out(out)
        with self._scratch() as folder:
            done = await compression.make_adaptable(self._pool(), source, folder=folder)
            await trio.to_thread.run_sync(_hand_over, folder / FILE, out)
        return done

    async def adapt(
        self, base: Known, files: tuple[OpenFile, ...], wanted: WantedAdapted
    ) -> tuple[Known, Sent | None, int]:
        """Store an adapted model, after a sealed child has run it once, and name it.

        It is stored as a whole or not at all.

        Args:
            base: a model with inputs for an adapter, whose files are here.
            files: where they lie.
            wanted: the adapter, and the name.

        Returns:
            The model, what became of its name, and how many products the adapter changes.

        Raises:
            Unsupported: the executor is off, or the base is sealed or adapted already.
            NotFound: no such file.
            Conflict: the ledger has another thing of that name and version.
            LocalError: it would refuse the name, as `check_name`.
            InputMismatch: no adapter, or one of another model.
            WalletLocked: the name needs a signature.
            TransactionFailed: as `name_on_ledger`.
        """
        _check_file(wanted.adapter)
        self._check_base(base.manifest, wanted)
        sites = await self._try_out(base.manifest, files, wanted.adapter)
        wallet = self._tools.wallet
        async with self._staging.begin() as stage:
            added = await stage.add_file(wanted.adapter)
            file = ManifestFile(ADAPTER_PATH, added.root.raw, added.size, added.sha256)
            manifest = self._manifest(base, file, wanted)
            if not wallet.is_locked:
                manifest = sign_manifest(manifest, wallet.signer)
            for one in manifest.files:
                await stage.pin(decode_cid(one.root), ADDED, "operator")
            cid = await stage.save_manifest(manifest)
        outbox = self._tools.outbox
        sent = await register_model(outbox, cid, manifest) if wanted.register else None
        is_registered = sent is not None and sent.result is not None
        return Known(cid, manifest, is_held=True, is_registered=is_registered), sent, sites

    async def _try_out(
        self, manifest: ModelManifest, files: tuple[OpenFile, ...], adapter: Path
    ) -> int:
        """Load the whole graph, give it the adapter, run its golden rows; the products changed."""
        whole = next((shard for shard in manifest.shards if shard.stages == 1), None)
        if whole is None:
            raise Unsupported(f"{manifest.name}@{manifest.semver} has no whole graph to adapt")
        paths = {one.file.path: one.path for one in files}
        graph, golden = (paths[manifest.files[i].path] for i in (whole.file, whole.golden))
        weights = [paths[manifest.files[i].path] for i in whole.weights]
        async with self._pool().open(graph, golden=golden, weights=weights) as session:
            sites = await session.adapt(adapter)
        if not sites:
            raise InputMismatch(
                f"no product of {manifest.name}@{manifest.semver} takes this adapter",
                hint="make its graph adaptable first: prsm model lora",
            )
        return sites

    def _manifest(self, base: Known, file: ManifestFile, wanted: WantedAdapted) -> ModelManifest:
        return msgspec.structs.replace(
            base.manifest,
            name=wanted.name,
            semver=wanted.semver,
            files=(*base.manifest.files, file),
            licence=wanted.licence,
            publisher=self._tools.wallet.address,
            parents=(base.cid.raw,),
            created_ms=self._tools.driver.clock.wall_ms(),
            card=None,
            chain_id=self._tools.driver.ledger.genesis.chain_id,
            signature=None,
        )

    def _check_base(self, manifest: ModelManifest, wanted: WantedAdapted) -> None:
        called = f"{manifest.name}@{manifest.semver}"
        if manifest.adapter is not None:
            raise Unsupported(f"{called} is an adapted model already", hint="adapt its parent")
        if manifest.sealing:
            raise Unsupported(
                f"{called} is sealed; an adapter beside it would be readable by all",
                hint="adapt it before it is sealed",
            )
        if not wanted.register:
            return
        _ = self._tools.wallet.signer  # raises when it is locked
        view, us = self._tools.driver.ledger.view, self._tools.wallet.address
        check_name(view, wanted.name, wanted.semver, publisher=us)

    def _pool(self) -> Pool:
        if self._tools.pool is None:
            raise Unsupported(
                "this node runs no models, so it cannot change one",
                hint="set executor.enabled = true in config.toml and start again",
            )
        return self._tools.pool

    @contextmanager
    def _scratch(self) -> Iterator[Path]:
        with TemporaryDirectory(dir=self._tools.scratch) as folder:
            yield Path(folder)


_READ_HINT: Final = "give an absolute path of a file that the node's user may read"


def _check_file(path: Path) -> None:
    try:
        is_good = path.is_absolute() and path.is_file() and os.access(path, os.R_OK)
    except OSError:  # a folder on the way is closed to us
        is_good = False
    if not is_good:
        what = f"{path} is no file on the node's machine that the node may read"
        raise NotFound(what, hint=_READ_HINT)


def _check_out(out: Path | None) -> None:
    if out is None:
        return
    with refused(out):  # a folder on the way is closed to us, or the name is too long
        is_good = out.is_absolute() and out.parent.is_dir()
        is_there = out.exists() or out.is_symlink()
    if not is_good:
        raise NotFound(f"{out.parent} is no folder on the node's machine")
    if is_there:
        raise Conflict(f"{out} exists", hint="choose another name, or remove the file")


def _hand_over(source: Path, out: Path) -> None:
    """Copy to a place that may be on another disk, whole or not at all; never over a file."""
    with new_file(out, mode=_THEIRS) as written, source.open("rb") as read:
        shutil.copyfileobj(read, written)


def _kind_of(samples: Path | None) -> Samples:
    if samples is None:
        return Samples.MADE_UP
    with samples.open("rb") as file:
        return Samples.SLICES if file.read(len(MAGIC)) == MAGIC else Samples.TEXTS
