"""The border between two epochs: whose votes count where, and what is carried over it.

Method: a `Stage` of cores whose sets change: epoch 0 ends at height 2, epoch 1 at height 4; both
have members 0, 1, 2, 3. Epoch 2 has 1, 2 with its second key, 3 and 4: every place in the set has
another owner. Messages move when a test says so.
"""

from dataclasses import replace

import msgspec

from prsm.consensus.pbft import replica, statuses
from prsm.consensus.pbft.certificates import is_certified
from prsm.consensus.pbft.effects import Broadcast, Effect, Execute, Observe, Persist
from prsm.consensus.pbft.events import Decided, Heard, Received, Tick, Waiting
from prsm.consensus.pbft.heights import checkpoint
from prsm.consensus.pbft.opened import Opened, open_message
from prsm.consensus.pbft.records import LowMark, unpack
from prsm.consensus.pbft.state import load
from prsm.protocol.certificates import Certificate, certify
from prsm.protocol.codec import encode
from prsm.protocol.headers import block_hash
from prsm.protocol.messages.consensus import SignedMessage, ViewChange, sign_message
from prsm.protocol.signing import Kind, statement
from prsm.testnet.sim.plan import peer_of
from prsm.testnet.sim.signing import KeyedSigner
from prsm.testnet.sim.stage import Actor, Bench, Stage

OLD, NEW = (1, 1, 1, 1, 0), (0, 1, -1, 1, 1)
HASH = bytes([9]) * 32
status = Bench.status


def _stage(*, heights: int = 4) -> Stage:
    """Everybody has heard of everybody, and members have executed some heights."""
    stage = Stage(OLD, {2: NEW, 4: NEW, 6: NEW})
    greet(stage)
    for number in range(heights // 2):
        submit(stage, number)
        deliver(stage)
        greet(stage)  # as every 500 ms: the members of the next epoch are known now
    return stage


def greet(stage: Stage) -> None:
    for actor in stage.actors:
        for other in stage.actors:
            if other is not actor:
                stage.take(actor, Heard(peer_of(other.index), status()))


def submit(stage: Stage, number: int) -> None:
    for actor in stage.actors:
        actor.pool.append(b"t%d" % number)
        stage.take(actor, Waiting(transactions=True))


def deliver(stage: Stage, *, to: tuple[int, ...] = (0, 1, 2, 3, 4)) -> None:
    """Deliver until quiet; messages to others are lost."""
    while stage.queue:
        queue, stage.queue = stage.queue, []
        for _, receiver, opened in queue:
            if receiver in to:
                stage.take(stage.actors[receiver], Received(opened))


def catch_up(stage: Stage, index: int, *, source: int = 1) -> None:
    for block, certificate in stage.actors[source].ledger.blocks:
        stage.take(stage.actors[index], Decided(block, certificate))


def step(stage: Stage, index: int, message: SignedMessage) -> list[Effect]:
    state = stage.actors[index].state
    assert state is not None
    return replica.step(state, Received(open_message(message)), stage.now_ms)


def sign(
    stage: Stage, key: KeyedSigner, kind: Kind, place: tuple[int, int, int, int], body: bytes
) -> SignedMessage:
    """A message of (epoch, height, view, signer) under a key."""
    epoch, height, view, signer = place
    unsigned = SignedMessage(kind, epoch, height, view, body, signer, b"")
    return sign_message(unsigned, key, stage.actors[0].config.chain_id)


def certificate(stage: Stage, members: tuple[int, ...], epoch: int, height: int) -> Certificate:
    """A commit certificate of some hash by actors, in the places they have in an epoch."""
    config = stage.actors[0].config
    signed = statement(
        config.chain_id, Kind.COMMIT, epoch=epoch, height=height, view=0, digest=HASH
    )
    votes = {}
    for index in members:
        second = epoch == 2 and index == 2
        place = index - 1 if epoch == 2 else index
        votes[place] = KeyedSigner(int(second), index).sign(signed)
    return certify(Kind.COMMIT, epoch=epoch, height=height, view=0, block_hash=HASH, votes=votes)


def heights(stage: Stage) -> list[int]:
    return [actor.ledger.tip.height for actor in stage.actors]


def own(actor: Actor) -> int | None:
    assert actor.state is not None
    return actor.state.instance.own


def test_places_change_and_leavers_newcomers_and_rotated_keys_go_on() -> None:
    stage = _stage()
    catch_up(stage, 4)
    assert heights(stage) == [4] * 5
    assert [own(actor) for actor in stage.actors] == [None, 0, 1, 2, 3]
    submit(stage, 9)
    deliver(stage, to=(1, 2, 4))  # the newcomer and the new key are needed for the quorum
    assert heights(stage) == [4, 6, 6, 4, 6]
    last = stage.actors[1].ledger.blocks[4][1]
    assert (last.epoch, last.height) == (2, 5)
    key = KeyedSigner(1, 2).public_key
    assert stage.actors[2].ledger.tip.validators.index_of(key) == 1
    state = stage.actors[2].state
    assert state is not None
    assert state.instance.signer is not None
    assert state.instance.signer.public_key == key


def test_certificates_are_checked_with_the_set_of_their_height_and_epoch() -> None:
    """The tip's by those who signed it, the next height's by its set, beyond it by either."""
    stage = _stage()
    actor = stage.actors[1]
    state = actor.state
    assert state is not None
    old, new = (0, 1, 2), (1, 2, 3)

    def holds(found: Certificate) -> bool:
        named = {"height": found.height, "block_hash": HASH}
        return is_certified(state, found, Kind.COMMIT, **named)  # type: ignore[arg-type]  # named fields

    assert state.tip.height == 4
    assert [holds(certificate(stage, old, 1, height)) for height in (4, 5, 6)] == [True] + [
        False
    ] * 2
    assert [holds(certificate(stage, new, 2, height)) for height in (4, 5, 6)] == [False] + [
        True
    ] * 2
    assert holds(certificate(stage, new, 2, 4)) is False
    # The following epoch, beyond the next height only; one that nobody here knows, never.
    assert [holds(certificate(stage, new, 3, height)) for height in (5, 6)] == [False, False]
    before = _stage(heights=2).actors[1].state
    assert before is not None
    state = before
    assert [holds(certificate(stage, new, 2, height)) for height in (3, 4)] == [False, True]
    assert [holds(certificate(stage, old, 1, height)) for height in (3, 4)] == [True, True]
    # Right signatures under another number of the epoch do not hold.
    wrong = msgspec.structs.replace(certificate(stage, old, 1, 4), epoch=2)
    assert not holds(wrong)


def test_votes_of_the_next_epoch_are_kept_for_it_and_count() -> None:
    """Member 3 still lacks height 4; what 1, 2 and 4 say at height 5 is kept by its epoch."""
    stage = _stage(heights=2)
    submit(stage, 7)
    late: list[tuple[int, int, Opened]] = []
    while stage.queue:
        queue, stage.queue = stage.queue, []
        for entry in queue:
            is_late = entry[1] == 3 and entry[2].message.height == 4
            if is_late:
                late.append(entry)
            else:
                stage.take(stage.actors[entry[1]], Received(entry[2]))
    catch_up(stage, 4)
    assert heights(stage) == [4, 4, 4, 3, 4]
    submit(stage, 8)
    deliver(stage)
    behind = stage.actors[3].state
    assert behind is not None
    assert load(behind)["ahead"] > 3
    assert {key[1] for key in behind.ahead} == {2}
    for _, receiver, opened in late:
        stage.take(stage.actors[receiver], Received(opened))
    deliver(stage)
    # Height 6 was proposed two heights ahead of it: such bodies are not kept but fetched.
    assert heights(stage)[1:] == [6, 6, 5, 6]
    assert behind.tip.epoch.number == 2


def test_message_of_another_epoch_is_refused_at_every_height() -> None:
    """A vote of epoch 1 shown again in epoch 2, by the same key at another place."""
    stage = _stage()
    first = KeyedSigner(0, 1)
    state = stage.actors[3].state
    assert state is not None
    for place in ((1, 5, 0, 1), (0, 5, 0, 1), (3, 5, 0, 0), (9, 6, 0, 0), (2, 4, 0, 0)):
        assert step(stage, 3, sign(stage, first, Kind.PREPARE, place, HASH)) == []
    assert load(state)["ahead"] == load(state)["tallies"] == 0
    assert first.public_key not in {
        key for key, vote in state.highest.items() if vote.message.height > 4
    }
    # Above the next height it may turn out either way: both are kept, one is counted.
    for place in ((2, 6, 0, 0), (3, 6, 0, 0)):
        step(stage, 3, sign(stage, first, Kind.PREPARE, place, HASH))
    assert load(state)["ahead"] == 2
    submit(stage, 8)
    catch_up(stage, 4)
    state.ahead = {key: kept for key, kept in state.ahead.items() if key[1] == 3}
    deliver(stage)
    assert heights(stage)[3] == 6


def test_what_was_heard_is_kept_by_peer_and_key_and_forgotten_with_the_member() -> None:
    stage = _stage()
    state = stage.actors[3].state
    assert state is not None
    # Member 0 signed the tip's certificate, so it is still known.
    assert set(state.heard_at_ms) == {"peer0", "peer1", "peer2", "peer4"}
    assert set(state.claims) == {"peer0", "peer1", "peer2", "peer4"}
    assert KeyedSigner(0, 0).public_key in state.highest
    shown = statuses.status_for(state, "peer1").your_highest
    assert shown is not None
    assert (shown.epoch, shown.signer) == (1, 1)
    catch_up(stage, 4)
    # Another epoch later it is not: nothing of it stays.
    submit(stage, 8)
    deliver(stage)
    assert state.tip.epoch.number == 3
    assert set(state.heard_at_ms) == {"peer1", "peer2", "peer4"}
    assert "peer0" not in state.claims
    assert KeyedSigner(0, 0).public_key not in state.highest
    assert statuses.status_for(state, "peer0").your_highest is None
    sizes = load(state)
    assert (sizes["claims"], sizes["heard"]) == (3, 3)


def test_nobody_signs_in_a_new_set_before_a_quorum_of_it_was_heard() -> None:
    stage = Stage(OLD, {2: NEW, 4: NEW})
    for actor in stage.actors:
        for other in (0, 1, 2, 3):
            if other != actor.index:
                stage.take(actor, Heard(peer_of(other), status()))
    for number in (0, 1):
        submit(stage, number)
        deliver(stage)
    first = stage.actors[1].state
    assert first is not None
    assert first.is_ready  # itself, 2 and 3 of four
    newcomer = replica.start(stage.actors[4].config, stage.actors[1].ledger.tip, (), None)
    assert newcomer.instance.own == 3
    assert not newcomer.is_ready
    for peer in ("peer0", "peer1"):
        replica.step(newcomer, Heard(peer, status(4)), stage.now_ms)
    assert not newcomer.is_ready  # a member of the old set is none of this one
    replica.step(newcomer, Heard("peer2", status(4)), stage.now_ms)
    assert newcomer.is_ready


def test_readiness_is_lost_when_the_new_members_were_never_heard() -> None:
    far = (1, 0, 0, 0, 1, 1, 1)
    stage = Stage((1, 1, 1, 1, 0, 0, 0), {2: far, 4: far})
    for actor in stage.actors[:4]:
        for other in range(4):
            if other != actor.index:
                stage.take(actor, Heard(peer_of(other), status()))
    for number in (0, 1):
        submit(stage, number)
        while stage.queue:
            _, receiver, opened = stage.queue.pop(0)
            stage.take(stage.actors[receiver], Received(opened))
    state = stage.actors[0].state
    assert state is not None
    assert (state.tip.height, state.instance.own, state.is_ready) == (4, 0, False)
    stage.take(stage.actors[0], Heard("peer4", status(4)))
    stage.take(stage.actors[0], Heard("peer5", status(4)))
    assert state.is_ready


def test_restart_replays_a_log_that_spans_an_epoch() -> None:
    """At the border: votes of the first height of epoch 2 are remembered, with its places."""
    stage = _stage()
    catch_up(stage, 4)
    submit(stage, 8)
    deliver(stage, to=())
    proposer = stage.actors[1]
    assert proposer.state is not None
    assert proposer.state.instance.voted
    again = replica.start(proposer.config, proposer.ledger.tip, proposer.log, None)
    assert again.observer is None
    assert again.instance.voted == proposer.state.instance.voted
    assert again.instance.own == 0
    # A new segment keeps what binds.
    short = replica.start(proposer.config, proposer.ledger.tip, checkpoint(proposer.state), None)
    assert short.instance.voted == again.instance.voted
    # The ledger lost a block: the same votes then stand above the tip, and none is said twice.
    shorter = stage.actors[1].ledger
    shorter.forget(1)
    behind = replica.start(proposer.config, shorter.tip, proposer.log, None)
    assert (behind.tip.height, behind.low, behind.instance.own) == (3, 4, 1)
    assert behind.tip.epoch.number == 1
    vote = proposer.state.instance.sent[Kind.PREPARE, 0].message
    out = replica.step(behind, Heard("peer2", status(4, highest=vote)), stage.now_ms)
    assert not any(isinstance(effect, Observe | Broadcast) for effect in out)


def test_vote_of_any_own_key_and_epoch_that_the_log_lacks_makes_an_observer() -> None:
    """Also of an epoch this node has not reached: the key tells, not the place."""
    for key, place in ((0, (1, 4, 0, 2)), (1, (2, 5, 0, 1)), (1, (7, 70, 0, 0))):
        stage = _stage(heights=2)
        state = stage.actors[2].state
        assert state is not None
        shown = sign(stage, KeyedSigner(key, 2), Kind.COMMIT, place, HASH)
        out = replica.step(state, Heard("peer1", status(4, highest=shown)), stage.now_ms)
        assert any(isinstance(effect, Observe) for effect in out)
    stage = _stage(heights=2)
    state = stage.actors[2].state
    assert state is not None
    forged = sign(stage, KeyedSigner(0, 1), Kind.COMMIT, (1, 4, 0, 2), HASH)
    out = replica.step(state, Heard("peer1", status(4, highest=forged)), stage.now_ms)
    assert not any(isinstance(effect, Observe) for effect in out)


def test_certificate_seen_ahead_is_dropped_when_its_height_is_of_another_epoch() -> None:
    """More than a third lied about the epoch: it binds the low mark and decides nothing."""
    stage = _stage(heights=2)
    actor = stage.actors[3]
    state = actor.state
    assert state is not None
    body = encode(ViewChange(certificate(stage, (1, 2, 4), 2, 4), None))
    early = sign(stage, KeyedSigner(0, 1), Kind.VIEW_CHANGE, (2, 5, 1, 0), body)
    out = step(stage, 3, early)
    kept = [unpack(effect.record) for effect in out if isinstance(effect, Persist)]
    assert [type(record) for record in kept] == [LowMark]
    assert state.fetch_peers == ("peer1", "peer2", "peer4")
    submit(stage, 8)
    deliver(stage)
    assert state.tip.height == 4  # by the votes of the others
    assert state.observer is None


def test_follower_asks_for_a_block_at_once_and_a_member_waits_for_votes() -> None:
    stage = _stage()
    newcomer, member = stage.actors[4].state, stage.actors[3].state
    assert newcomer is not None
    assert member is not None
    assert newcomer.instance.own is None
    assert replica.step(newcomer, Heard("peer1", status(1)), stage.now_ms) != []
    assert replica.step(member, Heard("peer1", status(5)), stage.now_ms) == []


def test_leaver_signs_nothing_and_still_executes() -> None:
    stage = _stage()
    catch_up(stage, 4)
    leaver = stage.actors[0]
    submit(stage, 8)
    deliver(stage)
    before = list(leaver.log)
    catch_up(stage, 0)
    assert leaver.ledger.tip.height == 6
    stage.now_ms += 10_000
    assert leaver.state is not None
    out = replica.step(leaver.state, Tick(), stage.now_ms)
    assert not any(isinstance(effect, Broadcast | Execute) for effect in out)
    assert leaver.log == before


def test_second_key_does_not_sign_before_its_epoch() -> None:
    """A node with both keys signs with the one that is in the set, also if it only has that."""
    stage = _stage(heights=2)
    actor = stage.actors[2]
    assert actor.state is not None
    assert actor.state.instance.signer is not None
    assert actor.state.instance.signer.public_key == KeyedSigner(0, 2).public_key
    only = replace(actor.config, signers=(KeyedSigner(1, 2),))
    assert replica.start(only, actor.ledger.tip, (), None).instance.own is None
    digest = block_hash(actor.ledger.blocks[0][0].header)
    assert actor.ledger.tip.certifiers.epoch == 0
    assert digest == actor.ledger.blocks[0][1].block_hash


def test_observer_forgets_the_claims_of_peers_that_are_no_members_any_more() -> None:
    stage = _stage(heights=4)
    catch_up(stage, 4)
    actor = stage.actors[4]
    actor.state = replica.start(actor.config, actor.ledger.tip, (), "lost", voted=100)
    for peer in range(4):
        stage.take(actor, Heard(peer_of(peer), status(4)))
    probation = actor.state.probation
    assert probation is not None
    assert set(probation.claims) == {"peer0", "peer1", "peer2", "peer3"}
    submit(stage, 8)
    deliver(stage)
    assert actor.state.tip.epoch.number == 3
    assert set(probation.claims) == {"peer1", "peer2", "peer3"}
