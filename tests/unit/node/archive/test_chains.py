"""Export and import of a ledger's blocks: the same root, or a refusal that names the height."""

import json
from pathlib import Path

import msgspec
import pytest

from prsm.consensus.pbft.records import Voted, pack
from prsm.node.archive.__main__ import main
from prsm.node.archive.chains import (
    ChainGap,
    OtherChain,
    export_chain,
    import_chain,
    opened_ledger,
)
from prsm.node.archive.replay import BadChain
from prsm.node.chain.chain import read_ledger
from prsm.node.chain.signfiles import open_signfiles
from prsm.node.chain.sync import encode_certified
from prsm.node.home import Home
from prsm.protocol.codec import encode
from prsm.protocol.genesis import from_json
from prsm.protocol.headers import block_hash
from prsm.protocol.signing import Kind, sha256
from prsm.storage.chainfile import BadChainFile, ChainFile
from prsm.storage.disk import PosixDisk
from prsm.storage.errors import NotFound
from prsm.storage.ledger import LedgerStore
from prsm.testnet.chain import Chain, Made, altered
from tests.tools.archives import fill, make_chain, make_home, records_of, save_chain


@pytest.fixture(scope="module")
def chain() -> Chain:
    return make_chain(6)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path / "home")


async def height_and_root(home: Home) -> tuple[int, bytes]:
    store = await LedgerStore.open(home.data / "ledger.db")
    try:
        ledger, tip = await read_ledger(store, from_json(home.genesis.read_bytes()))
        assert tip.height == ledger.height
        return ledger.height, ledger.state_root
    finally:
        await store.close()


async def test_export_and_import_end_with_the_same_state(
    home: Home, tmp_path: Path, chain: Chain
) -> None:
    await fill(home, chain)
    whole = (6, chain.ledger.state_root)
    assert await height_and_root(home) == whole
    path = tmp_path / "chain"
    said = await export_chain(home, path, first=1, last=None)
    assert isinstance(said, dict)
    assert (said["first"], said["last"]) == (1, 6)
    other = make_home(tmp_path / "other")
    await import_chain(other, path)
    assert await height_and_root(other) == whole
    again = await import_chain(other, path)
    assert isinstance(again, dict)
    assert (again["imported"], again["height"]) == (0, 6)


async def test_import_goes_on_where_the_ledger_stands(
    home: Home, tmp_path: Path, chain: Chain
) -> None:
    records = records_of(chain)
    await import_chain(home, save_chain(tmp_path / "a", records[:2]))
    await import_chain(home, save_chain(tmp_path / "b", records[1:4], first=2))
    with pytest.raises(ChainGap, match=r"begins at height 6, the ledger ends at 4"):
        await import_chain(home, save_chain(tmp_path / "d", records[5:], first=6))
    await import_chain(home, save_chain(tmp_path / "c", records[4:], first=5))
    assert await height_and_root(home) == (6, chain.ledger.state_root)


def observer(home: Home, height: int, *records: bytes) -> str | None:
    """What a start at this height finds; these records are put into the log then."""
    opened = open_signfiles(PosixDisk(), home.data, ledger_height=height)
    if records:
        opened.files.append(records)
    opened.files.close()
    return opened.observer


async def test_import_under_a_log_that_never_held_a_vote_makes_an_observer(
    home: Home, tmp_path: Path, chain: Chain
) -> None:
    """A home that lost everything and was started once has a log, and looks like a new one."""
    assert observer(home, 0) is None
    path = save_chain(tmp_path / "a", records_of(chain)[:3])
    await import_chain(home, path)
    assert observer(home, 3)


@pytest.mark.parametrize(("key", "blocks", "forgot"), [(0, 1, False), (0, 2, True), (9, 2, False)])
async def test_import_shows_a_vote_that_an_old_log_lacks(
    home: Home, tmp_path: Path, chain: Chain, *, key: int, blocks: int, forgot: bool
) -> None:
    """Of an old backup or a disk that lied; a vote of the next height that it holds is well."""
    home.consensus_key.write_bytes(sha256(b"prsm test key", key.to_bytes(4, "big")))
    assert all(0 in made.certificate.signer_indexes() for made in chain.made)
    digest = block_hash(chain.made[0].block.header)
    assert observer(home, 0, pack(Voted(Kind.COMMIT, 0, 1, 0, digest))) is None
    await import_chain(home, save_chain(tmp_path / "a", records_of(chain)[:blocks]))
    assert bool(observer(home, blocks)) is forgot


async def test_another_network_and_another_history_are_refused(
    home: Home, tmp_path: Path, chain: Chain
) -> None:
    records = records_of(chain)
    foreign = save_chain(tmp_path / "foreign", records, genesis=b"x" * 32)
    with pytest.raises(OtherChain, match="network with genesis 7878"):
        await import_chain(home, foreign)
    await import_chain(home, save_chain(tmp_path / "a", records[:3]))
    fork = records_of(make_chain(5, amount=2_000))
    with pytest.raises(OtherChain, match="another block at height 3"):
        await import_chain(home, save_chain(tmp_path / "fork", fork))
    assert (await height_and_root(home))[0] == 3


def forged(chain: Chain, made: Made, how: str) -> bytes:
    block, certificate = made.block, made.certificate
    match how:
        case "the state root":
            block = altered(block, state_root=bytes(32))
            certificate = chain.certify(block.header)
        case "the previous hash":
            block = altered(block, prev_hash=bytes(32))
            certificate = chain.certify(block.header)
        case "the body":
            body = msgspec.structs.replace(block.body, transactions=())
            block = msgspec.structs.replace(block, body=body)
        case "too few signers":
            certificate = chain.certify(block.header, signers=(0, 1))
        case "a signature":
            signatures = (bytes(64), *certificate.signatures[1:])
            certificate = msgspec.structs.replace(certificate, signatures=signatures)
        case "another certificate":
            certificate = chain.made[0].certificate
        case _:
            raise AssertionError(how)
    return encode_certified(encode(block), encode(certificate))


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("the state root", "state root"),
        ("the previous hash", "previous hash"),
        ("the body", "body"),
        ("too few signers", "weight"),
        ("a signature", "signature of validator 0"),
        ("another certificate", "another block"),
    ],
)
async def test_a_forged_block_is_named_and_the_blocks_before_it_stay(
    home: Home, tmp_path: Path, chain: Chain, how: str, why: str
) -> None:
    """The file's checksum holds: somebody wrote it so. Height 4 is forged."""
    records = records_of(chain)
    records[3] = forged(chain, chain.made[3], how)
    with pytest.raises(BadChain, match="block 4") as caught:
        await import_chain(home, save_chain(tmp_path / "chain", records))
    assert why in caught.value.what
    assert (await height_and_root(home))[0] == 3


async def test_a_damaged_file_is_refused_by_height_before_anything_is_stored(
    home: Home, tmp_path: Path, chain: Chain
) -> None:
    path = save_chain(tmp_path / "chain", records_of(chain))
    raw = path.read_bytes()
    place = raw.index(chain.made[4].block.header.tx_root)
    path.write_bytes(raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :])
    with pytest.raises(BadChain, match="block 5"):
        await import_chain(home, path)
    path.write_bytes(raw[: place + 20])
    with pytest.raises(BadChainFile, match="height 5"):
        await import_chain(home, path)
    path.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    with pytest.raises(BadChainFile, match="checksum"):
        await import_chain(home, path)
    assert (await height_and_root(home))[0] == 0


async def test_export_refuses_heights_that_are_not_there(
    home: Home, tmp_path: Path, chain: Chain
) -> None:
    with pytest.raises(NotFound, match="ends at 0"):
        await export_chain(home, tmp_path / "chain", first=1, last=None)
    await fill(home, chain)
    for first, last in ((3, 7), (5, 4), (7, None)):
        with pytest.raises(NotFound, match="ends at 6"):
            await export_chain(home, tmp_path / "chain", first=first, last=last)
    assert not (tmp_path / "chain").exists()


def test_the_program_says_one_document_and_the_exit_code_of_the_registry(
    home: Home, tmp_path: Path, chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save_chain(tmp_path / "chain", records_of(chain))
    words = ["--home", str(home.root), "import", str(path)]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["state_root"] == (
        "0x" + chain.ledger.state_root.hex()
    )
    with home.hold():
        assert main(words) == 1
    fault = json.loads(capsys.readouterr().out)["error"]
    assert fault["data"]["reason"] == "home_locked"
    assert main(["--home", str(tmp_path / "none"), "import", str(path)]) == 2
    path.write_bytes(b"nothing")
    assert main(words) == 6


async def prune(home: Home, below: int) -> None:
    async with opened_ledger(home.data / "ledger.db") as store:
        assert await store.prune(below, count_max=99) == below - 1


async def test_pruned_ledger_exports_what_it_holds_and_says_from_where(
    chain: Chain, home: Home, tmp_path: Path
) -> None:
    """Blocks 1 and 2 are gone: asked for, they are refused with the first height there is."""
    await fill(home, chain)
    await prune(home, 3)
    with pytest.raises(NotFound, match="below height 3"):
        await export_chain(home, tmp_path / "whole", first=1, last=None)
    assert not (tmp_path / "whole").exists()
    await export_chain(home, tmp_path / "rest", first=3, last=None)
    assert ChainFile.open(tmp_path / "rest").head.first == 3
    other = make_home(tmp_path / "other")
    with pytest.raises(ChainGap):
        await import_chain(other, tmp_path / "rest")
    await fill(other, chain)
    imported = await import_chain(other, tmp_path / "rest")
    assert isinstance(imported, dict)
    assert imported["imported"] == 0
