"""When a replica gives up on a view, and when it must be looked at next.

The timer runs only while there is work. After a VIEW_CHANGE it runs only once signers of a
quorum want that view or a later one: replicas then stay within a view of each other, however
long a partition lasts. Integers only. Source: Castro and Liskov 1999, section 4.5.2;
docs/spec/pbft.md, "Timeouts".
"""

from typing import Final

from prsm.consensus.pbft.effects import SetTimer
from prsm.consensus.pbft.state import Instance, State, emit, may_sign
from prsm.consensus.pbft.transitions import AT_REST, CHANGING, WAITING
from prsm.protocol.genesis import Parameters

_GROWING_VIEWS: Final = 64  # (3/2)^64 is beyond any cap; larger powers only cost time


def timeout_ms(parameters: Parameters, view: int) -> int:
    """t(v) = min(cap, base * (3/2)^v), in ms."""
    if view > _GROWING_VIEWS:
        return parameters.timeout_cap_ms
    grown: int = parameters.timeout_base_ms * 3**view // 2**view
    return min(parameters.timeout_cap_ms, grown)


def has_work(state: State) -> bool:
    """Should a block be agreed on now? Otherwise the chain rests and no timer runs."""
    return state.waiting or state.instance.is_pressed or is_block_due(state)


def is_block_due(state: State) -> bool:
    """Is an empty block due: one behind transactions, for their state root, or a heartbeat?"""
    block = state.tip.block
    if block is not None and block.body.transactions:
        return True
    return state.now_ms >= state.rests_since_ms + state.config.parameters.heartbeat_block_ms


def restart_timer(state: State) -> None:
    """Give the view that was just entered its whole time."""
    instance = state.instance
    span = timeout_ms(state.config.parameters, instance.view)
    instance.deadline_ms = state.now_ms + span


def is_expired(state: State) -> bool:
    """Has the current view had its time?"""
    deadline = state.instance.deadline_ms
    return deadline is not None and state.now_ms >= deadline


def arm(state: State) -> None:
    """Start or stop the view's timer as the state now demands, and order the next tick."""
    instance = state.instance
    work = has_work(state)
    if instance.phase in AT_REST or not may_sign(state) or not _may_run(state, work=work):
        instance.deadline_ms = None
    elif instance.deadline_ms is None:
        restart_timer(state)
    _order_tick(state, work=work)


def _may_run(state: State, *, work: bool) -> bool:
    instance = state.instance
    if instance.phase is not CHANGING:
        return work
    validators, current = state.validators, instance.view
    reached = validators.weight(
        [
            signer
            for signer, opened in instance.view_changes.items()
            if opened.message.view >= current
        ]
    )
    return reached >= validators.quorum


def _order_tick(state: State, *, work: bool) -> None:
    instance = state.instance
    earliest, at = instance.deadline_ms, None
    if work and instance.phase is WAITING:
        at = _propose_at(state, instance)
    if earliest is None or (at is not None and at < earliest):
        earliest = at
    again = instance.resend_at_ms
    if again is not None and state.now_ms < again and instance.phase not in AT_REST:
        earliest = again if earliest is None else min(earliest, again)
    if earliest is not None and earliest != state.timer_ms:
        emit(state, SetTimer(earliest))
    state.timer_ms = earliest


def _propose_at(state: State, instance: Instance) -> int | None:
    """When the gap between blocks ends, if a payload waits for that."""
    if instance.own != instance.schedule.at(instance.view):
        return None
    at = state.rests_since_ms + state.config.parameters.block_gap_min_ms
    return at if at > state.now_ms else None
