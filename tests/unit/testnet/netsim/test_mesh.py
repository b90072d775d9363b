"""The model of the gossip mesh keeps to what libp2p 0.8.1 does with our settings."""

import inspect
from random import Random

from libp2p.pubsub.gossipsub import GossipSub

from prsm.node.net import calls, entry, gossip, peers, redials
from prsm.protocol import limits
from prsm.testnet.netsim import dials, mesh
from prsm.testnet.netsim.mesh import DEGREE, DEGREE_HIGH, DEGREE_LOW, Mesh


def test_constants_are_those_of_libp2p_and_of_the_node() -> None:
    """An upgrade, or another setting, must be followed here."""
    defaults = inspect.signature(GossipSub.__init__).parameters
    assert defaults["gossip_window"].default == mesh.WINDOW
    assert defaults["gossip_history"].default == mesh.HISTORY
    assert defaults["prune_back_off"].default * 1000 == mesh.BACK_OFF_MS
    assert gossip.GOSSIP_HEARTBEAT_S * 1000 == mesh.HEARTBEAT_MS
    source = inspect.getsource(gossip)
    for setting in (f"degree={DEGREE}", f"degree_low={DEGREE_LOW}", f"degree_high={DEGREE_HIGH}"):
        assert setting in source
    assert limits.PEERS_MAX == dials.LINKS_MAX
    assert entry.INBOUND_MAX == dials.INBOUND_MAX
    assert peers.DIAL_DEADLINE_S * 1000 == dials.DIAL_DEADLINE_MS
    assert redials.REDIAL_LONGEST_S * 1000 == dials.REDIAL_LONGEST_MS
    assert dials.MISSED_MS[0] == calls.HEARTBEAT_S * 1000 * calls.HEARTBEATS_MISSED_MAX


def test_small_mesh_is_filled_and_a_large_one_falls_back() -> None:
    links = dict.fromkeys(range(40), True)
    node = Mesh(links, Random(1))
    beat = node.heartbeat(0)
    assert (len(beat.grafts), beat.prunes, beat.listeners, beat.told) == (DEGREE, [], [], ())
    sizes = []
    for second in range(1, 12):
        prunes = node.heartbeat(1_000 * second).prunes
        sizes.append(len(node.members))
        assert not prunes or len(prunes) >= DEGREE_HIGH + 1 - DEGREE
    assert max(sizes) == DEGREE_HIGH + 2
    assert DEGREE <= min(sizes) <= DEGREE + 2


def test_told_is_what_is_recent_to_peers_outside_the_mesh() -> None:
    node = Mesh(dict.fromkeys(range(60), True), Random(1))
    node.heartbeat(0)
    node.keep(7)
    for second in (1, 2, 3):
        beat = node.heartbeat(1_000 * second)
        assert beat.told == (7,)
        assert len(beat.listeners) >= mesh.LAZY_MIN
        assert not set(beat.listeners) & set(node.members)
    assert node.kept((7, 8)) == (7,)
    node.heartbeat(4_000)
    assert node.recent() == ()
    assert node.kept((7,)) == (7,)  # kept longer than told of
    node.heartbeat(5_000)
    assert node.kept((7,)) == ()


def test_pruned_peer_is_refused_for_a_minute() -> None:
    node = Mesh({1: True, 2: True}, Random(1))
    assert node.joined(1, 0)
    node.on_prune(1, 0)
    assert not node.members
    assert not node.joined(1, 59_000)
    assert not node.on_graft(1, 5_000)  # at once
    assert not node.on_graft(1, 50_000)  # backs off, and starts again
    assert not node.on_graft(1, 109_000)
    assert node.on_graft(2, 0)
    assert node.on_graft(1, 170_000)
    node.left(1)
    node.left(1)
    assert list(node.members) == [2]
    node.clear()
    assert not node.members


def test_mesh_keeps_to_libp2p_when_some_peers_are_worth_more() -> None:
    """The same case as in the node's own test of libp2p: prunes, grafts and who is left."""
    useful = set(range(8, 16))
    node = Mesh(dict.fromkeys(range(17), True), Random(1), lambda peer: int(peer in useful))
    node.members.update(dict.fromkeys(range(14)))
    beat = node.heartbeat(0)
    assert set(beat.grafts) == {14, 15}
    assert set(beat.prunes) == set(range(8))
    assert set(node.members) == useful
    beat = node.heartbeat(1_000)
    assert (beat.grafts, beat.prunes) == ([], [])


def test_one_worthless_member_a_second_is_exchanged() -> None:
    useful = set(range(6, 16))
    node = Mesh(dict.fromkeys(range(16), True), Random(1), lambda peer: int(peer in useful))
    node.members.update(dict.fromkeys((0, 1, 2, 6, 7, 8, 9)))
    node._refused.update(dict.fromkeys(range(11, 16), 60_000))
    beat = node.heartbeat(0)
    assert beat.prunes == []  # 10 was grafted; nobody better is left to exchange for
    assert beat.grafts == [10]
    node._refused.clear()
    node.members.pop(10)
    node._refused.update(dict.fromkeys(range(13, 16), 60_000))
    beat = node.heartbeat(0)
    assert len(beat.grafts) == 3
    assert len(beat.prunes) == 1
    assert beat.prunes[0] in {0, 1, 2}
    assert not node.joined(beat.prunes[0], 10_000)
