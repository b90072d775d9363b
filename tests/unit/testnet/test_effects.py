"""Blocks of any network judged: each fault planted once."""

from collections.abc import Sequence

import msgspec

from prsm.protocol.codec import encode
from prsm.protocol.messages.sync import Certified
from prsm.protocol.signing import sha256
from prsm.protocol.transactions.envelope import transaction_id
from prsm.protocol.transactions.payloads import Transfer
from prsm.testnet.chain import Chain, Made, small_genesis
from prsm.testnet.effects import Effects, judge
from prsm.testnet.histories.check import Fault
from prsm.testnet.histories.record import Outcome, Write
from prsm.testnet.jobs import Work, lock_of, open_job, settle_by

ALICE = 64


def chain_of(*blocks: Sequence[bytes]) -> Chain:
    chain = Chain(small_genesis())
    for block in blocks:
        chain.add(*block)
    return chain


def raw_of(made: Made) -> bytes:
    return encode(Certified(made.block, made.certificate))


def pay(chain: Chain, nonce: int) -> bytes:
    payment = Transfer(asset=0, to=bytes(32), amount=1 + nonce, memo=b"")
    return chain.order(ALICE, payment, nonce=nonce)


def judged(chain: Chain, *writes: Write, others: Sequence[bytes] | None = None) -> Effects:
    blocks = [raw_of(made) for made in chain.made]
    chains = {"one": blocks, "two": blocks if others is None else others}
    return judge(chains, writes, chain.genesis)


def faults(effects: Effects) -> set[Fault]:
    return {violation.fault for violation in effects.verdict.violations}


def acknowledged(raw: bytes, *, height: int, index: int = 0) -> Write:
    return Write(0, transaction_id(raw), raw, 0, 1, Outcome.OK, 0, height, index, done=True)


def test_sound_chain_has_no_faults() -> None:
    """Two blocks, what was acknowledged is where it was said; an open transfer may be anywhere."""
    chain = Chain(small_genesis())
    first, second = pay(chain, 0), pay(chain, 1)
    chain.add(first, second)
    lost = Write(0, sha256(b"never came"), b"", 0)
    effects = judged(chain, acknowledged(first, height=1), acknowledged(second, height=1, index=1),
                     lost)  # fmt: skip
    assert effects.verdict.violations == []
    assert effects.transactions == 2
    assert effects.verdict.acknowledged == 2
    assert effects.verdict.unknown == 1


def test_acknowledged_transfer_that_is_nowhere_or_elsewhere() -> None:
    """Lost, and moved."""
    chain = Chain(small_genesis())
    raw = pay(chain, 0)
    assert faults(judged(chain, acknowledged(raw, height=1))) == {Fault.LOST_WRITE}
    chain.add(raw)
    assert faults(judged(chain, acknowledged(raw, height=2))) == {Fault.MOVED_WRITE}


def test_fork_and_short_chain_are_seen() -> None:
    """Another second block at one of two nodes; or none."""
    chain, other = Chain(small_genesis()), Chain(small_genesis())
    for each in (chain, other):
        each.add(pay(each, 0))
    chain.add(pay(chain, 1))
    other.add()
    blocks = [raw_of(made) for made in other.made]
    assert faults(judged(chain, others=blocks)) == {Fault.FORK}
    assert faults(judged(chain, others=blocks[:1])) == {Fault.FORK}


def test_node_that_took_a_snapshot_lacks_blocks_and_forks_no_chain() -> None:
    """What it has is compared, whichever of the two is named first; what all lack is a fault."""
    chain, other = Chain(small_genesis()), Chain(small_genesis())
    for each in (chain, other):
        each.add(pay(each, 0))
    chain.add(pay(chain, 1))
    other.add()
    blocks, fork = ([raw_of(made) for made in each.made] for each in (chain, other))
    sound = judge({"one": [b"", blocks[1]], "two": blocks}, [], chain.genesis)
    assert sound.verdict.violations == []
    forked = judge({"one": [b"", fork[1]], "two": blocks}, [], chain.genesis)
    assert faults(forked) == {Fault.FORK}
    lost = judge({"one": [b"", blocks[1]]}, [], chain.genesis)
    assert faults(lost) == {Fault.BROKEN_CHAIN}


def test_transaction_twice_and_nonces_that_do_not_follow() -> None:
    """The real ledger refuses such blocks, so they are put together by hand."""
    chain = Chain(small_genesis())
    raw = pay(chain, 0)
    chain.add(raw)
    made = chain.made[0]
    for wrong in ((raw, raw), (pay(chain, 1),)):
        body = msgspec.structs.replace(made.block.body, transactions=wrong)
        block = msgspec.structs.replace(made.block, body=body)
        blocks = [encode(Certified(block, made.certificate))]
        effects = judge({"one": blocks}, [], chain.genesis)
        expected = Fault.DOUBLED_WRITE if len(wrong) == 2 else Fault.IMPOSSIBLE
        assert expected in faults(effects)


def test_evidence_is_a_fault_only_where_everybody_is_honest() -> None:
    """A liar's double vote may stand in a block; nobody checks it twice."""
    chain = chain_of([])
    made = chain.made[0]
    body = msgspec.structs.replace(made.block.body, evidence=(b"x",))
    block = msgspec.structs.replace(made.block, body=body)
    blocks = {"one": [encode(Certified(block, made.certificate))]}
    assert Fault.PHANTOM in faults(judge(blocks, [], chain.genesis))
    effects = judge(blocks, [], chain.genesis, is_honest=False)
    assert effects.evidence == 1
    assert Fault.PHANTOM not in faults(effects)


def test_settlements_of_one_unit_are_found_together() -> None:
    """Anyone may send one; which of them paid is for a node to say."""
    chain, lock = Chain(small_genesis()), lock_of()
    open_job(chain, lock)
    for _ in range(2):
        settle_by(chain, lock, Work(65), Work(66))
    effects = judged(chain)
    assert effects.jobs == [lock.job]
    assert [len(found) for found in effects.endings.values()] == [2]
    assert list(effects.endings) == [(lock.job, 0)]
    assert effects.verdict.violations == []
