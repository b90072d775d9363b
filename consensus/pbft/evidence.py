"""What no honest validator signs, seen in what is kept of the present height and the last ones.

Two different votes for one place; and a COMMIT beside a later VIEW_CHANGE that shows nothing
prepared in that view or above, so that the block may be lost. An honest replica locks what it
commits before it says so, also across a restart. Knows: votes and claims. Must not know:
punishment. Source: docs/spec/pbft.md, "Evidence".
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from prsm.consensus.pbft.effects import Accuse
from prsm.consensus.pbft.opened import Opened
from prsm.consensus.pbft.votes import Tally
from prsm.protocol.signing import Kind

Tallies = Mapping[tuple[Kind, int], Tally]
VOTES: Final = (Kind.PREPARE, Kind.COMMIT)
_COMMIT: Final = Kind.COMMIT


@dataclass(frozen=True, slots=True)
class Past:
    """The votes of a decided height, as they were counted."""

    height: int
    epoch: int
    tallies: Tallies
    view_changes: Mapping[int, Opened]


def second_vote(tallies: Tallies, vote: Opened) -> Opened | None:
    """The signer's earlier PREPARE or COMMIT of the same view, if it was for another hash."""
    tally = tallies.get((vote.message.kind, vote.message.view))
    first = None if tally is None else tally.votes.get(vote.message.signer)
    return None if first is None or first.digest == vote.digest else first


def hidden_commit(tallies: Tallies, change: Opened) -> Opened | None:
    """The signer's COMMIT that its VIEW_CHANGE should have shown as prepared, and does not."""
    assert change.view_change is not None
    prepared = change.view_change.prepared
    shown = -1 if prepared is None else prepared.view
    for kind, view in sorted(tallies):
        if kind is _COMMIT and shown < view < change.message.view:
            commit = tallies[kind, view].votes.get(change.message.signer)
            if commit is not None:
                return commit
    return None


def hiding_change(changes: Mapping[int, Opened], commit: Opened) -> Opened | None:
    """The signer's VIEW_CHANGE that hides a COMMIT which came after it."""
    change = changes.get(commit.message.signer)
    if change is None or commit.message.kind is not _COMMIT:
        return None
    only = Tally()
    only.add(commit, 0)
    key = commit.message.kind, commit.message.view
    return None if hidden_commit({key: only}, change) is None else change


def accusation(opened: Opened, tallies: Tallies, changes: Mapping[int, Opened]) -> Accuse | None:
    """What a message proves against its signer, beside what is kept of its height."""
    other: Opened | None = None
    if opened.message.kind in VOTES:
        other = second_vote(tallies, opened)
        if other is None and changes:
            other = hiding_change(changes, opened)
    elif opened.message.kind is Kind.VIEW_CHANGE:
        other = hidden_commit(tallies, opened)
    return None if other is None else Accuse(other.message, opened.message)


def find(past: Iterable[Past], height: int, epoch: int) -> Past | None:
    """What is kept of a decided height."""
    return next((kept for kept in past if (kept.height, kept.epoch) == (height, epoch)), None)


def late(past: Iterable[Past], opened: Opened) -> Accuse | None:
    """What a message of a decided height proves against its signer."""
    kept = find(past, opened.message.height, opened.message.epoch)
    return None if kept is None else accusation(opened, kept.tallies, kept.view_changes)
