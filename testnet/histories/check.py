"""Judges a history: is it one that a single ledger without faults could have answered?

Knows: the history, the blocks as every node exported them, the serial model. Must not know: how
the network was run. Pure; what it names is in `Fault`. A block fixes the order of writes, so no
search is needed: every rule below is one pass.

1. All nodes hold one chain, whose blocks are linked and certified for what they are.
2. The model can replay it, and money is conserved at every height.
3. An acknowledged write stands exactly once, where and with the effect that was said.
4. Nothing else stands in the chain but what clients sent; what can never be is not in it.
5. A write that was acknowledged before another was invoked stands before it.
6. A read equals the model's state at the height it names. That height is at least the one asked
   for, and at least every one its node had shown to anybody before; and no write below it was
   invoked after the read was answered.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from prsm.protocol import merkle
from prsm.protocol.codec import decode
from prsm.protocol.errors import WireError
from prsm.protocol.genesis import Genesis
from prsm.protocol.headers import Block, block_hash
from prsm.protocol.limits import BULK_FRAME_BYTES_MAX
from prsm.protocol.messages.sync import Certified
from prsm.protocol.transactions.envelope import transaction_id
from prsm.testnet.histories.model import Impossible, Model
from prsm.testnet.histories.record import Count, History, Outcome, Read, Write


class Fault(Enum):
    """What can be wrong with a history."""

    FORK = "fork"  # nodes hold different blocks
    BROKEN_CHAIN = "broken_chain"  # links, hashes or certificates contradict each other
    IMPOSSIBLE = "impossible"  # a block the serial model cannot replay
    SUPPLY = "supply"  # money appeared or vanished
    LOST_WRITE = "lost_write"  # acknowledged, and not in the chain
    MOVED_WRITE = "moved_write"  # it stands elsewhere than it was said
    DOUBLED_WRITE = "doubled_write"  # in the chain more than once
    WRONG_EFFECT = "wrong_effect"  # its effect is not the one that was said
    PHANTOM = "phantom"  # in the chain, and nobody sent it
    REFUSED_WRITE = "refused_write"  # in the chain, although another took its place
    ORDER = "order"  # before a write that was acknowledged when it was invoked
    STALE_READ = "stale_read"  # of a height before what it asked for or its node had shown
    FUTURE_READ = "future_read"  # of a height with a write nobody had made yet
    WRONG_READ = "wrong_read"  # another value than the model's at that height


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that cannot be."""

    fault: Fault
    what: str


@dataclass(slots=True)
class Verdict:
    """What was judged, and what is wrong with it."""

    height: int = 0
    operations: int = 0
    acknowledged: int = 0
    refused: int = 0
    unknown: int = 0
    unknown_in_chain: int = 0
    reads: int = 0
    supply_change: int = 0  # micro-FTNS, the largest difference anybody or the model saw
    violations: list[Violation] = field(default_factory=list)

    def add(self, fault: Fault, what: str) -> None:
        """Note a violation."""
        self.violations.append(Violation(fault, what))

    def weigh(self, found: int, minted: int, where: str) -> None:
        """Compare all money that was found with all money there is."""
        if found != minted:
            self.supply_change = max(self.supply_change, abs(found - minted))
            self.add(Fault.SUPPLY, f"{found} of {minted} micro-FTNS {where}")

    def count(self, *faults: Fault) -> int:
        """How many violations are of these faults."""
        return sum(violation.fault in faults for violation in self.violations)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a transaction stands, and what the model made of it."""

    height: int
    index: int
    done: bool | None  # None: behind a block the model could not replay


def check(history: History, chains: Mapping[str, Sequence[bytes]], genesis: Genesis) -> Verdict:
    """Judge a history.

    Args:
        history: of all clients.
        chains: of each node, by name: `Certified` bytes of all its blocks from height 1 on.
        genesis: of the network.
    """
    verdict = Verdict(operations=len(history))
    blocks = one_chain(chains, genesis, verdict)
    verdict.height = len(blocks)
    model = Model(genesis)
    places = _replay(blocks, model, verdict)
    check_writes(history.writes, places, verdict)
    _check_order(history.writes, places, verdict)
    newest = _newest_invocations(history.writes, places, len(blocks))
    _check_floors(history, verdict)
    for read in history.reads:
        if read.outcome is Outcome.OK:
            verdict.reads += 1
            _check_read(read, model, newest, verdict)
    for count in history.counts:
        if count.outcome is Outcome.OK:
            verdict.reads += 1
            _check_count(count, model, verdict)
    return verdict


def one_chain(
    chains: Mapping[str, Sequence[bytes]],
    genesis: Genesis,
    verdict: Verdict,
    *,
    is_honest: bool = True,
) -> list[Block]:
    """The blocks all nodes hold; of a fork, those of the first node that has all.

    Args:
        chains: as `check` takes them; empty bytes for a block that a node no longer has.
        genesis: of the network.
        verdict: gets what is wrong.
        is_honest: nobody double-voted, so evidence in a block is made up.
    """
    (first, chain), *others = sorted(chains.items(), key=lambda item: item[1].count(b""))
    for name, other in others:
        if len(other) != len(chain):
            verdict.add(Fault.FORK, f"{first} has {len(chain)} blocks, {name} {len(other)}")
        for place, (ours, theirs) in enumerate(zip(chain, other, strict=False)):
            # Certificates may differ: any quorum's signatures will do.
            if ours != theirs and theirs and _block(ours) != _block(theirs):
                verdict.add(Fault.FORK, f"{first} and {name} differ at height {place + 1}")
                break
    blocks = []
    last = genesis.digest
    for place, raw in enumerate(chain):
        try:
            item = decode(raw, Certified, size_max=BULK_FRAME_BYTES_MAX)
        except WireError as error:
            verdict.add(Fault.BROKEN_CHAIN, f"height {place + 1}: {error.what}")
            break
        header, body = item.block.header, item.block.body
        digest = block_hash(header)
        if (header.height, header.prev_hash) != (place + 1, last):
            verdict.add(Fault.BROKEN_CHAIN, f"height {place + 1} does not follow the one before")
            break
        if item.certificate.block_hash != digest or header.tx_root != merkle.root(
            body.transactions
        ):
            verdict.add(Fault.BROKEN_CHAIN, f"height {place + 1} is not what was certified")
        if body.evidence and is_honest:
            verdict.add(Fault.PHANTOM, f"evidence at height {place + 1}; nobody double-voted")
        last = digest
        blocks.append(item.block)
    return blocks


def _block(raw: bytes) -> Block | bytes:
    try:
        return decode(raw, Certified, size_max=BULK_FRAME_BYTES_MAX).block
    except WireError:
        return raw


def _replay(blocks: Iterable[Block], model: Model, verdict: Verdict) -> dict[bytes, list[Place]]:
    places: dict[bytes, list[Place]] = {}
    bonded = sum(validator.stake for validator in model.genesis.validators)
    is_broken = False
    for block in blocks:
        height, transactions = block.header.height, block.body.transactions
        done: list[bool] | None = None
        if not is_broken:
            try:
                done = model.apply(transactions)
            except Impossible as error:
                is_broken = True
                verdict.add(Fault.IMPOSSIBLE, f"height {height}: {error}")
        for index, raw in enumerate(transactions):
            place = Place(height, index, None if done is None else done[index])
            places.setdefault(transaction_id(raw), []).append(place)
        total = model.sums[-1].accounts + model.sums[-1].locked + bonded
        verdict.weigh(total, model.genesis.minted, f"in the model after height {height}")
    return places


def check_writes(
    writes: Sequence[Write], places: Mapping[bytes, Sequence[Place]], verdict: Verdict
) -> None:
    """Each write has the outcome its client was told, once; no other transaction is there."""
    outcomes = Counter(write.outcome for write in writes)
    verdict.acknowledged = outcomes[Outcome.OK]
    verdict.refused = outcomes[Outcome.REFUSED]
    verdict.unknown = outcomes[Outcome.UNKNOWN]
    for write in writes:
        found = places.get(write.tx_id, ())
        name = f"transaction {write.tx_id.hex()[:16]} of client {write.client}"
        if len(found) > 1:
            heights = ", ".join(str(place.height) for place in found)
            verdict.add(Fault.DOUBLED_WRITE, f"{name} stands at heights {heights}")
        match write.outcome:
            case Outcome.OK:
                _check_acknowledged(write, found, name, verdict)
            case Outcome.REFUSED if found:
                verdict.add(Fault.REFUSED_WRITE, f"{name} stands at height {found[0].height}")
            case Outcome.UNKNOWN if found:
                verdict.unknown_in_chain += 1
    for tx_id in places.keys() - {write.tx_id for write in writes}:
        verdict.add(Fault.PHANTOM, f"transaction {tx_id.hex()[:16]}: nobody sent it")


def _check_acknowledged(write: Write, found: Sequence[Place], name: str, verdict: Verdict) -> None:
    if not found:
        verdict.add(Fault.LOST_WRITE, f"{name}, at height {write.height} as node {write.node} said")
        return
    place = found[0]
    if (place.height, place.index) != (write.height, write.index):
        verdict.add(
            Fault.MOVED_WRITE,
            f"{name} stands at {place.height}/{place.index}, said {write.height}/{write.index}",
        )
    if place.done not in {None, write.done}:
        verdict.add(Fault.WRONG_EFFECT, f"{name}: done {write.done} was said, {place.done} is true")


def _check_order(
    writes: Sequence[Write], places: Mapping[bytes, Sequence[Place]], verdict: Verdict
) -> None:
    """An acknowledgement shows a committed block: what is invoked later comes into a later one."""
    done = sorted((w for w in writes if w.outcome is Outcome.OK), key=lambda w: w.completed_ns)
    seen, highest = 0, 0
    for write in sorted(writes, key=lambda w: w.invoked_ns):
        while seen < len(done) and done[seen].completed_ns < write.invoked_ns:
            highest = max(highest, done[seen].height)
            seen += 1
        for place in places.get(write.tx_id, ()):
            if place.height <= highest:
                verdict.add(
                    Fault.ORDER,
                    f"transaction {write.tx_id.hex()[:16]} stands at height {place.height}, "
                    f"invoked when height {highest} was acknowledged",
                )


def _newest_invocations(
    writes: Sequence[Write], places: Mapping[bytes, Sequence[Place]], height: int
) -> list[int]:
    """By height: when the last of all writes up to there was invoked."""
    newest = [0] * (height + 1)
    for write in writes:
        for place in places.get(write.tx_id, ()):
            newest[place.height] = max(newest[place.height], write.invoked_ns)
    for each in range(1, height + 1):
        newest[each] = max(newest[each], newest[each - 1])
    return newest


def _check_floors(history: History, verdict: Verdict) -> None:
    """A node never goes back behind a height it has shown, be it killed in between or not."""
    answered: list[Write | Read | Count] = [*history.writes, *history.reads, *history.counts]
    answered = [item for item in answered if item.outcome is Outcome.OK]
    shown: dict[int, int] = {}
    ended = sorted(answered, key=lambda item: item.completed_ns)
    seen = 0
    for item in sorted(answered, key=lambda item: item.invoked_ns):
        while seen < len(ended) and ended[seen].completed_ns < item.invoked_ns:
            past = ended[seen]
            shown[past.node] = max(shown.get(past.node, 0), past.height)
            seen += 1
        if isinstance(item, Write):
            continue  # its height is where it stands, not how far the node is
        floor = shown.get(item.node, 0)
        if isinstance(item, Read):
            floor = max(floor, item.asked_height)
        if item.height < floor:
            verdict.add(
                Fault.STALE_READ,
                f"client {item.client} read height {item.height} of node {item.node}, "
                f"at least {floor} was to be seen",
            )


def _check_read(read: Read, model: Model, newest: Sequence[int], verdict: Verdict) -> None:
    who = f"account {read.account.hex()[:8]} of node {read.node} at height {read.height}"
    if read.height >= len(model.sums):
        verdict.add(Fault.FUTURE_READ, f"{who}; the model ends at {model.height}")
        return
    if newest[read.height] > read.completed_ns:
        verdict.add(Fault.FUTURE_READ, f"{who}, before a write of that block was invoked")
    state = model.at(read.account, read.height)
    balance = state.balance if read.balance is None else read.balance
    if (balance, read.nonce) != (state.balance, state.nonce):
        verdict.add(Fault.WRONG_READ, f"{who}: {read.balance}, {read.nonce}; the model has {state}")


def _check_count(count: Count, model: Model, verdict: Verdict) -> None:
    parts = count.accounts + count.locked + count.bonded + count.burnt
    for found in (parts, count.minted):
        verdict.weigh(found, model.genesis.minted, f"as node {count.node} counted")
    if count.height >= len(model.sums):
        verdict.add(Fault.FUTURE_READ, f"supply at {count.height}, the model {model.height}")
        return
    sums = model.sums[count.height]
    if (count.accounts, count.locked) != (sums.accounts, sums.locked):
        verdict.add(
            Fault.WRONG_READ,
            f"node {count.node} counted {count.accounts} and {count.locked} at height "
            f"{count.height}; the model has {sums}",
        )
