"""The battery for `Source` on the reference source; transports run it in their own tests."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from prsm.storage.interfaces import Source
from prsm.storage.store.model_store import ModelStore
from tests.tools.range_peers import served_store
from tests.tools.source_battery import check_source
from tests.tools.sources import StoreSource


@asynccontextmanager
async def store_source(store: ModelStore) -> AsyncIterator[Source]:
    yield StoreSource(store)


async def test_store_source_is_a_source(tmp_path: Path) -> None:
    await check_source(tmp_path, store_source)


async def test_range_streams_are_a_source(tmp_path: Path) -> None:
    await check_source(tmp_path, served_store)
