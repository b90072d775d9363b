"""Clients of a network that fails: they write, read and note down what they were told.

Knows: JSON-RPC methods, keys of its accounts, how to go on after no answer. Must not know: which
faults there are. A client has one account and one write at a time; a write without an answer is
handed in again, the same bytes, wherever somebody answers, until a node says it is in a block.
"""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import trio

from prsm.node.rpc.client import RpcError
from prsm.node.rpc.errors import NodeUnreachable
from prsm.node.rpc.methods.chain import Supply
from prsm.node.rpc.methods.wallet import AccountParams, Balance, Nonce
from prsm.protocol.codec import Record
from prsm.protocol.genesis import Genesis
from prsm.protocol.ids import FTNS, address_text
from prsm.protocol.signing import sha256
from prsm.protocol.transactions.conditions import Branch, Claim, HashLock, Hold, hold_id
from prsm.protocol.transactions.envelope import transaction_id
from prsm.testnet.asking import Door
from prsm.testnet.courier import AGAIN_SECONDS, CALL_SECONDS, Courier
from prsm.testnet.histories.record import Count, History, Outcome, Read, Write
from prsm.testnet.orders import order, signer_of, transfer
from prsm.testnet.watch import Watch

WRITE_SHARE: Final = 0.35
READERS_EVERY: Final = 4  # each fourth client only reads, also while nothing can be written
READER_REST_SECONDS: Final = 0.03
RIVAL_SHARE: Final = 0.03  # of writes: another one of the same nonce, elsewhere
HOLD_SHARE: Final = 0.1
CLAIM_SHARE: Final = 0.1
COUNT_SHARE: Final = 0.01  # of reads: it makes the node add up all accounts
SMALL_MAX: Final = 1_000
HUGE: Final = 10**14  # more than anybody has: only the fee is paid
HOLDS_KNOWN_MAX: Final = 64


@dataclass(slots=True)
class Board:
    """What all clients of a run share."""

    genesis: Genesis
    doors: Sequence[Door]
    accounts: Sequence[bytes]
    wanted: int  # operations with an answer
    history: History = field(default_factory=History)
    answered: int = 0
    shown: int = 0  # highest height anybody was told of
    holds: list[tuple[bytes, bytes]] = field(default_factory=list)  # id, preimage
    is_closed: bool = False  # no new operations; what is open is brought to its end
    watches: list[Watch] = field(init=False)

    def __post_init__(self) -> None:
        self.watches = [Watch(door) for door in self.doors]

    def note(self, item: Write | Read | Count) -> None:
        """Count an answer."""
        item.completed_ns = time.monotonic_ns()
        item.outcome = Outcome.OK
        self.answered += 1
        self.shown = max(self.shown, item.height)


class Client:
    """One account's owner."""

    def __init__(self, board: Board, number: int, *, seed: int) -> None:
        self._board = board
        self._number = number
        self._dice = random.Random(f"{seed} client {number}")
        self._signer = signer_of(seed, number)
        self._address = bytes(self._signer.public_key)
        self._courier = Courier(board.watches, self._dice)
        self._is_reader = number % READERS_EVERY == READERS_EVERY - 1
        self._nonce = 0
        self._height = 0  # of its last acknowledged write

    async def run(self) -> None:
        """Work until the board is closed, and then until its last write is known."""
        try:
            while not self._board.is_closed:
                if self._is_reader:
                    await trio.sleep(READER_REST_SECONDS)
                elif self._dice.random() < WRITE_SHARE:
                    await self._write()
                    continue
                if self._dice.random() < COUNT_SHARE:
                    await self._count()
                else:
                    await self._read()
        finally:
            self._courier.close()

    # -- writes

    async def _write(self) -> None:
        writes = [self._sign(self._payload(), percent=100)]
        if self._dice.random() < RIVAL_SHARE:
            await self._courier.hand_in(self._courier.any_node(), writes[0].raw)
            writes.append(self._sign(self._payload(), percent=150))
        await self._follow(writes)

    def _payload(self) -> Record:
        draw = self._dice.random()
        board = self._board
        if draw < HOLD_SHARE:
            return self._hold()
        if draw < HOLD_SHARE + CLAIM_SHARE and board.holds:
            name, preimage = self._dice.choice(board.holds)
            return Claim(hold=name, branch=0, preimages=(preimage,), approvals=())
        amount = self._dice.randint(1, SMALL_MAX) if self._dice.random() < 0.95 else HUGE
        to = self._dice.choice(board.accounts)
        return transfer(to, amount)

    def _hold(self) -> Hold:
        board, preimage = self._board, self._dice.randbytes(16)
        made = Hold(
            salt=self._dice.randbytes(32),
            asset=FTNS,
            amount=self._dice.randint(1, SMALL_MAX),
            branches=(
                Branch(
                    to=self._dice.choice(board.accounts),
                    condition=HashLock(digest=sha256(preimage)),
                    vesting=None,
                ),
            ),
            fallback=None,
        )
        if len(board.holds) >= HOLDS_KNOWN_MAX:
            board.holds.pop(self._dice.randrange(HOLDS_KNOWN_MAX))
        board.holds.append((hold_id(board.genesis.chain_id, self._address, made), preimage))
        return made

    def _sign(self, payload: Record, *, percent: int) -> Write:
        raw = order(self._board.genesis, self._signer, payload, nonce=self._nonce, percent=percent)
        write = Write(self._number, transaction_id(raw), raw, time.monotonic_ns())
        self._board.history.writes.append(write)
        return write

    async def _follow(self, writes: Sequence[Write]) -> None:
        """Hand one nonce's transactions in until one of them is in a block; note which."""
        found = await self._courier.deliver([write.raw for write in writes])
        write = writes[found.which]
        write.node, write.height, write.index = found.node, found.height, found.index
        write.done = found.done
        self._board.note(write)
        self._nonce += 1
        self._height = write.height
        self._refuse([other for other in writes if other is not write])

    def _refuse(self, others: Sequence[Write]) -> None:
        for write in others:
            write.completed_ns = time.monotonic_ns()
            write.outcome = Outcome.REFUSED

    # -- reads

    async def _read(self) -> None:
        board = self._board
        draw = self._dice.random()
        account, asked = self._dice.choice(board.accounts), 0
        if draw < 0.4:  # what I wrote, at any node
            account, asked = self._address, self._height
        elif draw < 0.6:  # what anybody was told
            asked = board.shown
        node = self._courier.any_node()
        read = Read(self._number, node, account, asked, time.monotonic_ns())
        board.history.reads.append(read)
        params = AccountParams(address_text(account), min_height=asked)
        try:
            with trio.fail_after(CALL_SECONDS):
                if self._dice.random() < 0.2:
                    nonce = await self._courier.askers[node].call(
                        "account_getNonce", params, result=Nonce
                    )
                    read.nonce, read.height = nonce.nonce, nonce.height
                else:
                    found = await self._courier.askers[node].call(
                        "account_getBalance", params, result=Balance
                    )
                    read.nonce, read.height = found.nonce, found.height
                    read.balance = int(found.balance)
        except (RpcError, NodeUnreachable, trio.TooSlowError):
            await trio.sleep(AGAIN_SECONDS)
            return
        board.note(read)

    async def _count(self) -> None:
        node = self._courier.any_node()
        count = Count(self._number, node, time.monotonic_ns())
        self._board.history.counts.append(count)
        try:
            with trio.fail_after(CALL_SECONDS):
                found = await self._courier.askers[node].call("chain_getSupply", result=Supply)
        except (RpcError, NodeUnreachable, trio.TooSlowError):
            await trio.sleep(AGAIN_SECONDS)
            return
        count.height, count.minted = found.height, int(found.minted)
        count.accounts, count.locked = int(found.accounts), int(found.locked)
        count.bonded, count.burnt = int(found.bonded), int(found.burnt)
        self._board.note(count)
