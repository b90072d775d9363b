"""A node's deals over a real ledger and a real store; wallet and outbox put orders into blocks."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import cast

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from prsm.consensus.ledger.custody_records import Deal, DealStatus
from prsm.node.chain.driver import Driver, Head
from prsm.node.chain.outbox import Outbox, Sent
from prsm.node.chain.wallet import Wallet
from prsm.node.replication.custody import HOLD, Custody, DealMismatch, Offer, UnknownDeal
from prsm.protocol.codec import Record
from prsm.protocol.errors import LocalError
from prsm.protocol.ids import TxId
from prsm.protocol.limits import LEAF_BYTES
from prsm.protocol.transactions.custody import Entrust, deal_id
from prsm.protocol.transactions.results import Code
from prsm.storage.cid import Cid
from prsm.storage.errors import Conflict, NotFound
from prsm.storage.store.model_store import ModelStore
from prsm.storage.store.pins import PinState
from prsm.testnet.chain import Chain, small_genesis
from tests.tools.keepers import CLIENT, HOLDER, key, turn

PRICE = 1_000


@dataclass
class FakeAccount:
    """Wallet and outbox in one: an order is in a block at once."""

    chain: Chain
    number: int
    codes: list[Code] = field(default_factory=list)

    @property
    def address(self) -> bytes:
        return key(self.number)

    async def submit(self, _kind: int, payload: Record) -> TxId:
        await trio.lowlevel.checkpoint()
        self.codes.append(self.chain.send(self.number, payload).code)
        return TxId(bytes(32))

    async def put(self, key: str, kind: int, payload: Record, *, subject: str) -> None:
        assert key.endswith(subject)
        await self.submit(kind, payload)

    async def place(self, key: str, kind: int, payload: Record, *, subject: str) -> Sent:
        await self.put(key, kind, payload, subject=subject)
        return Sent(TxId(bytes(32)), None, "")

    def check_now(self, what: str) -> None:
        assert what == "an offer"


class Party:
    """A node with a store and an account."""

    def __init__(self, chain: Chain, number: int, store: ModelStore, folder: Path) -> None:
        self.account, self.store = FakeAccount(chain, number), store
        self.heads: list[object] = []
        self.driver = SimpleNamespace(ledger=chain.ledger, on_head=self.heads)
        self.folder = folder / "custody"
        self.custody = self.make()

    def make(self) -> Custody:
        """The part as it is after a start."""
        return Custody(
            cast("Driver", self.driver),
            cast("Wallet", self.account),
            cast("Outbox", self.account),
            self.store,
            self.folder,
        )

    def hear(self, chain: Chain) -> None:
        made = chain.made[-1]
        head = SimpleNamespace(block=made.block, outcome=made.outcome)
        self.custody._hear_head(cast("Head", head))


@dataclass
class Scene:
    chain: Chain
    client: Party
    holder: Party
    root: Cid

    def deal(self, identity: bytes) -> Deal:
        found = self.chain.ledger.view.deal(identity)
        assert found is not None
        return found

    async def begin(self, rounds: int = 20) -> bytes:
        offer = Offer(self.root, key(HOLDER), PRICE, rounds)
        identity, _ = await self.client.custody.offer(offer)
        self.client.hear(self.chain)
        await self.holder.custody.accept(identity)
        self.holder.hear(self.chain)
        self.client.hear(self.chain)
        return identity


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    chain = Chain(small_genesis())
    (tmp_path / "file").write_bytes(Random(5).randbytes(LEAF_BYTES + 70_000))
    parties: list[Party] = []
    root: Cid | None = None
    for number in (CLIENT, HOLDER):
        folder = tmp_path / str(number)
        store = await ModelStore.open(folder / "blocks", quota=2**24)
        parties.append(Party(chain, number, store, folder))
        root = (await store.add_file(tmp_path / "file")).root
    assert root is not None
    yield Scene(chain, parties[0], parties[1], root)
    for party in parties:
        await party.store.close()


async def test_deal_is_offered_accepted_kept_and_answered_each_round(scene: Scene) -> None:
    identity = await scene.begin()
    deal = scene.deal(identity)
    assert (deal.status, deal.terms.collateral) == (DealStatus.ACTIVE, 10 * PRICE)
    [pin] = await scene.holder.store.pins()
    assert (pin.root, pin.name, pin.owner) == (scene.root, identity.hex(), HOLD)
    await scene.holder.custody.look()
    assert scene.deal(identity).judged == 0, "no round has begun"
    for proven in (1, 2, 3):
        turn(scene.chain)
        await scene.holder.custody.look()
        await scene.holder.custody.look()
        assert scene.deal(identity).proven == proven
    assert scene.holder.account.codes == [Code.DONE] * 4, "one answer a round"
    [kept] = scene.holder.custody.deals()
    assert (kept.is_holder, kept.is_client, kept.why) == (True, False, "")


async def test_restarted_holder_goes_on_from_the_ledger_and_its_folder(scene: Scene) -> None:
    identity = await scene.begin()
    scene.holder.custody = scene.holder.make()
    turn(scene.chain)
    async with trio.open_nursery() as nursery:
        await nursery.start(scene.holder.custody.run)
        with trio.fail_after(10):
            while not scene.deal(identity).proven:  # noqa: ASYNC110 - the ledger tells nobody
                await trio.sleep(0.001)
        turn(scene.chain)
        scene.holder.hear(scene.chain)
        with trio.fail_after(10):
            while scene.deal(identity).proven < 2:  # noqa: ASYNC110 - likewise
                await trio.sleep(0.001)
        nursery.cancel_scope.cancel()


async def test_damaged_file_gives_no_answer_and_the_client_reports_it(scene: Scene) -> None:
    identity = await scene.begin()
    path = await scene.holder.store.path(scene.root)
    raw = path.read_bytes()
    path.chmod(0o600)
    path.write_bytes(bytes(len(raw)))
    turn(scene.chain)
    await scene.holder.custody.look()
    [kept] = scene.holder.custody.deals()
    assert kept.why, "it says why"
    assert scene.deal(identity).judged == 0, "nothing wrong was sent"
    await scene.client.custody.look()
    assert scene.client.account.codes == [Code.DONE], "nothing has lapsed yet"
    for missed in range(1, 6):
        turn(scene.chain)
        await scene.client.custody.look()
        await scene.client.custody.look()
        assert scene.deal(identity).missed == missed
    assert scene.deal(identity).status is DealStatus.BROKEN
    assert scene.deal(identity).slashed == 5 * PRICE
    assert scene.deal(identity).paid == 0
    assert scene.client.account.codes == [Code.DONE] * 6, "one report a round"
    await scene.client.custody.look()


async def test_deal_with_a_false_commitment_is_not_accepted(scene: Scene) -> None:
    payload = Entrust(
        salt=bytes(32),
        root=scene.root.raw,
        size=LEAF_BYTES + 70_000,
        tree=bytes(32),
        holder=key(HOLDER),
        price=PRICE,
        rounds=1,
        collateral=10 * PRICE,
        grant=None,
    )
    scene.chain.send(CLIENT, payload)
    identity = deal_id(scene.chain.genesis.chain_id, key(CLIENT), payload)
    with pytest.raises(DealMismatch, match="the deal says"):
        await scene.holder.custody.accept(identity)
    assert scene.holder.account.codes == []


async def test_unknown_deals_and_files_that_are_not_here_are_refused(scene: Scene) -> None:
    with pytest.raises(UnknownDeal):
        await scene.holder.custody.accept(bytes(32))
    identity = await scene.begin(rounds=2)
    await scene.holder.custody.release(identity)
    assert scene.deal(identity).status is DealStatus.WITHDRAWN
    assert await scene.holder.store.pins() == []
    await scene.holder.store.remove(scene.root)
    offer = Offer(scene.root, key(HOLDER), PRICE, 3, collateral=50_000)
    second, _ = await scene.client.custody.offer(offer)
    assert scene.deal(second).terms.collateral == 50_000
    with pytest.raises(NotFound):
        await scene.holder.custody.accept(second)
    await scene.client.custody.release(second)
    assert scene.deal(second).status is DealStatus.WITHDRAWN
    await scene.holder.custody.look()
    assert len(scene.client.custody.deals(mine=False)) == 2


@pytest.mark.parametrize("is_down", [False, True], ids=["", "down"])
async def test_file_of_a_deal_that_is_over_is_kept_no_longer(scene: Scene, is_down: bool) -> None:
    """It ends while the holder runs, or is found to have ended by its next start."""
    first, second = await scene.begin(rounds=1), await scene.begin(rounds=2)
    turn(scene.chain)
    await scene.holder.custody.look()
    assert scene.deal(first).status is DealStatus.ENDED
    if is_down:
        scene.holder.custody = scene.holder.make()
    async with trio.open_nursery() as nursery:
        await nursery.start(scene.holder.custody.run)
        with trio.fail_after(10):
            while len(await scene.holder.store.pins()) > 1:  # noqa: ASYNC110 - nobody is told
                await trio.sleep(0.001)
        nursery.cancel_scope.cancel()
    [pin] = await scene.holder.store.pins()
    assert pin.name == second.hex()
    await scene.holder.store.pin(scene.root, "mine")
    turn(scene.chain)
    await scene.holder.custody.look()
    await scene.holder.custody.look()
    assert scene.deal(second).status is DealStatus.ENDED
    assert [pin.name for pin in await scene.holder.store.pins()] == ["mine"]


async def test_file_of_a_deal_the_ledger_has_not_come_to_stays(scene: Scene) -> None:
    """A node that lost its ledger fetches it anew: the deal will be in it."""
    identity = await scene.begin()
    scene.holder.driver.ledger = Chain(small_genesis()).ledger
    await scene.holder.custody.look()
    assert [pin.name for pin in await scene.holder.store.pins()] == [identity.hex()]
    scene.holder.driver.ledger = scene.chain.ledger
    turn(scene.chain)
    await scene.holder.custody.look()
    assert scene.deal(identity).proven == 1


async def test_file_stays_until_a_block_holds_its_release(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A release that waits may be taken back, and until then every round is answered."""
    identity = await scene.begin()

    async def wait(_self: FakeAccount, *_: object, **_words: object) -> Sent:
        await trio.lowlevel.checkpoint()
        return Sent(None, None, "no validator is linked")

    with monkeypatch.context() as patched:
        patched.setattr(FakeAccount, "place", wait)
        await scene.holder.custody.release(identity)
    assert [pin.name for pin in await scene.holder.store.pins()] == [identity.hex()]
    await scene.holder.custody.release(identity)
    assert not await scene.holder.store.pins()


async def test_deals_that_came_with_a_snapshot_are_answered(scene: Scene) -> None:
    """A node began without its ledger and took another's state: no block told of its deals."""
    identity = await scene.begin()
    turn(scene.chain)
    scene.holder.driver.ledger = Chain(small_genesis()).ledger
    scene.holder.custody = scene.holder.make()
    async with trio.open_nursery() as nursery:
        await nursery.start(scene.holder.custody.run)
        await wait_all_tasks_blocked()
        scene.holder.driver.ledger = scene.chain.ledger
        turn(scene.chain)
        scene.holder.hear(scene.chain)
        with trio.fail_after(10):
            while not scene.deal(identity).proven:  # noqa: ASYNC110 - the ledger tells nobody
                await trio.sleep(0.001)
        nursery.cancel_scope.cancel()


async def test_accepting_a_deal_of_another_holder_keeps_no_file(scene: Scene) -> None:
    """The ledger would refuse it, and after a restart nobody would know whose pin it was."""
    offer = Offer(scene.root, key(HOLDER), PRICE, 20)
    identity, _ = await scene.client.custody.offer(offer)
    with pytest.raises(LocalError, match="not_holder"):
        await scene.client.custody.accept(identity)
    assert not await scene.client.store.pins()
    await scene.holder.custody.accept(identity)
    scene.client.hear(scene.chain)
    assert [pin.name for pin in await scene.holder.store.pins()] == [identity.hex()]


async def test_accepted_file_is_not_given_up_before_it_is_pinned(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the hashing and the pin somebody needs room."""
    store, tried = scene.holder.store, trio.Event()
    pin = store.pin

    async def then_remove(root: Cid, name: str, owner: str = "") -> PinState:
        tried.set()
        with pytest.raises(Conflict, match="in use: custody, accept"):
            await store.remove(root)
        return await pin(root, name, owner)

    monkeypatch.setattr(store, "pin", then_remove)
    await scene.begin()
    assert tried.is_set()
    assert await store.has(scene.root)
