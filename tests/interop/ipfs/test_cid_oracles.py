"""CIDs of 50 random files each, and of directories, against four programs that are not ours.

Needs `python scripts/ipfs_peers.py` once. Sizes lie on and beside the edges of chunks and nodes,
and anywhere between; seeds are fixed.
"""

from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
from pathlib import Path
from random import Random

import pytest

from prsm.protocol.limits import KIB, MIB
from prsm.storage.cid import hash_block
from prsm.storage.dag.dagpb import DIRECTORY_BYTES_MAX, ENTRIES_MAX, PbLink, encode_directory
from prsm.storage.dag.naming import name_path
from prsm.storage.dag.packing import pack, unpack
from prsm.storage.dag.unixfs import (
    LEGACY,
    PROFILES,
    UNIXFS_V1_2025,
    V1_1M_174,
    V1_256K_174,
    Profile,
)
from tests.tools.ipfs_peers import IpfsPeer, helia, js_ipfs, kubo, needs, oracle

FILES = 50
EDGES = (0, 1, 256 * KIB, MIB, 174 * 256 * KIB)


@pytest.fixture(scope="module")
def noise() -> bytes:
    return Random(11).randbytes(48 * MIB)


def sizes(seed: int) -> Iterator[int]:
    """Fifty: each edge with its neighbours, else small and large ones."""
    dice = Random(seed)
    near = [edge + step for edge in EDGES for step in (-1, 0, 1) if edge + step >= 0]
    yield from near
    for _ in range(FILES - len(near)):
        yield dice.randrange(dice.choice((KIB, 256 * KIB, 4 * MIB)))


async def compare(
    peer: IpfsPeer, folder: Path, noise: bytes, profiles: Callable[[int], Profile], seed: int
) -> int:
    """Add each file there, name it here; returns how many CIDs are equal."""
    equal = count = 0
    dice = Random(seed)
    for index, size in enumerate(sizes(seed)):
        start = dice.randrange(len(noise) - size + 1)
        path = folder / "file"
        path.write_bytes(noise[start : start + size])
        profile = profiles(index)
        theirs = await peer.add(path, profile)
        ours = name_path(path, profile).cid
        assert theirs == ours, (peer.kind, size, profile)
        equal += theirs == ours
        count += 1
    assert count == FILES
    return equal


def every(*profiles: Profile) -> Callable[[int], Profile]:
    return lambda index: profiles[index % len(profiles)]


def make_tree(folder: Path, dice: Random) -> dict[str, Path]:
    """Flat and nested, names of any script in an order that bytes alone decide; files by path."""
    names = ["a", "B", "\u00e4\u00f6", "\u4e2d\u6587", "a b", "a.b", "a-b", "0", "~", "\U0001f40d"]
    files: dict[str, Path] = {}
    for index in range(dice.randrange(1, 40)):
        path = folder.joinpath(
            *(dice.choice(names) + "d" for _ in range(dice.randrange(3))),
            f"{dice.choice(names)}{index}",
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(dice.randbytes(dice.randrange(2000)))
        files[str(path.relative_to(folder))] = path
    return files


class TestKubo:
    pytestmark = needs("kubo")

    async def test_fifty_directories(self, tmp_path: Path) -> None:
        """Hidden files and empty directories too."""
        async with kubo(tmp_path) as peer:
            for seed in range(FILES):
                folder = tmp_path / str(seed)
                make_tree(folder, Random(1000 + seed))
                (folder / ".hidden").write_bytes(b"hidden")
                (folder / "empty").mkdir()
                assert await peer.add(folder, LEGACY) == name_path(folder, LEGACY).cid

    async def test_fifty_files(self, tmp_path: Path, noise: bytes) -> None:
        async with kubo(tmp_path) as peer:
            assert await compare(peer, tmp_path, noise, every(LEGACY), 1) == FILES


class TestHelia:
    pytestmark = needs("helia")

    async def test_fifty_files_of_every_profile(self, tmp_path: Path, noise: bytes) -> None:
        async with helia() as peer:
            for seed, profile in enumerate(PROFILES.values(), 100):
                assert await compare(peer, tmp_path, noise, every(profile), seed) == FILES


class TestJsIpfs:
    pytestmark = needs("js-ipfs")

    async def test_fifty_files_and_a_car_both_ways(self, tmp_path: Path, noise: bytes) -> None:
        """Its width is 174; what it exports is unpacked here, and what is packed here is taken."""
        async with js_ipfs(tmp_path) as peer:
            known = every(LEGACY, V1_256K_174, V1_1M_174)
            assert await compare(peer, tmp_path, noise, known, 3) == FILES
            for profile, size in (
                (LEGACY, 3 * MIB),
                (V1_256K_174, 45 * MIB),
                (UNIXFS_V1_2025, MIB),
            ):
                path, back = tmp_path / "in", tmp_path / f"out-{profile.name}"
                path.write_bytes(noise[:size])
                cid = await peer.add(path, profile)
                theirs = await peer.call("dag/export", {"arg": cid})
                found = unpack(BytesIO(theirs), back, size_max=len(noise))
                assert profile.text(found.root) == cid
                assert back.read_bytes() == path.read_bytes()
                path.write_bytes(noise[1 : 2 * size])
                ours = BytesIO()
                tree = pack(path, ours, profile)
                await peer.call("dag/import", body=ours.getvalue())
                target = tmp_path / f"cat-{profile.name}"
                await peer.cat(tree.cid, target)
                assert target.read_bytes() == path.read_bytes()


class TestImporter:
    pytestmark = needs("oracle")

    async def test_fifty_files_of_every_profile(self, tmp_path: Path, noise: bytes) -> None:
        async with oracle() as peer:
            for seed, profile in enumerate(PROFILES.values(), 200):
                assert await compare(peer, tmp_path, noise, every(profile), seed) == FILES

    async def test_fifty_directories(self, tmp_path: Path) -> None:
        async with oracle() as peer:
            for seed in range(FILES):
                dice, folder = Random(seed), tmp_path / str(seed)
                files = make_tree(folder, dice)
                profile = dice.choice(tuple(PROFILES.values()))
                assert await peer.folder(files, profile) == name_path(folder, profile).cid

    async def test_largest_flat_directory(self, tmp_path: Path) -> None:
        """As many entries, in as many bytes, as are not a HAMT here: they are none there either."""
        folder = tmp_path / "d"
        folder.mkdir()
        files = {}
        for index in range(ENTRIES_MAX):
            path = folder / f"{index:019}"
            path.touch()
            files[path.name] = path
        assert len(encode_directory(links(files))) > DIRECTORY_BYTES_MAX - 16 * KIB
        async with oracle() as peer:
            for profile in (UNIXFS_V1_2025, V1_256K_174):
                assert await peer.folder(files, profile) == name_path(folder, profile).cid


def links(names: Iterable[str]) -> dict[str, PbLink]:
    return {name: PbLink(hash_block(b""), 0, 0) for name in names}
