"""What is said of models between the rooms of this package and to its callers.

Knows: shapes. Must not know: how any of it comes to be.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from prsm.node.chain.driver import Driver
from prsm.node.chain.outbox import Outbox
from prsm.node.chain.wallet import Wallet
from prsm.node.inference.pool import Pool
from prsm.node.models.outside import Outside
from prsm.node.net.interface import Network
from prsm.protocol.errors import LocalError
from prsm.protocol.messages.models import ManifestFile, ModelManifest
from prsm.storage.cid import Cid
from prsm.storage.errors import Conflict
from prsm.storage.store.extra import ExtraStore
from prsm.storage.store.model_store import ModelStore

WorkerState = tuple[Literal["starting", "running"], int, str]


class UnknownModel(LocalError):
    """No model of that name, version or CID is known here."""

    reason = "model_not_found"


class Pinned(Conflict):
    """A model is kept under names, and not deleted.

    Attributes:
        pins: the names, as they are kept.
    """

    def __init__(self, called: str, pins: Sequence[str]) -> None:
        super().__init__(
            f"{called} is pinned as {', '.join(pins)[:200]}",
            hint=f"prsm model unpin {called} --name {pins[0]}",
        )
        self.pins = tuple(pins)


@dataclass(frozen=True, slots=True)
class CardText:
    """What a publisher says of a model in words; figures are whole millionths."""

    summary: str
    task: str
    text: str
    tags: tuple[str, ...]
    royalty_bps: int
    price_per_row: int  # micro-FTNS
    training: tuple[str, ...]
    metrics: tuple[tuple[str, int], ...]


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
    card: CardText | None = None
    encrypt_to: tuple[bytes, ...] = ()  # Ed25519 keys that may read it, beside this node's
    templates: tuple[Path, ...] = ()  # chat_template.jinja, tokenizer_config.json
    sides: tuple[str, ...] = ()  # patterns of other names beside it that its weights may lie in


@dataclass(frozen=True, slots=True)
class Known:
    """A model: its manifest, whether it is here whole, whether the ledger names it."""

    cid: Cid
    manifest: ModelManifest
    is_held: bool
    is_registered: bool


Standing = Literal["held", "shared", "partial", "absent", "offline"]


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A file of a model whose plain bytes lie here."""

    file: ManifestFile
    path: Path


@dataclass(frozen=True, slots=True)
class Checked:
    """What hashing a file said; `fault` is empty if every leaf was right."""

    file: ManifestFile
    fault: str


@dataclass(frozen=True, slots=True)
class Pushed:
    """What somebody was handed; `fault` is empty if it took everything."""

    name: str
    sent_bytes: int
    fault: str


@dataclass(frozen=True, slots=True)
class Gone:
    """What was removed; `shared` files belong to other models too, and stay."""

    files: int
    freed_bytes: int
    shared: int


@dataclass(frozen=True, slots=True)
class Tools:
    """What models work with."""

    store: ModelStore
    pool: Pool | None  # None: the executor is off, models can be kept but not prepared
    network: Network
    driver: Driver
    wallet: Wallet
    outbox: Outbox  # of that wallet
    scratch: Path
    outside: Outside | None = None  # sources beyond the network, and the health of all
    extra: Sequence[ExtraStore] = ()  # read-only, searched before the network
    seed: bytes | None = None  # of the node's key, which opens what was sealed for it
    offline: bool = False  # blocks are asked of nobody
    tasks: Path | None = None  # where tasks are noted for the next run of the node
