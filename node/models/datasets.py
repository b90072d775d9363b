"""Adding a dataset: a file of slices, checked, stored, and named on the ledger.

Knows: the steps and their order, the form of the file. Must not know: what its rows mean, who
evaluates models on it.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import msgspec
import trio

from prsm.node.chain.outbox import Sent
from prsm.node.models.cardtext import card_owner, make_card
from prsm.node.models.naming import check_name, name_on_ledger
from prsm.node.models.records import CardText, Known, Tools
from prsm.node.models.tasks import Task
from prsm.protocol.messages.models import ManifestFile, ModelManifest
from prsm.protocol.slices import PREFIX_BYTES, BadSlices, Layout, check_dataset, head_bytes
from prsm.protocol.slices import read_layout as parse_layout
from prsm.protocol.transactions.payloads import REGISTER_DATASET
from prsm.protocol.transactions.registry import RegisterDataset
from prsm.storage.card import card_cid, encode_card, sign_card
from prsm.storage.cid import Cid
from prsm.storage.dag.unixfs import UNIXFS_V1_2025
from prsm.storage.errors import NotFound
from prsm.storage.manifest import DATASET_KIND, dataset_identity, sign_manifest
from prsm.storage.store.pins import ADDED
from prsm.storage.store.staging import Stage, Staging

FILE_NAME = "data.slices"  # the one file of a dataset that can be evaluated


@dataclass(frozen=True, slots=True)
class WantedDataset:
    """A dataset to add: a file of slices on the node's disk, and what it is to be called."""

    path: Path
    name: str
    semver: str
    licence: str
    register: bool
    price: int = 0  # micro-FTNS asked for a copy
    card: CardText | None = None


class Datasets:
    """Makes datasets of files."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._staging = Staging(tools.store, tools.scratch)

    async def add(
        self, wanted: WantedDataset, *, task: Task | None = None
    ) -> tuple[Known, Sent | None]:
        """Check, store and name a dataset; it is stored as a whole or not at all.

        Raises:
            NotFound: no such file, or the node may not read it.
            BadSlices, WireError: it is no file of slices, or has no labels.
            Conflict: the ledger has another thing of that name and version.
            LocalError: it would refuse the name, as `check_name`.
            WalletLocked: the name, or the card, needs a signature.
            Full: no room.
            TransactionFailed: as `name_on_ledger`.
        """
        wallet = self._tools.wallet
        if wanted.register or wanted.card is not None:
            _ = wallet.signer  # raises when it is locked
        if wanted.register:
            view = self._tools.driver.ledger.view
            check_name(view, wanted.name, wanted.semver, publisher=wallet.address)
        layout = await trio.to_thread.run_sync(read_layout, wanted.path)
        check_dataset(layout.head)
        async with self._staging.begin() as stage:
            told = None if task is None else task.counting(0, layout.size)
            added = await stage.add_file(wanted.path, on_progress=told)
            if added.size != layout.size:
                what = f"{wanted.path} has {added.size} bytes, its head says {layout.size}"
                raise BadSlices(what)
            file = ManifestFile(FILE_NAME, added.root.raw, added.size, added.sha256)
            manifest = self._manifest(wanted, file)
            if wanted.card is not None:
                manifest = await self._with_card(manifest, wanted.card, stage)
            if not wallet.is_locked:
                manifest = sign_manifest(manifest, wallet.signer)
            await stage.pin(added.root, ADDED, "operator")
            cid = await stage.save_manifest(manifest)
        sent = await self._register(wanted, cid, manifest, layout) if wanted.register else None
        is_registered = sent is not None and sent.result is not None
        return Known(cid, manifest, is_held=True, is_registered=is_registered), sent

    def _manifest(self, wanted: WantedDataset, file: ManifestFile) -> ModelManifest:
        driver = self._tools.driver
        return ModelManifest(
            version=3,
            name=wanted.name,
            semver=wanted.semver,
            kind=DATASET_KIND,
            profile=UNIXFS_V1_2025.name,
            files=(file,),
            shards=(),
            tokenizer=None,
            compute=dataset_identity((file,)),
            licence=wanted.licence,
            publisher=self._tools.wallet.address,
            parents=(),
            created_ms=driver.clock.wall_ms(),
            sealing=(),
            card=None,
            chain_id=driver.ledger.genesis.chain_id,
            signature=None,
        )

    async def _register(
        self, wanted: WantedDataset, cid: Cid, manifest: ModelManifest, layout: Layout
    ) -> Sent:
        payload = RegisterDataset(
            manifest=cid.raw,
            name=manifest.name,
            semver=manifest.semver,
            sha256=manifest.compute.pinned_sha256,
            total_bytes=manifest.total_bytes,
            rows=layout.head.rows,
            price=wanted.price,
            parents=manifest.parents,
        )
        return await name_on_ledger(
            self._tools.outbox, REGISTER_DATASET, payload, manifest=manifest
        )

    async def _with_card(
        self, manifest: ModelManifest, text: CardText, stage: Stage
    ) -> ModelManifest:
        card = sign_card(make_card(text, manifest), self._tools.wallet.signer)
        await stage.put_blocks((encode_card(card),), card_owner(manifest))
        return msgspec.structs.replace(manifest, card=card_cid(card).raw)


def read_layout(path: Path) -> Layout:
    """What a file of slices on this disk holds; runs in a thread.

    Raises:
        NotFound: no such file, or the node may not read it.
        BadSlices, WireError: another kind of file.
    """
    try:
        is_good = path.is_absolute() and path.is_file() and os.access(path, os.R_OK)
    except OSError:  # a folder on the way is closed to us
        is_good = False
    if not is_good:
        raise NotFound(
            f"{path} is no file on the node's machine that the node may read",
            hint="give an absolute path of a file that the node's user may read",
        )
    with path.open("rb") as file:
        prefix = file.read(PREFIX_BYTES)
        return parse_layout(prefix + file.read(head_bytes(prefix)))
