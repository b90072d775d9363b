"""A snapshot takes the ledger's place under a replica: where it goes on, what it never signs."""

from prsm.consensus.pbft import replica, statuses
from prsm.consensus.pbft.config import Config
from prsm.consensus.pbft.effects import Fetch, Observe, Persist
from prsm.consensus.pbft.events import Distrusted, Installed, Tick, Waiting
from prsm.consensus.pbft.probation import Probation
from prsm.consensus.pbft.records import LowMark, Voted, pack, unpack
from prsm.consensus.pbft.state import State, may_sign
from prsm.consensus.pbft.tip import Tip
from prsm.protocol.ed25519 import Ed25519Verifier
from prsm.protocol.messages.consensus import Status
from prsm.protocol.signing import Kind
from prsm.testnet.chain import Chain, signer_of, small_genesis
from tests.tools.members import roll, short_chain


def tip_of(chain: Chain) -> Tip:
    made = chain.made[-1]
    return Tip(
        height=chain.ledger.height,
        block_hash=chain.ledger.tip.block_hash,
        block=made.block,
        certificate=made.certificate,
        state_root=chain.ledger.state_root,
        receipts_root=chain.ledger.receipts_root,
        epoch=chain.ledger.epoch,
        certifiers=chain.ledger.validators(chain.ledger.height),
    )


def fresh(chain: Chain, *records: bytes) -> State:
    ledger = Chain(chain.genesis).ledger
    tip = Tip.genesis(
        chain.genesis, state_root=ledger.state_root, receipts_root=ledger.receipts_root
    )
    config = Config.of(chain.genesis, signers=[signer_of(0)], verifier=Ed25519Verifier())
    state = replica.start(config, tip, records, None)
    state.is_ready = True
    replica.step(state, Waiting(transactions=True), 0)
    return state


def installed(chain: Chain, observer: str | None) -> Installed:
    """The state of the present height, and the certificate of the next block."""
    tip = tip_of(chain)
    chain.add()
    return Installed(tip, chain.made[-1].certificate, observer)


def test_replica_goes_on_above_the_snapshot_and_above_its_certified_header() -> None:
    """Tip H, low mark H + 1, durable with its proof; the block H + 1 is fetched, never voted on."""
    chain = Chain(small_genesis())
    for _ in range(5):
        chain.add()
    state, event = fresh(chain), installed(chain, None)
    effects = replica.step(state, event, 1_000)
    assert (state.tip, state.instance.height, state.low) == (event.tip, 6, 6)
    records = [unpack(effect.record) for effect in effects if isinstance(effect, Persist)]
    assert records == [LowMark(6, event.certificate)]
    fetches = [effect for effect in effects if isinstance(effect, Fetch)]
    assert [(f.first, f.last, f.block_hash) for f in fetches] == [
        (6, 6, event.certificate.block_hash)
    ]
    assert not may_sign(state)
    replica.step(state, Tick(), 60_000)
    assert state.instance.view == 0
    assert not state.instance.voted
    assert state.observer is None
    assert state.is_ready, "of the same epoch: the same peers were heard"


def test_votes_of_the_log_above_the_snapshot_stay_and_those_below_go() -> None:
    chain = Chain(small_genesis())
    for _ in range(5):
        chain.add()
    hashes = {height: bytes([height]) * 32 for height in (4, 5, 6, 7)}
    log = (pack(Voted(Kind.PREPARE, 0, h, 2, digest)) for h, digest in hashes.items())
    state = fresh(chain, *log)
    replica.step(state, installed(chain, None), 1_000)
    assert state.instance.height == 6
    assert state.instance.voted == {(Kind.PREPARE, 2): hashes[6]}
    assert list(state.memories) == [7]


def test_snapshot_of_a_later_epoch_waits_for_peers_of_its_set() -> None:
    chain = short_chain()
    roll(chain)
    state, event = fresh(chain), installed(chain, None)
    assert event.tip.epoch.number > state.tip.epoch.number
    replica.step(state, event, 1_000)
    assert not state.is_ready


def test_status_says_where_its_snapshot_and_its_blocks_begin() -> None:
    state = fresh(Chain(small_genesis()))
    state.instance.view, state.low = 2, 1
    said = statuses.status_for(state, "peer1", (40, 7))
    assert said == Status(0, 2, state.tip.block_hash, 1, 40, 7, None)
    said = statuses.status_for(state, "peer1")
    assert (said.snapshot_height, said.first_height) == (0, 1), "none, and all"


def test_replica_with_a_blank_log_becomes_an_observer() -> None:
    """Whoever cannot say what was signed before signs nothing, and says why."""
    chain = Chain(small_genesis())
    chain.add()
    state = fresh(chain)
    event = installed(chain, "no votes known")
    effects = replica.step(state, event, 5)
    assert [e.reason for e in effects if isinstance(e, Observe)] == ["no votes known"]
    assert state.observer == "no votes known"
    # Not for good: the certified height is the highest its key may have voted at.
    assert state.probation == Probation(event.certificate.height)


def test_replica_that_gave_its_log_up_for_nothing_is_an_observer_where_it_stands() -> None:
    """The state found no room: tip and log stay, nothing is signed; a higher shown vote counts."""
    chain = Chain(small_genesis())
    chain.add()
    state = fresh(chain)
    effects = replica.step(state, Distrusted("the guard is gone", 7), 5)
    assert [e.reason for e in effects if isinstance(e, Observe)] == ["the guard is gone"]
    assert (state.tip.height, state.probation) == (0, Probation(7))
    assert not may_sign(state)
    assert state.probation is not None
    state.probation.voted = 9  # a peer showed a vote of it
    event = installed(chain, "no votes known")
    replica.step(state, event, 6)
    assert (state.tip, state.observer) == (event.tip, "the guard is gone")
    assert state.probation == Probation(9)


def test_low_mark_of_before_stays_when_it_is_higher() -> None:
    """A log that binds to height 9 binds after a snapshot of height 3 too."""
    chain = Chain(small_genesis())
    for _ in range(3):
        chain.add()
    state, event = fresh(chain), installed(chain, None)
    state.low = 9
    effects = replica.step(state, event, 5)
    assert state.low == 9
    assert not [effect for effect in effects if isinstance(effect, Persist)]
    assert not may_sign(state)
