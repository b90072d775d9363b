"""Headers bind bodies; statements keep kinds, networks and places apart."""

import msgspec
import pytest

from prsm.protocol.errors import WireError
from prsm.protocol.headers import Block, block_hash, is_bound
from prsm.protocol.messages.consensus import message_digest
from prsm.protocol.signing import Kind, sha256, statement
from prsm.testnet.chain import Chain, altered, small_genesis


@pytest.fixture
def block() -> Block:
    chain = Chain(small_genesis())
    chain.add()
    return chain.propose(b"one", b"two", evidence=[b"three"])


def test_header_binds_every_part_of_the_body(block: Block) -> None:
    assert is_bound(block)
    for changes in ({"prev_cert": None}, {"evidence": ()}, {"transactions": (b"two", b"one")}):
        body = msgspec.structs.replace(block.body, **changes)
        assert not is_bound(msgspec.structs.replace(block, body=body))


def test_hash_names_the_header(block: Block) -> None:
    assert block_hash(block.header) != block_hash(altered(block, view=1).header)


def test_statements_of_other_kinds_networks_and_places_differ() -> None:
    def of(chain: bytes, kind: Kind, *, epoch: int = 1, height: int = 2, view: int = 3) -> bytes:
        return statement(chain, kind, epoch=epoch, height=height, view=view, digest=bytes(32))

    found = {of(b"chain-id", kind) for kind in Kind}
    found.add(of(b"other-id", Kind.COMMIT))
    found.add(of(b"chain-id", Kind.COMMIT, epoch=9))
    found.add(of(b"chain-id", Kind.COMMIT, height=9))
    found.add(of(b"chain-id", Kind.COMMIT, view=9))
    assert len(found) == len(Kind) + 4
    assert all(len(raw) == 62 for raw in found)


def test_message_digest_is_the_hash_a_vote_carries() -> None:
    assert message_digest(Kind.PREPARE, b"x" * 32) == b"x" * 32
    assert message_digest(Kind.NEW_VIEW, b"body") == sha256(b"body")
    with pytest.raises(WireError, match="31 bytes"):
        message_digest(Kind.COMMIT, b"x" * 31)
    with pytest.raises(WireError):
        message_digest(Kind.PROPOSE, b"junk")
