"""The checker of histories: silent on a true one, and each planted violation named."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import msgspec
import pytest

from prsm.protocol import merkle
from prsm.protocol.certificates import certificate_hash
from prsm.protocol.codec import encode
from prsm.protocol.headers import block_hash
from prsm.protocol.ids import FTNS
from prsm.protocol.messages.sync import Certified
from prsm.protocol.signing import sha256
from prsm.protocol.transactions.conditions import Branch, Claim, HashLock, Hold, hold_id
from prsm.protocol.transactions.envelope import transaction_id
from prsm.protocol.transactions.payloads import Refund, Transfer
from prsm.testnet.chain import Chain, Made, signer_of, small_genesis
from prsm.testnet.histories.check import Fault, Verdict, check
from prsm.testnet.histories.model import Impossible, Model
from prsm.testnet.histories.record import Count, History, Outcome, Read, Write

ALICE, BOB = 64, 65
SECOND = 10**9  # nanoseconds
SECRET = b"the preimage"


def account(number: int) -> bytes:
    return bytes(signer_of(number).public_key)


def payment(amount: int, *, to: int = BOB) -> Transfer:
    return Transfer(asset=FTNS, to=account(to), amount=amount, memo=b"")


@dataclass
class Story:
    """A chain and the history of those who made it, one block a second."""

    chain: Chain
    history: History

    def write(self, raw: bytes) -> Made:
        """One transaction in a block of its own, invoked half a second before it is known."""
        made = self.chain.add(raw)
        self.note(raw, made, 0)
        return made

    def note(self, raw: bytes, made: Made, index: int) -> None:
        height = made.block.header.height
        self.history.writes.append(
            Write(
                client=index,
                tx_id=transaction_id(raw),
                raw=raw,
                invoked_ns=height * SECOND - SECOND // 2,
                completed_ns=height * SECOND,
                outcome=Outcome.OK,
                node=0,
                height=height,
                index=index,
                done=made.receipts()[index].code == 0,
            )
        )

    def read(self, number: int, *, node: int = 0, asked: int = 0) -> Read:
        """What the head shows, answered now."""
        view, height = self.chain.ledger.view, self.chain.ledger.height
        read = Read(
            client=9,
            node=node,
            account=account(number),
            asked_height=asked,
            invoked_ns=height * SECOND + SECOND // 8,
            completed_ns=height * SECOND + SECOND // 4,
            outcome=Outcome.OK,
            height=height,
            balance=view.account(account(number)),
            nonce=view.nonce(account(number)),
        )
        self.history.reads.append(read)
        return read

    def count(self) -> None:
        view, height = self.chain.ledger.view, self.chain.ledger.height
        totals = view.supply()
        self.history.counts.append(
            Count(
                client=9,
                node=1,
                invoked_ns=height * SECOND + 1,
                completed_ns=height * SECOND + 2,
                outcome=Outcome.OK,
                height=height,
                minted=totals.minted,
                accounts=view.in_accounts(),
                locked=totals.locked,
                bonded=totals.bonded,
                burnt=totals.burnt,
            )
        )

    def blocks(self) -> list[bytes]:
        return [certified(made) for made in self.chain.made]

    def judge(self, **chains: Sequence[bytes]) -> Verdict:
        both = {"node1": self.blocks(), "node2": self.blocks(), **chains}
        return check(self.history, both, self.chain.genesis)


def certified(made: Made) -> bytes:
    return encode(Certified(block=made.block, certificate=made.certificate))


@pytest.fixture
def story() -> Story:
    """Payments, one of them without the money for it, a hold and its claim; reads in between."""
    told = Story(Chain(small_genesis()), History())
    chain = told.chain
    told.read(ALICE)
    told.write(chain.order(ALICE, payment(1_000)))
    told.read(BOB, node=1)
    told.write(chain.order(BOB, payment(10**15, to=ALICE)))
    told.read(BOB, node=1, asked=2)
    condition = HashLock(digest=sha256(SECRET))
    hold = Hold(
        salt=bytes(32),
        asset=FTNS,
        amount=5_000,
        branches=(Branch(to=account(BOB), condition=condition, vesting=None),),
        fallback=None,
    )
    told.write(chain.order(ALICE, hold))
    told.count()
    name = hold_id(chain.genesis.chain_id, account(ALICE), hold)
    for preimage in (b"a wrong one", SECRET, SECRET):
        claim = Claim(hold=name, branch=0, preimages=(preimage,), approvals=())
        told.write(chain.order(BOB, claim))
    told.read(BOB)
    told.count()
    return told


def faults(verdict: Verdict) -> set[Fault]:
    return {violation.fault for violation in verdict.violations}


def test_true_history_has_no_violation(story: Story) -> None:
    """The model comes to the ledger's own outcomes, refusals included."""
    verdict = story.judge()
    assert verdict.violations == []
    assert [write.done for write in story.history.writes] == [True, False, True, False, True, False]
    assert (verdict.height, verdict.operations, verdict.acknowledged) == (6, 12, 6)
    assert verdict.reads == 6


def test_unknown_write_may_stand_or_not(story: Story) -> None:
    """Nobody promised anything about it."""
    story.history.writes[0] = replace(story.history.writes[0], outcome=Outcome.UNKNOWN)
    lost = story.chain.order(ALICE, payment(1))
    story.history.writes.append(Write(1, transaction_id(lost), lost, 0))
    verdict = story.judge()
    assert verdict.violations == []
    assert (verdict.unknown, verdict.unknown_in_chain) == (2, 1)


def lose_a_write(story: Story) -> None:
    raw = story.chain.order(ALICE, payment(7))
    write = story.history.writes[-1]
    story.history.writes.append(replace(write, raw=raw, tx_id=transaction_id(raw)))


def move_a_write(story: Story) -> None:
    story.history.writes[2].height -= 1


def tell_a_wrong_effect(story: Story) -> None:
    story.history.writes[1].done = True


def send_a_phantom(story: Story) -> None:
    del story.history.writes[3]


def let_a_refused_one_in(story: Story) -> None:
    story.history.writes[0].outcome = Outcome.REFUSED


def swap_two_writes(story: Story) -> None:
    """The second was acknowledged, its client says, before the first was invoked."""
    first, second = story.history.writes[:2]
    first.invoked_ns, first.completed_ns = 3 * SECOND, 4 * SECOND
    second.invoked_ns, second.completed_ns = 1 * SECOND, 2 * SECOND
    story.history.reads.clear()


def read_before_what_was_asked(story: Story) -> None:
    story.history.reads[2].asked_height = 3


def read_before_what_the_node_had_shown(story: Story) -> None:
    """The same node answered of height 1 before; killed since, it is back at height 0."""
    model = Model(story.chain.genesis)
    old = story.read(ALICE, node=1)
    before = model.at(account(ALICE), 0)
    old.height, old.balance, old.nonce = 0, before.balance, before.nonce


def read_another_balance(story: Story) -> None:
    balance = story.history.reads[1].balance
    assert balance is not None
    story.history.reads[1].balance = balance - 1_000


def read_another_nonce(story: Story) -> None:
    story.history.reads[-1].nonce += 1


def read_what_is_not_invoked_yet(story: Story) -> None:
    read = story.history.reads[1]
    read.invoked_ns, read.completed_ns = 1, 2


def read_beyond_the_end(story: Story) -> None:
    story.history.reads[-1].height = 99


def count_a_coin_too_many(story: Story) -> None:
    story.history.counts[0].accounts += 1


def count_another_lock(story: Story) -> None:
    """The sum is right, the parts are not those of that height."""
    story.history.counts[0].locked += 1
    story.history.counts[0].accounts -= 1


def count_beyond_the_end(story: Story) -> None:
    story.history.counts[1].height = 99


@pytest.mark.parametrize(
    ("plant", "fault"),
    [
        (lose_a_write, Fault.LOST_WRITE),
        (move_a_write, Fault.MOVED_WRITE),
        (tell_a_wrong_effect, Fault.WRONG_EFFECT),
        (send_a_phantom, Fault.PHANTOM),
        (let_a_refused_one_in, Fault.REFUSED_WRITE),
        (swap_two_writes, Fault.ORDER),
        (read_before_what_was_asked, Fault.STALE_READ),
        (read_before_what_the_node_had_shown, Fault.STALE_READ),
        (read_another_balance, Fault.WRONG_READ),
        (read_another_nonce, Fault.WRONG_READ),
        (read_what_is_not_invoked_yet, Fault.FUTURE_READ),
        (read_beyond_the_end, Fault.FUTURE_READ),
        (count_a_coin_too_many, Fault.SUPPLY),
        (count_another_lock, Fault.WRONG_READ),
        (count_beyond_the_end, Fault.FUTURE_READ),
    ],
)
def test_planted_violation_is_named(
    story: Story, plant: Callable[[Story], None], fault: Fault
) -> None:
    """One wrong thing in an otherwise true history: that fault, and no other of its kind."""
    plant(story)
    found = story.judge().violations
    assert fault in {violation.fault for violation in found}
    assert all(violation.what for violation in found)


def forged(story: Story, place: int, *transactions: bytes) -> list[bytes]:
    """The chain with other transactions in one block, certified again as honest nodes never do."""
    blocks, last = [], story.chain.genesis.digest
    parent = None
    for each, made in enumerate(story.chain.made):
        body = made.block.body
        if each == place:
            body = msgspec.structs.replace(body, transactions=transactions)
        header = msgspec.structs.replace(
            made.block.header,
            prev_hash=last,
            prev_cert_hash=certificate_hash(parent),
            tx_root=merkle.root(body.transactions),
        )
        last, parent = block_hash(header), story.chain.certify(header)
        block = msgspec.structs.replace(made.block, header=header, body=body)
        blocks.append(encode(Certified(block=block, certificate=parent)))
    return blocks


def test_doubled_transfer_is_named(story: Story) -> None:
    """The same bytes in two blocks, or twice in one: both doubled and not to be replayed."""
    first = story.chain.made[0].block.body.transactions
    for blocks in (forged(story, 1, *first), forged(story, 0, *first, *first)):
        found = faults(story.judge(node1=blocks, node2=blocks))
        assert {Fault.DOUBLED_WRITE, Fault.IMPOSSIBLE} <= found


def test_fee_nobody_has_is_impossible(story: Story) -> None:
    """The same blocks on a genesis that gave less: the model does not make money."""
    model = Model(small_genesis(balances={ALICE: 1}))
    with pytest.raises(Impossible, match="a fee of"):
        model.apply(story.chain.made[0].block.body.transactions)


def test_forks_and_missing_blocks_are_named(story: Story) -> None:
    """Another block at a height, and a node that is shorter at the end."""
    other = forged(story, 3)
    assert faults(story.judge(node2=other)) == {Fault.FORK}
    assert faults(story.judge(node2=story.blocks()[:-1])) == {Fault.FORK}


def test_other_signatures_of_a_quorum_are_no_fork(story: Story) -> None:
    """Nodes keep the certificate they saw first."""
    made = story.chain.made[2]
    fewer = story.chain.certify(made.block.header, signers=[0, 1, 3])
    blocks = story.blocks()
    blocks[2] = encode(Certified(block=made.block, certificate=fewer))
    assert story.judge(node2=blocks).violations == []


def test_chain_that_contradicts_itself_is_named(story: Story) -> None:
    """A block out of place, a certificate of another block, bytes that are no block."""
    blocks = story.blocks()
    swapped = [*blocks[:2], blocks[3], blocks[2], *blocks[4:]]
    assert Fault.BROKEN_CHAIN in faults(story.judge(node1=swapped, node2=swapped))
    wrong = Certified(story.chain.made[1].block, story.chain.made[2].certificate)
    mixed = [blocks[0], encode(wrong), *blocks[2:]]
    assert Fault.BROKEN_CHAIN in faults(story.judge(node1=mixed, node2=mixed))
    cut = [blocks[0], blocks[1][:-1], *blocks[2:]]
    assert Fault.BROKEN_CHAIN in faults(story.judge(node1=cut, node2=cut))


def test_evidence_against_honest_nodes_is_named(story: Story) -> None:
    """Crashes, pauses and wrong clocks never make a double vote."""
    body = msgspec.structs.replace(story.chain.made[-1].block.body, evidence=(b"\x90",))
    block = msgspec.structs.replace(story.chain.made[-1].block, body=body)
    certificate = story.chain.made[-1].certificate
    blocks = [*story.blocks()[:-1], encode(Certified(block=block, certificate=certificate))]
    assert Fault.PHANTOM in faults(story.judge(node1=blocks, node2=blocks))


def test_kinds_no_client_sends_are_named(story: Story) -> None:
    """The model does not guess."""
    story.write(story.chain.order(ALICE, Refund(job=bytes(32))))
    assert Fault.IMPOSSIBLE in faults(story.judge())
