"""A node's bond follows its configuration: put up, topped up, taken back as far as it is free."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

import msgspec
import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock
from typing_extensions import override

from prsm.consensus.ledger.audit_records import (
    PLEDGERS_KEY,
    Pledged,
    Pledger,
    Pledgers,
    pledged_key,
)
from prsm.consensus.ledger.proposals import PARAMETERS_KEY
from prsm.consensus.ledger.view import View
from prsm.node.chain.wallet import WalletLocked
from prsm.node.work.court import ASKS_AGAIN_MS, Bonding
from prsm.protocol.codec import Record, encode
from prsm.protocol.ids import TxId
from prsm.protocol.limits import PLEDGERS_MAX
from prsm.protocol.transactions.payloads import PLEDGE, REDEEM
from tests.tools.work_chain import MemoryChain, World


class Account(MemoryChain):
    """A wallet that may be locked, and the kinds it sent."""

    is_locked = False

    @override
    async def submit(self, kind: int, payload: Record) -> TxId:
        if self.is_locked:
            raise WalletLocked("wallet default is locked")
        return await super().submit(kind, payload)


def pledge(world: World, account: MemoryChain, *, amount: int, held: int = 0) -> None:
    key = pledged_key(account.address)
    world.state[key] = encode(Pledged(amount=amount, held=held))


async def kept(nursery: trio.Nursery, world: World, account: Account, amount: int) -> Pledged:
    """What is pledged after a while under a bond of so much."""
    view = View(world.state)
    bonding = Bonding(account, lambda: view, amount)
    await nursery.start(bonding.run)
    await trio.sleep(30)
    return view.pledge(account.address)


@pytest.mark.parametrize(
    ("had", "held", "bond", "left"),
    [
        (0, 0, 500, 500),  # put up
        (200, 150, 500, 500),  # topped up, as after a loss
        (500, 500, 500, 500),
        (500, 100, 300, 300),  # what is above it comes back
        (500, 400, 0, 400),  # but not what work holds
        (0, 0, 0, 0),
    ],
)
async def test_the_pledge_follows_the_configuration(
    had: int, held: int, bond: int, left: int, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    world = World()
    account = Account(world, 1)
    pledge(world, account, amount=had, held=held)
    await nursery.start(world.run)
    found = await kept(nursery, world, account, bond)
    assert (found.amount, found.held) == (left, held)
    kinds = [kind for kind, _, _ in world.executed]
    assert kinds == [PLEDGE] * (left > had) + [REDEEM] * (left < had)


async def test_a_locked_wallet_pledges_once_it_is_open(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    world = World()
    account = Account(world, 1)
    account.is_locked = True
    pledge(world, account, amount=0)
    await nursery.start(world.run)
    assert (await kept(nursery, world, account, 500)).amount == 0
    account.is_locked = False
    await trio.sleep(30)
    assert View(world.state).pledge(account.address).amount == 500


async def test_a_pledge_that_found_the_list_full_says_so_and_asks_again_once_it_is_not(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """Once an hour at most: a place that is gone again would cost it two fees a block."""
    world = World()
    account = Account(world, 1)
    crowd = tuple(Pledger(number.to_bytes(32, "big"), 0) for number in range(PLEDGERS_MAX))
    world.state[PLEDGERS_KEY] = encode(Pledgers(crowd))
    pledge(world, account, amount=0)
    await nursery.start(world.run)
    view = View(world.state)
    least = view.parameters().pledge_min
    with capture_logs() as said:
        assert (await kept(nursery, world, account, least)).amount == least
        assert [kind for kind, _, _ in world.executed] == [PLEDGE]
        for hours, is_asked in ((0, True), (0, False), (1, True)):
            world.time_ms += hours * ASKS_AGAIN_MS
            world.state[PLEDGERS_KEY] = encode(Pledgers(crowd[:-1]))
            await trio.sleep(30)
            is_listed = account.address in {each.account for each in view.pledgers()}
            assert is_listed is is_asked
            assert view.pledge(account.address).amount == least
    assert [kind for kind, _, _ in world.executed] == [PLEDGE] + 2 * [PLEDGE, REDEEM]
    assert [line["log_level"] for line in said] == 2 * ["warning"], "out, in, out, in"


async def test_who_has_no_bond_asks_for_no_place(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """Where voters let any pledge be drawn, nothing pledged is none."""
    world = World()
    account = Account(world, 1)
    open_to_all = msgspec.structs.replace(View(world.state).parameters(), pledge_min=0)
    world.state[PARAMETERS_KEY] = encode(open_to_all)
    pledge(world, account, amount=0)
    await nursery.start(world.run)
    with capture_logs() as said:
        await kept(nursery, world, account, 0)
    assert (world.executed, said) == ([], [])
