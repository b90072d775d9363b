"""Whether rows may stand together: read from the golden file, the manifest's word, the io table."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

from pathlib import Path

import msgspec
import pytest
import trio
from trio.testing import MockClock

from prsm.node.inference.joining import has_rows, join, read_golden, row_shape, take_rows
from prsm.node.inference.shards import ShardCache
from prsm.protocol.codec import encode
from prsm.protocol.messages.models import ROWS_TOUCHING, ModelManifest
from prsm.protocol.messages.pipe import Golden
from tests.tools.work import MODEL, AdderRunner, MemoryModels, given_rows, make_manifest

MANIFEST = make_manifest()
WHOLE = MANIFEST.shards[0]


def write_golden(folder: Path) -> Path:
    rows = given_rows(8)
    head = encode(Golden(tuple(tensor.head for tensor in rows)))
    data = b"".join(tensor.data for tensor in rows)
    path = folder / MANIFEST.files[WHOLE.golden].path
    path.write_bytes(len(head).to_bytes(4, "big") + head + data)
    return path


async def joined(nursery: trio.Nursery, folder: Path, manifest: ModelManifest) -> set[int]:
    """How many stood in the runs of eight requests that came at once."""
    shards = ShardCache(AdderRunner(manifest), MemoryModels(manifest, folder), is_joining=True)
    await nursery.start(shards.run)
    found: set[int] = set()

    async def ask(row: int) -> None:
        part = take_rows(given_rows(8), row, 1)
        ran = await line.ask(part, who=bytes([row]))
        assert [out.data for out in ran.outputs] == [o.data for o in await line.run(part)]
        found.add(ran.joined)

    async with shards.use(MODEL, WHOLE) as line, trio.open_nursery() as asking:
        for row in range(8):
            asking.start_soon(ask, row)
    return found


async def test_rows_are_joined_where_the_golden_file_shows_it(
    nursery: trio.Nursery, tmp_path: Path, autojump_clock: MockClock
) -> None:
    write_golden(tmp_path)
    assert max(await joined(nursery, tmp_path, MANIFEST)) > 1
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("case", ["no golden file", "rows touch"])
async def test_rows_run_alone_without_proof_or_against_the_manifest(
    nursery: trio.Nursery, tmp_path: Path, autojump_clock: MockClock, case: str
) -> None:
    manifest = MANIFEST
    if case == "rows touch":
        write_golden(tmp_path)
        compute = msgspec.structs.replace(MANIFEST.compute, options=f"cpu; {ROWS_TOUCHING}")
        manifest = msgspec.structs.replace(MANIFEST, compute=compute)
    assert await joined(nursery, tmp_path, manifest) == {1}
    nursery.cancel_scope.cancel()


def test_golden_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert read_golden(write_golden(tmp_path)) == given_rows(8)


def test_rows_come_out_as_they_went_in() -> None:
    rows = given_rows(6)
    parts = [take_rows(rows, first, 2) for first in (0, 2, 4)]
    assert join(parts) == rows
    assert row_shape(rows) == row_shape(parts[0])


def test_shard_with_a_fixed_first_axis_has_no_rows() -> None:
    assert has_rows(WHOLE)
    fixed = msgspec.structs.replace(WHOLE.outputs[0], shape=(4, "width"))
    assert not has_rows(msgspec.structs.replace(WHOLE, outputs=(fixed,)))
