"""SIGKILL at each record kind; homes copied and brought back: never two votes in one place.

The long run: `scripts/powerloss.py kills`.
"""

from pathlib import Path

import pytest

from prsm.consensus.pbft import certificates, statuses
from prsm.consensus.pbft.state import State
from prsm.node.chain.signfiles import SignFiles
from prsm.protocol.codec import encode
from prsm.protocol.ed25519 import Ed25519Signer
from prsm.protocol.messages.consensus import SignedMessage, ViewChange, sign_message
from prsm.protocol.signing import Kind
from tests.tools.power.kills import HOMES, MOMENTS, Universe
from tests.tools.power.witness import Witness

SIGNER = Ed25519Signer(bytes(32))
CHAIN_ID = b"testnet1"


def vote(kind: Kind, *, view: int = 0, mark: bytes = b"a") -> SignedMessage:
    body = encode(ViewChange(None, None)) if kind is Kind.VIEW_CHANGE else mark * 32
    return sign_message(SignedMessage(kind, 0, 1, view, body, 0, b""), SIGNER, CHAIN_ID)


@pytest.mark.slow
def test_killed_validator_never_signs_twice(tmp_path: Path) -> None:
    """The first six of the shuffled moments; the long run has all of them.

    How much a life says before its moment comes, and whether it comes at all, is the machine's
    matter; and a network is spent once another home of the validator has signed. So: kills in one
    network after the other, until the validator has had its part in them.
    """
    kills = acked = commits = 0
    for seed in range(4, 10):
        folder = tmp_path / str(seed)
        folder.mkdir(mode=0o700)
        tally = Universe(seed, folder).run(max(2, 6 - kills))
        assert tally.faults == []
        kills += tally.kills
        acked += tally.acked
        commits += tally.kinds["COMMIT"]
        if kills >= 6 and commits > 10 and acked > 20:
            return
    pytest.fail(f"{kills} kills, {commits} votes to commit and {acked} transactions are too few")


@pytest.mark.slow
@pytest.mark.parametrize("which", ["older copy", "rolled back in place"])
def test_home_that_was_brought_back_never_signs_twice(tmp_path: Path, which: str) -> None:
    """A copy is an observer; what the disk cannot tell, the peers do."""
    _bring_back(tmp_path, which)


@pytest.mark.long
@pytest.mark.parametrize("which", HOMES)
def test_every_home_that_was_brought_back_never_signs_twice(tmp_path: Path, which: str) -> None:
    _bring_back(tmp_path, which)


def _bring_back(folder: Path, which: str) -> None:
    universe = Universe(2, folder)
    universe.kill("Locked", "synced")
    universe.try_home(which)
    assert universe.tally.faults + universe.witness.faults == []
    assert universe.tally.homes == {which: 1}


def test_every_record_kind_has_its_moments() -> None:
    kinds = {what for what, _ in MOMENTS}
    assert kinds >= {
        "Voted PROPOSE",
        "Held",
        "Voted PREPARE",
        "Locked",
        "Left",
        "Entered",
        "LowMark",
    }
    assert kinds >= {"ledger commit", "segment", "any time"}


def test_witness_sees_a_second_vote_an_old_view_and_a_hidden_prepare() -> None:
    """The judge of the runs above is no yes-man."""
    twice = Witness(SIGNER.public_key, CHAIN_ID)
    twice.hear(vote(Kind.PREPARE))
    twice.hear(vote(Kind.PREPARE))
    assert not twice.faults
    twice.hear(vote(Kind.PREPARE, mark=b"b"))
    assert "two different PREPARE" in twice.faults[0]
    late = Witness(SIGNER.public_key, CHAIN_ID)
    late.hear(vote(Kind.VIEW_CHANGE, view=1))
    late.hear(vote(Kind.PREPARE))
    assert "after leaving" in late.faults[0]
    hidden = Witness(SIGNER.public_key, CHAIN_ID)
    hidden.hear(vote(Kind.COMMIT))
    hidden.hear(vote(Kind.VIEW_CHANGE, view=1))
    assert "hides what was prepared" in hidden.faults[0]
    assert not Witness(bytes(32), CHAIN_ID).hear(vote(Kind.PREPARE))  # somebody else's


@pytest.mark.long
def test_validator_that_keeps_no_log_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: its peers remember its votes, so after a kill it is told and observes.

    Most kills do no harm even so: what was voted for is decided before the next life begins.
    Whether one falls between a vote and its decision is chance, and a network is spent once
    another home of the validator has signed. So: as often as it takes; ten kills may show none.
    """
    monkeypatch.setattr(SignFiles, "append", lambda _self, _records: None)
    for seed in range(20):
        folder = tmp_path / str(seed)
        folder.mkdir(mode=0o700)
        if Universe(seed, folder).run(10).faults:
            return
    pytest.fail("a validator without a log was killed in twenty networks, and none noticed")


@pytest.mark.long
def test_rolled_back_validator_that_hears_nobody_signs_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: where nobody shows it votes and heights, an old home votes again."""

    def only_ready(state: State) -> None:
        state.is_ready = True

    monkeypatch.setattr(statuses, "_check_own_vote", lambda _state, _message: None)
    monkeypatch.setattr(certificates, "check_certificate_for_own", lambda *_shown: None)
    monkeypatch.setattr(statuses, "weigh_claims", only_ready)
    universe = Universe(2, tmp_path)
    tries = 0
    while not any("two different" in fault for fault in universe.witness.faults):
        # Whether the vote that the old home lacks is one it gives again is chance: one in six.
        assert tries < 100, universe.witness.faults
        tries += 1
        universe.kill("Locked", "synced")
        universe.try_home("rolled back in place")
