"""What a node remembers of workers is there after a restart, and its file never stops a start."""

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from prsm.node.inference.serving.health import HealthBook
from prsm.node.work.serving import SAVE_S, ServingRoom, load_health

pytestmark = pytest.mark.usefixtures("no_threads")


class Quiet:
    """Stands in for `Serving`: it runs, and has a book."""

    def __init__(self) -> None:
        self.health = HealthBook()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        await trio.sleep_forever()


def known(path: Path) -> HealthBook:
    book = HealthBook()
    load_health(book, path)
    return book


async def test_workers_are_remembered_now_and_then_and_at_the_end(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    del autojump_clock
    path, quiet = tmp_path / "workers", Quiet()
    serving: object = quiet
    room = ServingRoom(serving, None, path)  # type: ignore[arg-type]  # a stand-in for Serving
    health = quiet.health
    async with trio.open_nursery() as nursery:
        await nursery.start(room.run)
        await trio.sleep(SAVE_S + 1)
        assert not path.exists(), "there was nothing to save"
        health.note_answer(health.of(b"m", b"w"), rows=3, took_ms=1, now_ms=5)
        await trio.sleep(SAVE_S)
        assert known(path).of(b"m", b"w").rows == 3
        health.note_answer(health.of(b"m", b"w"), rows=4, took_ms=1, now_ms=6)
        nursery.cancel_scope.cancel()
    assert known(path).of(b"m", b"w").rows == 7


@pytest.mark.parametrize("raw", [b"", b"damaged"])
def test_damaged_file_is_begun_anew(raw: bytes, tmp_path: Path) -> None:
    path = tmp_path / "workers"
    path.write_bytes(raw)
    assert list(known(path).list()) == []


def test_file_that_cannot_be_read_is_no_failure(tmp_path: Path) -> None:
    assert list(known(tmp_path).list()) == []
