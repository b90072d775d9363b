"""What peers read is leased: once a pair, renewed, given back when the peer is lost."""

from prsm.node.net.readers import READERS_MAX, Readers
from prsm.protocol.ids import PeerId
from prsm.storage.cid import hash_block
from prsm.storage.store.leases import LEASE_MS, RENEW_MS, Leases

ONE, TWO = PeerId("one"), PeerId("two")
ROOT = hash_block(b"root")


class World:
    def __init__(self) -> None:
        self.now_ms = 1_000
        self.leases = Leases(lambda: self.now_ms)
        self.readers = Readers(self.leases)

    def read(self, peer: PeerId, root: bytes = b"root") -> None:
        self.readers.note(peer, hash_block(root), now_s=self.now_ms / 1000)


def test_each_pair_has_one_lease_that_is_renewed_while_it_reads() -> None:
    world = World()
    for _ in range(20):
        world.read(ONE)
        world.read(TWO)
        world.now_ms += RENEW_MS // 2
    granted = world.leases.granted(ROOT)
    assert [lease.holder for lease in granted] == ["peer one", "peer two"]
    world.now_ms += LEASE_MS
    assert world.leases.granted() == []
    world.read(ONE)
    assert len(world.leases.granted(ROOT)) == 1


def test_lost_peer_gives_its_leases_back() -> None:
    world = World()
    world.read(ONE)
    world.read(ONE, b"other")
    world.read(TWO)
    world.readers.forget(ONE)
    assert [lease.holder for lease in world.leases.granted()] == ["peer two"]


def test_readers_are_bounded() -> None:
    world = World()
    for number in range(READERS_MAX + 10):
        world.read(ONE, b"%d" % number)
    assert len(world.leases.granted()) == READERS_MAX


def test_file_that_is_being_removed_is_not_leased() -> None:
    world = World()
    with world.leases.claim(ROOT):
        world.read(ONE)
        assert world.leases.granted() == []
    world.read(ONE)
    assert len(world.leases.granted()) == 1
