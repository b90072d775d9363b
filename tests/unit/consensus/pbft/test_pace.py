"""When a proposer asks for a payload: the gap between blocks, work, and who else could be waiting.

Source: docs/spec/pbft.md, "Proposing". Method: a `Bench`; core 0 proposes the first blocks.
"""

from dataclasses import replace

import msgspec
import pytest

from prsm.consensus.pbft import replica
from prsm.consensus.pbft.effects import Broadcast, Effect, NeedPayload, SetTimer
from prsm.consensus.pbft.events import Draft, Heard, Payload, Tick, Waiting
from prsm.consensus.pbft.records import Voted, pack
from prsm.consensus.pbft.state import State
from prsm.consensus.pbft.timeouts import timeout_ms
from prsm.protocol.signing import Kind
from prsm.testnet.sim.plan import peer_of
from prsm.testnet.sim.stage import START_MS, Bench

GAP_MS = 200


def ready(blocks: int, core: int = 0) -> State:
    """A core after some blocks, with a gap between them; nobody waits for a transaction."""
    bench = Bench(blocks=blocks)
    actor = bench.stage.actors[core]
    changes = {"block_gap_min_ms": GAP_MS}
    parameters = msgspec.structs.replace(actor.config.parameters, **changes)
    config = replace(actor.config, parameters=parameters)
    state = replica.start(config, actor.ledger.tip, (), None)
    for peer in (2, 3):
        status = Bench.status(height=state.tip.height)
        assert replica.step(state, Heard(peer_of(peer), status), START_MS) == []
    return state


@pytest.mark.parametrize(("blocks", "is_asked"), [(0, True), (2, False)])
def test_first_block_of_a_chain_waits_for_no_gap(blocks: int, is_asked: bool) -> None:
    state = ready(blocks)
    out = replica.step(state, Waiting(transactions=True), START_MS + GAP_MS - 1)
    asked = NeedPayload(blocks + 1, 0)
    assert (asked in out) is is_asked
    assert asked in replica.step(state, Tick(), START_MS + GAP_MS) or is_asked


def test_heartbeat_is_due_at_its_millisecond() -> None:
    bench = Bench()
    assert bench.take(Tick()) == []
    due_ms = bench.state.rests_since_ms + bench.config.parameters.heartbeat_block_ms
    left_ms = due_ms - bench.now_ms
    assert bench.take(Tick(), left_ms - 1) == []
    assert bench.take(Tick(), 1) == [SetTimer(due_ms + bench.config.parameters.timeout_base_ms)]


def test_who_may_not_sign_waits_for_no_end_of_a_view() -> None:
    """It would leave none."""
    bench = Bench()
    bench.state.observer = "its log is lost"
    assert bench.take(Waiting(transactions=True)) == []
    assert bench.state.instance.deadline_ms is None


@pytest.mark.parametrize(("core", "due_ms"), [(0, GAP_MS), (1, 400)])
def test_end_of_the_gap_wakes_the_proposer_alone(core: int, due_ms: int) -> None:
    """Who does not propose waits for the end of the view."""
    state = ready(2, core)
    out = replica.step(state, Waiting(transactions=True), START_MS)
    assert out == [SetTimer(START_MS + due_ms)]


def test_view_that_is_entered_has_its_time_though_there_is_no_work_here() -> None:
    """Others had some; if their proposer is dead, too, somebody must leave the next view."""
    bench = Bench()
    changes = [bench.change(signer, 1) for signer in (0, 1, 2)]
    end_ms = bench.now_ms + timeout_ms(bench.config.parameters, 1)
    assert SetTimer(end_ms) in bench.hear(bench.new_view(1, changes))


def test_wish_of_one_member_for_a_later_view_lets_the_timer_run() -> None:
    bench = Bench()
    end_ms = bench.now_ms + timeout_ms(bench.config.parameters, 0)
    assert bench.hear(bench.change(0, 1)) == [SetTimer(end_ms)]


def test_payload_makes_no_second_proposal_of_a_view_that_has_one_in_the_log() -> None:
    """It was asked for, made and sent before the restart; which block it was, nobody knows here."""
    bench = Bench()
    actor = bench.stage.actors[0]
    drafted = Payload(1, 0, Draft((b"t",), (), START_MS))
    for records, count in (([], 1), ([pack(Voted(Kind.PROPOSE, 0, 1, 0, bytes(32)))], 0)):
        state = replica.start(actor.config, actor.ledger.tip, records, None)
        for peer in (1, 2):
            replica.step(state, Heard(peer_of(peer), bench.status()), START_MS)
        sent = [each for each in replica.step(state, drafted, START_MS) if is_proposal(each)]
        assert len(sent) == count


def is_proposal(effect: Effect) -> bool:
    return isinstance(effect, Broadcast) and effect.message.kind is Kind.PROPOSE
