"""Nodes of one genesis on a memory network: real ledger, log, store and driver, no daemon."""

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio

from prsm.node.chain.chain import ChainConfig, ChainParts, open_chain
from prsm.node.chain.snapshots.keeper import SnapshotRules
from prsm.node.clock import TrioClock
from prsm.node.net.handshake import ChainIdentity
from prsm.node.net.memory import MemoryHub
from prsm.node.net.network import PeerNetwork
from prsm.protocol.codec import Record, encode
from prsm.protocol.ed25519 import Ed25519Signer
from prsm.protocol.errors import PrsmError
from prsm.protocol.genesis import GENESIS_VERSION, Allocation, Genesis, Parameters
from prsm.protocol.identity import peer_id_of
from prsm.protocol.ids import Bytes32, PeerId
from prsm.protocol.transactions.envelope import Transaction, sign_transaction
from prsm.protocol.transactions.payloads import TRANSFER, Transfer
from prsm.protocol.validators import Validator
from prsm.storage.disk import Disk
from prsm.storage.keystore import Cost, KeyFile, save_key

PASSWORD = "correct horse"
MICRO = 1_000_000
STAKE = 1000 * MICRO
BALANCE = 100 * MICRO
FEE = 50_000


@dataclass
class Lab:
    """Keys and folders of one node."""

    index: int
    folder: Path

    @property
    def node(self) -> Ed25519Signer:
        return Ed25519Signer(bytes([self.index, 1] * 16))

    @property
    def peer(self) -> PeerId:
        return peer_id_of(self.node.public_key)

    @property
    def consensus_seed(self) -> bytes:
        return bytes([self.index, 2] * 16)

    @property
    def wallet(self) -> Ed25519Signer:
        return Ed25519Signer(bytes([self.index, 3] * 16))

    def write_keys(self) -> None:
        self.folder.mkdir(mode=0o700)
        save_key(
            self.folder / "wallet.key",
            bytes([self.index, 3] * 16),
            password=PASSWORD,
            key_file=KeyFile("wallet", self.wallet.public_key, Cost.DEVELOPMENT),
        )


@dataclass
class Cluster:
    """Labs of one genesis on one hub."""

    genesis: Genesis
    labs: list[Lab]
    hub: MemoryHub
    snapshots: SnapshotRules = field(default_factory=SnapshotRules)

    @property
    def identity(self) -> ChainIdentity:
        return ChainIdentity(self.genesis.chain_id, self.genesis.digest)

    def config(self, index: int, *, votes: bool = True) -> ChainConfig:
        """Folder and keys of a lab."""
        lab = self.labs[index]
        seeds = (lab.consensus_seed,) if votes else ()
        return ChainConfig(
            self.genesis, lab.folder, lab.folder / "wallet.key", seeds, self.snapshots
        )

    def network(self, index: int) -> PeerNetwork:
        """The network of a lab, not running: for nodes that say what a test wants."""
        return self.hub.network(self.labs[index].node.public_key, self.identity)

    @asynccontextmanager
    async def node(
        self,
        index: int,
        *,
        votes: bool = True,
        unlocked: bool = True,
        disk: Disk | None = None,
        prepare: Callable[[ChainParts], None] = lambda _parts: None,
    ) -> AsyncIterator[ChainParts]:
        """Run one node and connect it to the others that were ever made.

        `prepare` joins more rooms to it while its network does not run yet.
        """
        network = self.network(index)
        async with (
            open_chain(self.config(index, votes=votes), network, TrioClock(), disk=disk) as parts,
            trio.open_nursery() as nursery,
        ):
            prepare(parts)
            await nursery.start(network.run)
            await nursery.start(parts.run)
            if unlocked:
                await parts.wallet.unlock(PASSWORD)
            nursery.start_soon(self.connect, network, index)
            yield parts
            nursery.cancel_scope.cancel()

    async def connect(self, network: PeerNetwork, index: int) -> None:
        """Dial every other lab that is there."""
        for other in self.labs:
            if other.index != index:
                try:
                    await network.connect(self.hub.address(other.peer))
                except (KeyError, PrsmError):
                    continue

    def signed(
        self,
        lab: Lab,
        payload: Record,
        *,
        nonce: int,
        kind: int = TRANSFER,
        chain_id: bytes | None = None,
        valid_until_ms: int | None = None,
        fee: int = FEE,
    ) -> bytes:
        """Canonical bytes of a transaction by a lab's wallet key, signed by hand."""
        valid = TrioClock().wall_ms() + 60_000 if valid_until_ms is None else valid_until_ms
        unsigned = Transaction(
            version=1,
            chain_id=chain_id or self.genesis.chain_id,
            kind=kind,
            sender=lab.wallet.public_key,
            nonce=nonce,
            fee=fee,
            payload=encode(payload),
            valid_until_ms=valid,
            signature=bytes(64),
        )
        return encode(sign_transaction(unsigned, lab.wallet))


def make_cluster(
    folder: Path,
    *,
    validators: int = 4,
    others: int = 0,
    parameters: Parameters | None = None,
    balance: int = BALANCE,
    strangers: Iterable[bytes] = (),
) -> Cluster:
    """Labs of one genesis, the first of them validators of equal stake; strangers own a crumb."""
    labs = [Lab(i, folder / f"lab{i}") for i in range(validators + others)]
    for lab in labs:
        lab.write_keys()
    genesis = Genesis(
        version=GENESIS_VERSION,
        name="test",
        development=True,
        time_ms=1_700_000_000_000,
        validators=tuple(
            Validator(
                operator=lab.wallet.public_key,
                consensus=Ed25519Signer(lab.consensus_seed).public_key,
                peer_id=lab.peer,
                stake=STAKE,
            )
            for lab in labs[:validators]
        ),
        allocations=(
            *(Allocation(lab.wallet.public_key, balance) for lab in labs),
            *(Allocation(Bytes32(account), 1) for account in strangers),
        ),
        parameters=parameters or Parameters(tree_bits=6),
    )
    return Cluster(genesis, labs, MemoryHub())


def transfer(to: Lab, amount: int) -> Transfer:
    return Transfer(asset=0, to=to.wallet.public_key, amount=amount, memo=b"")
