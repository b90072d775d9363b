"""Whole nodes on a memory network, that work for each other and check each other.

Real ledger, agreement, store and driver (`labs`); the shards are those of `work`, which add.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import trio

from prsm.node.chain.chain import ChainParts
from prsm.node.inference.capacity import CapacityDesk
from prsm.node.inference.claims import Claims
from prsm.node.inference.desk import Desk
from prsm.node.inference.executor import Executor
from prsm.node.inference.interface import AllowAll, MemoryReceipts
from prsm.node.inference.links import Link, Links
from prsm.node.inference.shards import ShardCache
from prsm.node.inference.terms import Terms
from prsm.node.work.account import Account
from prsm.node.work.checking import Checking, Standing
from prsm.protocol.codec import Record
from prsm.protocol.messages.models import Shard
from prsm.protocol.receipts import WorkKind, WorkReceipt
from prsm.protocol.transactions.payloads import LOCK, Lock, Unit
from tests.tools.labs import MICRO, Cluster
from tests.tools.work import (
    MODEL,
    AdderRunner,
    Hook,
    MemoryModels,
    given_rows,
    honest,
    make_manifest,
)
from tests.tools.work_chain import VERIFIER

PRICE = 10_000
BOND = 20 * MICRO


@dataclass
class Shop:
    """One node and its rooms of work."""

    index: int
    cluster: Cluster
    hook: Hook = honest
    settle_after_ms: int = 0  # block time after which it settles itself
    rooms: list["Rooms"] = field(default_factory=list)

    def furnish(self, parts: ChainParts) -> None:
        """Join the rooms to a network that does not run yet."""
        self.rooms.append(Rooms.of(self, parts))

    @property
    def room(self) -> "Rooms":
        return self.rooms[0]

    @property
    def address(self) -> bytes:
        return self.room.account.address

    async def next_block(self) -> None:
        """Return once one more block is executed here."""
        await self.room.account.wait_height(self.room.account.height() + 1)


@dataclass
class Rooms:
    """What a daemon has, without a door."""

    parts: ChainParts
    account: Account
    shards: ShardCache
    checking: Checking
    claims: Claims
    executor: Executor
    links: Links

    @classmethod
    def of(cls, shop: Shop, parts: ChainParts) -> "Rooms":
        driver, network = parts.driver, parts.driver.network
        lab = shop.cluster.labs[shop.index]
        account = Account(driver, parts.wallet, chain_id=shop.cluster.genesis.chain_id)
        manifest = make_manifest()
        models = MemoryModels(manifest)
        shards = ShardCache(AdderRunner(manifest, hook=shop.hook, run_s=0), models)
        standing = Standing(network, driver, account, VERIFIER, (lab.consensus_seed,), BOND)
        checking = Checking(standing, lab.folder / "evidence")
        checking.work_with(models, shards)
        claims = Claims(network, account, MemoryReceipts(), VERIFIER)
        claims._settle_after_ms = shop.settle_after_ms
        policy, evidence = AllowAll(), checking.evidence
        given = (network, account, models, shards, claims, policy, VERIFIER, driver.clock)
        executor = Executor(Desk(*given, evidence), Terms(price_per_row=PRICE))
        CapacityDesk(network, account, models, standing=executor.standing)
        links = Links(network, account, VERIFIER, evidence=evidence)
        return cls(parts, account, shards, checking, claims, executor, links)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            for part in (self.shards, self.checking, self.claims, self.executor):
                await nursery.start(part.run)
            task_status.started()

    async def send(self, kind: int, payload: Record) -> str:
        """The word the ledger has for what became of a transaction."""
        return (await self.account.wait_committed(await self.account.submit(kind, payload))).code


@asynccontextmanager
async def open_shops(cluster: Cluster, hooks: Sequence[Hook]) -> AsyncIterator[list[Shop]]:
    """All labs of a cluster at work, each with its own way to answer."""
    shops = [Shop(index, cluster, hook) for index, hook in enumerate(hooks)]
    shops[1].settle_after_ms = 3_600_000  # its requester disputes before
    async with AsyncExitStack() as stack:
        for shop in shops:
            node = cluster.node(shop.index, votes=shop.index < 4, prepare=shop.furnish)
            await stack.enter_async_context(node)
        nursery = await stack.enter_async_context(trio.open_nursery())
        for shop in shops:
            await nursery.start(shop.room.run)
        yield shops
        nursery.cancel_scope.cancel()


@dataclass
class Alone:
    """A job of one unit that one worker does alone."""

    job: bytes
    requester: Shop
    worker: Shop
    rows: tuple[int, ...] = (4, 4, 2)

    def lock(self) -> Lock:
        unit = Unit(
            kind=WorkKind.INFER,
            model=MODEL,
            stages=2,
            stage=0,
            first=0,
            count=len(self.rows),
            needed=1,
            price_per_row=PRICE,
            rates=None,
            workers=(self.worker.room.account.address,),
        )
        return Lock(
            job=self.job,
            tenant=b"",
            asset=0,
            parent=None,
            batch_rows=self.rows,
            units=(unit,),
            budget=0,
            shares=(),
            deadline_ms=self.requester.room.account.block_time_ms() + 600_000,
            is_open_ended=False,
        )

    @property
    def price(self) -> int:
        return PRICE * sum(self.rows)

    async def run(self) -> WorkReceipt:
        """Lock, have all batches done, see the receipt."""
        room, lock = self.requester.room, self.lock()
        assert await room.send(LOCK, lock) == "done"
        link = Link(
            links=room.links,
            peer=self.worker.cluster.labs[self.worker.index].peer,
            job=self.job,
            unit=0,
            worker=self.worker.room.account.address,
            spec=lock.units[0],
            shard=_shard(),
        )
        await link.open()
        for batch, rows in enumerate(self.rows):
            await link.ask(batch, rows, given_rows(rows))
        return await link.finish()


def _shard() -> Shard:
    shards = make_manifest().shards
    return next(shard for shard in shards if (shard.stages, shard.index) == (2, 0))
