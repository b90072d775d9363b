"""When an observer may sign again: never where a vote of its key may be that it forgot.

Method: a `Stage` of four cores in short epochs. Core 3 loses its log, or log and ledger, and comes
back; everything its key ever signed is compared.
"""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from prsm.consensus.pbft import replica, statuses
from prsm.consensus.pbft.effects import Broadcast, Effect, Execute, Observe, Resume
from prsm.consensus.pbft.events import Applied, Decided, Heard, Received, Resumed, Tick, Waiting
from prsm.consensus.pbft.observer import end_probation, halt, silence
from prsm.consensus.pbft.probation import ABOVE_CLAIMS, ABOVE_VOTES, Probation
from prsm.consensus.pbft.records import LogRecord, LowMark, Voted, pack
from prsm.consensus.pbft.state import State, load
from prsm.protocol.headers import block_hash
from prsm.protocol.messages.consensus import Prepared, SignedMessage, sign_message
from prsm.protocol.signing import Kind
from prsm.protocol.validators import Members, Validator, ValidatorSet
from prsm.testnet.sim.plan import peer_of
from prsm.testnet.sim.stage import Actor, Bench, Stage

HASH = bytes([9]) * 32
LOST = "the log is gone"
EPOCH = 4  # heights; borders at 4, 8, 12, ...


def _set(*stakes: int) -> ValidatorSet:
    return ValidatorSet(
        Members(
            epoch=0,
            validators=tuple(
                Validator(bytes([i]) * 32, bytes([i + 40]) * 32, peer_of(i), stake)
                for i, stake in enumerate(stakes)
            ),
        )
    )


def test_first_height_is_above_what_a_quorum_without_me_claims() -> None:
    """Own stake does not count, nor does a claim that is not needed for the quorum."""
    probation, validators = Probation(10), _set(1, 1, 1, 1)
    assert probation.first_height(validators, 3) is None
    probation.claims = {"peer0": 20, "peer1": 21, "peer3": 7, "stranger": 5}
    assert probation.first_height(validators, 3) is None
    probation.claims["peer2"] = 10**9  # it is needed here, so a liar holds it up
    assert probation.first_height(validators, 3) == 10**9 + ABOVE_CLAIMS
    seven = _set(1, 1, 1, 1, 1, 1, 1)
    probation.claims = {peer_of(i): 20 + i for i in range(5)} | {"peer5": 10**9}
    assert probation.first_height(seven, 6) == 24 + ABOVE_CLAIMS
    probation.voted = 100
    assert probation.first_height(seven, 6) == 100 + ABOVE_VOTES
    heavy = _set(5, 1, 1, 1)
    probation.claims = {"peer1": 1, "peer2": 2, "peer3": 3}
    assert probation.first_height(heavy, 0) is None


class Life:
    """Four cores that agree, and all that the key of core 3 ever signed."""

    def __init__(self, stakes: tuple[int, ...] = (1, 1, 1, 1)) -> None:
        self.stage = Stage(stakes, dict.fromkeys(range(EPOCH, 400, EPOCH), stakes))
        self.votes: dict[tuple[Kind, int, int, int], set[bytes]] = {}
        self.number = 0
        for index in range(4):
            self.greet(index)

    @property
    def state(self) -> State:
        state = self.stage.actors[3].state
        assert state is not None
        return state

    def greet(self, index: int, peers: tuple[int, ...] = (0, 1, 2, 3)) -> None:
        for peer in peers:
            other = self.stage.actors[peer]
            if peer != index and other.state is not None:
                status = statuses.status_for(other.state, peer_of(index))
                self.stage.take(self.stage.actors[index], Heard(peer_of(peer), status))

    def grow(self, *, alone: bool, lost: int = 0) -> None:
        """Two blocks: by all four, or by 0, 1 and 2, of which some see only part of the votes."""
        self.number += 1
        for actor in self.stage.actors:
            actor.pool.append(b"t%d" % self.number)
            self.stage.take(actor, Waiting(transactions=True))
        self._deliver(alone=alone, lost=lost)

    def heal(self) -> None:
        """What was lost is said again, views change, and whoever lacks blocks gets them."""
        for _ in range(6):
            self.stage.now_ms += 500
            for actor in self.stage.actors:
                self.stage.take(actor, Tick())
            self._deliver(alone=False, lost=0)
            self.repair()

    def _deliver(self, *, alone: bool, lost: int) -> None:
        sent = 0
        while self.stage.queue:
            queue, self.stage.queue = self.stage.queue, []
            for sender, receiver, opened in queue:
                if sender == 3:
                    message = opened.message
                    place = message.kind, message.epoch, message.height, message.view
                    self.votes.setdefault(place, set()).add(bytes(opened.digest))
                sent += 1
                if (alone and receiver == 3) or (lost and sent % lost == 0):
                    continue
                self.stage.take(self.stage.actors[receiver], Received(opened))

    def repair(self) -> None:
        """Whoever lacks blocks gets them."""
        best = max(self.stage.actors, key=lambda actor: actor.ledger.tip.height)
        for actor in self.stage.actors:
            for block, certificate in best.ledger.blocks[actor.ledger.tip.height :]:
                self.stage.take(actor, Decided(block, certificate))

    def lose(self, *, ledger: int) -> None:
        """Core 3 comes back without its log, and without the last blocks of its ledger."""
        actor = self.stage.actors[3]
        actor.log.clear()
        actor.ledger.forget(ledger)
        voted = actor.ledger.tip.height
        actor.state = replica.start(actor.config, actor.ledger.tip, (), LOST, voted=voted)


def test_observer_signs_again_from_an_epoch_on_that_is_far_enough() -> None:
    life = Life()
    for _ in range(3):
        life.grow(alone=False)
    assert life.state.tip.height == 6
    life.lose(ledger=2)
    assert "ends after validators of a quorum" in silence(life.state)
    before = len(life.votes)
    life.greet(3)  # peers stand at 6, so it may have voted at 8
    assert "height 9 or above" in silence(life.state)
    assert load(life.state)["probation"] == 3
    life.repair()
    life.grow(alone=False)  # to 8, the end of the second epoch
    assert life.state.tip.height == 8
    assert life.state.observer is None
    assert silence(life.state) == ""
    assert len(life.votes) == before
    life.grow(alone=False)
    assert max(height for _, _, height, _ in life.votes) == 10
    again = replica.start(
        life.stage.actors[3].config, life.stage.actors[3].ledger.tip, life.stage.actors[3].log, None
    )
    assert again.observer is None


def test_observer_that_is_not_far_enough_waits_for_another_epoch() -> None:
    life = Life()
    for _ in range(3):
        life.grow(alone=False)
    life.grow(alone=True)
    life.lose(ledger=0)
    life.greet(3)  # at 8: the epoch that begins at 9 is too near
    life.repair()
    assert life.state.observer == LOST
    life.grow(alone=False)
    life.repair()
    assert life.state.observer == LOST
    life.grow(alone=False)
    life.repair()
    assert life.state.tip.height == 12
    assert silence(life.state) == ""


def test_blank_log_is_known_by_blocks_that_its_votes_decided() -> None:
    """Ledger, log and guard are gone, and every peer has forgotten what it heard."""
    life = Life()
    life.grow(alone=False)
    blocks, actor = life.stage.actors[0].ledger.blocks, life.stage.actors[3]
    assert all(3 in certificate.signer_indexes() for _, certificate in blocks)
    actor.ledger.forget(actor.ledger.tip.height)
    state = actor.state = replica.start(actor.config, actor.ledger.tip, (), None)
    out = replica.step(state, Decided(*blocks[0]), 0)
    why = "a certificate has my COMMIT of height 1, view 0, and my log does not"
    assert [each for each in out if isinstance(each, Observe)] == [Observe(why, forgot=True)]
    assert [type(each) for each in out].index(Observe) < [type(each) for each in out].index(Execute)
    assert state.probation == Probation(1)
    actor.ledger.apply(*blocks[0])
    replica.step(state, _applied(actor), 0)
    out = replica.step(state, Decided(*blocks[1]), 0)
    assert not any(isinstance(each, Observe) for each in out), "it is one already"
    assert state.probation == Probation(2)


def test_observer_of_this_start_only_is_told_for_good() -> None:
    """A new ledger makes an observer until the next start; log and guard may be gone as well."""
    life = Life()
    life.grow(alone=False)
    blocks, actor = life.stage.actors[0].ledger.blocks, life.stage.actors[3]
    actor.ledger.forget(actor.ledger.tip.height)
    state = actor.state = replica.start(actor.config, actor.ledger.tip, (), "new ledger", voted=0)
    shown = []
    for block, certificate in blocks:
        out = replica.step(state, Decided(block, certificate), 0)
        shown.append([each.forgot for each in out if isinstance(each, Observe)])
        actor.ledger.apply(block, certificate)
        replica.step(state, _applied(actor), 0)
    assert shown == [[True], *([] for _ in blocks[1:])]
    assert state.probation is not None
    assert state.probation.voted == len(blocks)
    assert silence(state).startswith("new ledger; ends")


@pytest.mark.parametrize(("signers", "is_observer"), [((0, 1, 3), True), ((0, 1, 2), False)])
def test_prepared_certificate_shows_a_vote_too(
    signers: tuple[int, ...], *, is_observer: bool
) -> None:
    """Nothing was decided: what a peer prepared before it started again has a PREPARE of mine."""
    bench = Bench()
    digest = block_hash(bench.block().header)
    prepared = Prepared(0, digest, bench.certificate(Kind.PREPARE, digest, signers=signers))
    bench.hear(bench.change(0, 1, prepared))
    assert bool(bench.state.observer) is is_observer
    out = bench.hear(bench.change(1, 1))  # more than a third wants that view
    assert any(isinstance(each, Broadcast) for each in out) is not is_observer


def test_who_was_never_needed_may_vote() -> None:
    """A validator that starts late reads of no vote of its own, nor one that remembers them."""
    life = Life()
    life.grow(alone=True)
    life.repair()
    assert life.state.tip.height == 2
    assert life.state.observer is None
    life.grow(alone=False)
    actor = life.stage.actors[3]
    state = replica.start(actor.config, actor.ledger.tip, actor.log, None)
    assert state.tip.height == 4
    actor.ledger.forget(1)
    behind = replica.start(actor.config, actor.ledger.tip, actor.log, None)
    replica.step(behind, Decided(*life.stage.actors[0].ledger.blocks[3]), 0)
    assert behind.observer is None


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(
    before=st.lists(
        st.tuples(st.booleans(), st.sampled_from((0, 1, 2, 3, 5)), st.booleans()),
        min_size=1,
        max_size=6,
    ),
    forgotten=st.integers(0, 3),
    heard=st.permutations((0, 1, 2)),
    late=st.integers(0, 3),
)
@example(
    before=[(False, 0, True), (False, 0, True), (False, 1, False)],  # it proposed at the border
    forgotten=1,
    heard=[0, 1, 2],
    late=0,
)
def test_key_that_forgot_never_says_two_things(
    before: list[tuple[bool, int, bool]], forgotten: int, heard: list[int], late: int
) -> None:
    """Any past with lost messages, any loss, STATUS in any order and some of it late.

    Core 3 has most stake: it proposes first in every epoch, and what it forgot it would say anew.
    """
    life = Life((3, 3, 3, 4))
    for alone, lost, is_healed in before:
        life.grow(alone=alone, lost=lost)
        if is_healed:
            life.heal()
    life.lose(ledger=forgotten)
    life.greet(3, tuple(heard[late:]))
    life.repair()
    for _ in range(2 * EPOCH):
        life.grow(alone=False)
        life.heal()
        life.greet(3)
    assert life.state.observer is None
    assert max(height for _, _, height, _ in life.votes) > life.state.tip.height - EPOCH
    assert all(len(said) == 1 for said in life.votes.values())


def _applied(actor: Actor) -> Applied:
    tip = actor.ledger.tip
    return Applied(tip.height, tip.block_hash, tip.state_root, tip.receipts_root, tip.epoch)


def _vote_of_3(stage: Stage, height: int) -> SignedMessage:
    actor = stage.actors[3]
    unsigned = SignedMessage(Kind.COMMIT, 0, height, 0, HASH, 3, b"")
    return sign_message(unsigned, actor.signer, actor.config.chain_id)


def test_vote_that_a_peer_shows_later_puts_the_end_off() -> None:
    """A copy of the home votes elsewhere: its votes keep coming, so this one keeps silent."""
    life = Life()
    life.grow(alone=False)
    life.lose(ledger=0)
    life.greet(3)
    shown = Bench.status(2, _vote_of_3(life.stage, 7))
    life.stage.take(life.stage.actors[3], Heard("peer0", shown))
    assert "height 9 or above" in silence(life.state)
    assert life.state.observer == LOST


def test_shown_vote_makes_an_observer_that_may_end_and_a_contradiction_one_that_may_not() -> None:
    life = Life()
    shown = Bench.status(0, _vote_of_3(life.stage, 5))
    out = replica.step(life.state, Heard("peer0", shown), life.stage.now_ms)
    assert any(isinstance(effect, Observe) for effect in out)
    assert life.state.probation is not None
    assert life.state.probation.voted == 5
    halt(life.state, "another block is certified")
    assert life.state.probation is None


def test_end_is_called_off_when_a_vote_turns_up_before_the_log_is_fresh() -> None:
    life = Life()
    for _ in range(3):
        life.grow(alone=False)
    life.lose(ledger=0)
    life.greet(3)
    life.grow(alone=True)
    actor = life.stage.actors[3]
    state = life.state
    # Step by step: the stage would answer `Resume` at once.
    blocks = life.stage.actors[0].ledger.blocks
    out: list[Effect] = []
    state.is_told = True  # the files that are given up
    for block, certificate in blocks[state.tip.height : 8]:
        replica.step(state, Decided(block, certificate), 0)
        actor.ledger.apply(block, certificate)
        out = replica.step(state, _applied(actor), 0)
    assert [effect for effect in out if isinstance(effect, Resume)] == [Resume(9)]
    shown = Bench.status(9, _vote_of_3(life.stage, 9))
    out = replica.step(state, Heard("peer0", shown), 0)
    assert [each.forgot for each in out if isinstance(each, Observe)] == [True], "files are fresh"
    out = replica.step(state, Resumed(9), 0)
    assert state.observer == LOST
    assert not any(isinstance(effect, Broadcast) for effect in out)
    for height in (9, 12):  # said twice, or of a height that was not ordered, it means nothing
        replica.step(state, Resumed(height), 0)
        assert state.observer == LOST
    probation = state.probation
    assert probation is not None
    assert not probation.is_ending, "a later epoch may end it"
    halt(state, "another block is certified")  # a reason that does not end
    replica.step(state, Resumed(12), 0)
    assert (state.observer, state.probation) == (LOST, None)


def test_own_word_is_no_part_of_the_quorum_that_ends_it() -> None:
    """Whoever restores its own old claim would trust the very memory that it lost."""
    bench = Bench(blocks=4)
    state = bench.state
    state.observer = LOST
    state.probation = Probation(0, {"peer0": 0, "peer1": 0, "peer3": 0})
    end_probation(state)
    assert not state.probation.is_ending
    assert "after validators of a quorum said" in silence(state)
    state.probation.claims["peer2"] = 0
    assert f"height {ABOVE_CLAIMS} or above" in silence(state)
    end_probation(state)
    assert state.probation.is_ending


@pytest.mark.parametrize(
    ("voted", "record", "height"),
    [
        (7, LowMark(5, None), 7),
        (0, LowMark(5, None), 5),
        (0, Voted(Kind.PREPARE, 0, 6, 0, HASH), 6),
        (0, Voted(Kind.PREPARE, 0, 1, 0, HASH), 1),
    ],
)
def test_probation_ends_above_all_that_the_log_speaks_of(
    voted: int, record: LogRecord, height: int
) -> None:
    """Also of the height it starts at, whoever reckoned what was voted."""
    bench = Bench()
    state = replica.start(bench.config, bench.ledger.tip, [pack(record)], LOST, voted=voted)
    assert state.probation == Probation(height)


@pytest.mark.parametrize("voted", [None, 3])
def test_reason_that_may_not_end_does_not(voted: int | None) -> None:
    stage = Stage((1,) * 4)
    actor = stage.actors[3]
    state = replica.start(actor.config, actor.ledger.tip, (), LOST, voted=voted)
    assert state.probation == (None if voted is None else Probation(voted))
    assert silence(state).startswith(LOST)
    assert ("ends" in silence(state)) is (voted is not None)
