"""One battery for blocks by digest, over an index in SQLite and one in memory."""

from pathlib import Path

from prsm.storage.store.model_store import ModelStore
from tests.tools.block_battery import QUOTA, check_block_store
from tests.tools.memory_index import MemoryIndex
from tests.tools.stores import store_over


async def test_blocks_in_sqlite(tmp_path: Path) -> None:
    async def make() -> ModelStore:
        return await ModelStore.open(tmp_path, quota=QUOTA)

    await check_block_store(make)


async def test_blocks_in_memory(tmp_path: Path) -> None:
    index = MemoryIndex()

    async def make() -> ModelStore:
        return await store_over(index, tmp_path, QUOTA)

    await check_block_store(make)
