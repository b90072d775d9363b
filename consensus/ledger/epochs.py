"""Epochs in the state: when one ends, who follows, and what leaves the bonds then.

The set of epoch e + 1 is fixed when e begins; the last block of e computes the set of e + 2.
Must not know: transactions, evidence, headers' roots. Source: docs/spec/ledger.md, "Epochs".
"""

from typing import Final

import msgspec

from prsm.consensus.ledger.bonds import parted, read_roster, roster_bonds, save_bond
from prsm.consensus.ledger.context import EpochBegan, Event, FewValidators
from prsm.consensus.ledger.governance import forget_delegations
from prsm.consensus.ledger.records import (
    EPOCH_KEY,
    ROSTER_KEY,
    TURNS_KEY,
    EpochRecord,
    EpochSet,
    epoch_set_key,
)
from prsm.consensus.ledger.state import Reader, State, read
from prsm.consensus.ledger.succession import members_after
from prsm.protocol.epochs import EpochState
from prsm.protocol.genesis import Parameters
from prsm.protocol.headers import Block
from prsm.protocol.schedule import Turns
from prsm.protocol.validators import ValidatorSet

EPOCH_HEIGHTS_MIN: Final = 10  # after the first: a quorum of it has committed by then
PRUNED_MAX: Final = 8  # old sets a rollover forgets at most
SAFE_MEMBERS_MIN: Final = 4  # fewer stand no fault


def epoch_record(reader: Reader) -> EpochRecord:
    """The epoch of the next height."""
    record = read(reader, EPOCH_KEY, EpochRecord)
    assert record is not None, "a state without epoch"
    return record


def epoch_set(reader: Reader, epoch: int) -> EpochSet | None:
    """The members of an epoch: the present one, the next, or a kept one; else None."""
    return read(reader, epoch_set_key(epoch), EpochSet) if 0 <= epoch < 2**32 else None


def load_epoch(reader: Reader) -> EpochState:
    """The epoch of the next height, as an `EpochState`."""
    record, turns = epoch_record(reader), read(reader, TURNS_KEY, Turns)
    assert turns is not None, "a state without turns"
    present, following = (
        ValidatorSet(_kept(reader, record.number + ahead).members) for ahead in (0, 1)
    )
    return EpochState(record.first_height, present, following, turns)


def certifiers_of(reader: Reader, height: int) -> ValidatorSet:
    """The set that signed the last block of a state; `height` is the block's."""
    record = epoch_record(reader)
    ended = height < record.first_height and record.number > 0
    return ValidatorSet(_kept(reader, record.number - ended).members)


def begin_first(state: State, epoch: EpochState) -> None:
    """Write the records of epochs 0 and 1."""
    state.write(EPOCH_KEY, EpochRecord(number=0, first_height=1, first_time_ms=0, oldest=0))
    state.write(epoch_set_key(0), EpochSet(epoch.validators.members, 1, None))
    state.write(epoch_set_key(1), EpochSet(epoch.following.members, None, None))
    state.write(TURNS_KEY, epoch.turns)


def end_block(
    state: State, epoch: EpochState, block: Block, parameters: Parameters
) -> tuple[EpochState, tuple[Event, ...]]:
    """Do what comes after a block's transactions; returns the epoch of the next height.

    Args:
        state: after the transactions; written to.
        epoch: of the block.
        block: executed.
        parameters: those the block ran under.
    """
    header = block.header
    record = epoch_record(state)
    if header.height == record.first_height:
        record = msgspec.structs.replace(record, first_time_ms=header.time_ms)
        state.write(EPOCH_KEY, record)
    epoch = epoch.after(header.height, block.body.prev_cert)
    events: tuple[Event, ...] = ()
    if (
        header.height >= record.first_height + EPOCH_HEIGHTS_MIN
        and header.time_ms >= record.first_time_ms + parameters.epoch_ms
    ):
        members = members_after(epoch.following, roster_bonds(state), parameters.operator_cap)
        epoch = epoch.next(header.height + 1, ValidatorSet(members))
        _write_sets(state, epoch, record, time_ms=header.time_ms, parameters=parameters)
        _release(state, epoch, header.time_ms + parameters.unbonding_ms)
        events = _events(epoch)
    state.write(TURNS_KEY, epoch.turns)
    return epoch, events


def _kept(reader: Reader, epoch: int) -> EpochSet:
    found = epoch_set(reader, epoch)
    assert found is not None, f"a state without the set of epoch {epoch}"
    return found


def _write_sets(
    state: State, epoch: EpochState, ended: EpochRecord, *, time_ms: int, parameters: Parameters
) -> None:
    """Close the set that ended, open the one that begins, add the next, forget the oldest."""
    past = msgspec.structs.replace(_kept(state, ended.number), ended_ms=time_ms)
    state.write(epoch_set_key(ended.number), past)
    state.write(epoch_set_key(epoch.number), EpochSet(epoch.validators.members, epoch.first, None))
    state.write(epoch_set_key(epoch.number + 1), EpochSet(epoch.following.members, None, None))
    oldest = ended.oldest
    for _ in range(PRUNED_MAX):
        ended_ms = _kept(state, oldest).ended_ms
        assert ended_ms is not None, f"epoch {oldest} has not ended"
        # The one that ends now stays in any case: its members certify the tip.
        if ended_ms + parameters.unbonding_ms >= time_ms:
            break
        state.delete(epoch_set_key(oldest))
        oldest += 1
    state.write(
        EPOCH_KEY,
        EpochRecord(number=epoch.number, first_height=epoch.first, first_time_ms=0, oldest=oldest),
    )


def _release(state: State, epoch: EpochState, release_ms: int) -> None:
    """Let go what no set of now or next counts and nobody wants to weigh; tidy the roster."""
    weights: dict[bytes, int] = {}
    for member in (*epoch.validators.validators, *epoch.following.validators):
        weights[member.operator] = max(weights.get(member.operator, 0), member.stake)
    stayed = []
    for operator, bond in roster_bonds(state).items():
        weight = weights.get(operator, 0)
        free = bond.held - max(weight, bond.target)
        if free > 0:
            save_bond(state, operator, parted(bond, free, release_ms))
        if weight or bond.target:
            stayed.append(operator)
        else:
            forget_delegations(state, operator)
    roster = read_roster(state)
    state.write(ROSTER_KEY, msgspec.structs.replace(roster, operators=tuple(stayed)))


def _events(epoch: EpochState) -> tuple[Event, ...]:
    began = EpochBegan(epoch.number, epoch.first, len(epoch.validators), epoch.validators.total)
    few = len(epoch.following)
    if few >= SAFE_MEMBERS_MIN:
        return (began,)
    return (began, FewValidators(epoch.number + 1, few))
