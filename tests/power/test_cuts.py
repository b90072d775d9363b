"""Power cuts: whatever a start finds, what was acknowledged is there and every vote binds.

A recorded run is cut at sampled places. The long run: `scripts/powerloss.py cuts` and `lies`.
The controls plant what the harness is there to find.
"""

import sqlite3
from random import Random

import pytest

from prsm.storage import database
from tests.tools.power.cuts import lying, ordinary
from tests.tools.power.disk import RecordedFile
from tests.tools.power.record import Recording, record
from tests.tools.power.tape import Begin, Cut, Names, Note, Platter, Sync, SyncFolder, Tape, Write

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def recording() -> Recording:
    return record(1, rounds=2, blocks=14)


async def test_honest_disk_loses_nothing_and_makes_no_observer(recording: Recording) -> None:
    cuts = await ordinary(recording, 250, seed=1)
    assert not cuts.faults, cuts.faults[:3]
    assert cuts.outcomes == {"whole": 250}
    assert cuts.twice > 10
    assert cuts.acknowledged > 1_000
    assert cuts.votes > 1_000


async def test_disk_that_lies_is_noticed_and_the_chain_comes_back(recording: Recording) -> None:
    """How many nodes had to come back from peers depends on what was recorded: more cuts, then."""
    resynced = 0
    for seed in (1, 2, 3):
        cuts = await lying(recording, 150, seed=seed)
        assert not cuts.faults, cuts.faults[:3]
        lost = sum(count for outcome, count in cuts.outcomes.items() if outcome != "whole")
        assert lost > 50
        resynced += cuts.resynced
        if resynced > 3:
            break
    assert resynced > 3


async def test_tape_can_be_kept(recording: Recording) -> None:
    """A failing place is looked at again on the same tape."""
    again = Tape.load(recording.tape.save())
    assert again.operations == recording.tape.operations


@pytest.fixture
def control(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Recording:
    """A run of a node with a planted bug."""
    match request.param:
        case "ledger":
            prepare = database._prepare

            def weaker(connection: sqlite3.Connection) -> None:
                prepare(connection)
                connection.execute("PRAGMA synchronous=NORMAL")

            monkeypatch.setattr(database, "_prepare", weaker)
        case _:
            monkeypatch.setattr(RecordedFile, "fdatasync", lambda _self: None)
    recording = record(1, rounds=1, blocks=10)
    monkeypatch.undo()
    return recording


@pytest.mark.parametrize(
    ("control", "seen"),
    [("ledger", "transactions missing"), ("log", "observer")],
    indirect=["control"],
)
async def test_node_that_does_not_sync_is_seen(control: Recording, seen: str) -> None:
    """synchronous=NORMAL loses acknowledged blocks, a log without fdatasync loses votes."""
    cuts = await ordinary(control, 120, seed=1)
    assert any(seen in outcome for outcome in cuts.outcomes), cuts.outcomes


def test_platter_keeps_what_was_synced_and_samples_the_rest() -> None:
    """Synced bytes and names stay; each later write is lost, kept, torn or only lengthens."""
    platter = Platter()
    for operation in (
        Names((("log", 1),)),
        Write(1, 0, b"a" * 1024),
        Sync(1, folder=False),
        SyncFolder(),
        Write(1, 1024, b"b" * 1024),
        Cut(1, 2000),
        Names((("log.new", 2),)),
    ):
        platter.play(operation)
    seen = {tuple(platter.settle(Random(seed)).items()) for seed in range(200)}
    contents = {dict(state)["log"][1] for state in seen}
    assert all(content.startswith(b"a" * 1024) for content in contents)
    sizes = {len(content) for content in contents}
    assert {1024, 1536, 2048} <= sizes
    assert {len(state) for state in seen} == {1, 2}
    assert platter.whole()["log"][1] == b"a" * 1024 + b"b" * 976


def test_sync_that_lies_does_nothing() -> None:
    platter = Platter()
    platter.play(Begin((("log", 1, b"old"),)))
    platter.play(Write(1, 0, b"new"))
    platter.play(Sync(1, folder=True), lie=True)
    platter.play(Note("sent", b""))
    assert {platter.settle(Random(seed))["log"][1] for seed in range(40)} >= {b"old", b"new"}
