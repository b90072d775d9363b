"""One battery for the `Index` port: SQLite, and dictionaries."""

from pathlib import Path

from prsm.storage.store.blockstore import BlockIndex
from prsm.storage.store.index import Index
from tests.tools.index_battery import check_index
from tests.tools.memory_index import MemoryIndex


async def test_sqlite_is_an_index(tmp_path: Path) -> None:
    async def make() -> Index:
        return await BlockIndex.open(tmp_path / "index.db")

    await check_index(make)


async def test_memory_is_an_index() -> None:
    index = MemoryIndex()

    async def make() -> Index:
        return index

    await check_index(make)
