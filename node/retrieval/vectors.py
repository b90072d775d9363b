"""The process of vectors as the daemon sees it: started when asked, ended when idle or broken.

Knows frames and pipes. Must not know numpy: vectors are bytes here. A call that is cut off or
answered wrongly ends the process; what it acknowledged is on disk.
"""

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import trio

import prsm
from prsm.node.retrieval.errands import Errands
from prsm.protocol.codec import Record
from prsm.protocol.errors import LocalError, WireError
from prsm.storage.vectors.interface import BATCH_MAX, LIMIT_MAX, Condition, Entry, Hit, Label
from prsm.storage.vectors.messages import (
    HEAD,
    Count,
    Counted,
    Listed,
    ListIds,
    Put,
    Rebuild,
    Refused,
    Remove,
    Search,
    asked_of,
    hit_of,
    pack,
    put_of,
    unpack,
    unpack_head,
)

IDLE_SECONDS: Final = 60.0
_END_SECONDS: Final = 5.0
_ENVIRONMENT: Final = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONPATH": str(Path(prsm.__file__).parents[1]),
    "PATH": os.defpath,
    "LANG": "C.UTF-8",
}


class VectorsFailed(LocalError):
    """The process of vectors died, answered what it never answers, or refused."""

    reason = "store_unavailable"


class _Spoken:
    """A running process."""

    def __init__(self, process: trio.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process, self._stdin, self._stdout = process, process.stdin, process.stdout
        self.is_usable = True

    async def do(self, ask: Record) -> Record:
        """One call and its answer."""
        self.is_usable = False  # until the answer is read whole
        try:
            await self._stdin.send_all(pack(ask))
            size, kind = unpack_head(await self._exactly(HEAD.size))
            answer = unpack(kind, await self._exactly(size))
        except (trio.BrokenResourceError, trio.ClosedResourceError, WireError) as error:
            raise VectorsFailed(
                f"the process of vectors broke off: {error}", hint="look into the log of the node"
            ) from error
        self.is_usable = True
        if isinstance(answer, Refused):
            raise VectorsFailed(answer.what, hint=answer.hint)
        return answer

    async def _exactly(self, size: int) -> bytes:
        raw = bytearray()
        while len(raw) < size:
            part = await self._stdout.receive_some(size - len(raw))
            if not part:
                code = await self._process.wait()
                raise trio.BrokenResourceError(f"it ended with {code}")
            raw += part
        return bytes(raw)


class VectorProcess:
    """A `VectorStore` in a process of its own, with the port's calls as coroutines."""

    def __init__(
        self,
        path: Path,
        *,
        dimension: int,
        command: Sequence[str] = (sys.executable, "-m", "prsm.storage.vectors"),
        idle_s: float = IDLE_SECONDS,
    ) -> None:
        """Take the file of the store, made when it is not there."""
        self._command = [*command, str(path), str(dimension)]
        self._errands: Errands[Record, Record] = Errands(self._open, idle_s=idle_s)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve calls until cancelled."""
        await self._errands.run(task_status=task_status)

    async def upsert(self, entries: Sequence[Entry]) -> None:
        """Put entries in, 256 in a transaction."""
        for start in range(0, len(entries), BATCH_MAX):
            part = entries[start : start + BATCH_MAX]
            await self._counted(Put(tuple(map(put_of, part))))

    async def delete(self, ids: Sequence[bytes]) -> None:
        """Take entries out."""
        for start in range(0, len(ids), LIMIT_MAX):
            await self._counted(Remove(tuple(ids[start : start + LIMIT_MAX])))

    async def search(
        self, query: bytes, *, limit: int, where: Sequence[Condition] = ()
    ) -> list[Hit]:
        """The nearest entries, as the port says."""
        answer = await self._errands.do(Search(query, limit, tuple(map(asked_of, where))))
        return [hit_of(found) for found in _listed(answer).found]

    async def labels(self) -> dict[bytes, Mapping[str, Label]]:
        """All ids with their labels, ascending by id."""
        found: dict[bytes, Mapping[str, Label]] = {}
        after = b""
        while page := _listed(await self._errands.do(ListIds(after, LIMIT_MAX))).found:
            found.update((each.id, dict(each.labels)) for each in page)
            after = page[-1].id
        return found

    async def count(self) -> tuple[int, str]:
        """How many entries there are, and the backend that searches them."""
        answer = await self._counted(Count())
        return answer.entries, answer.backend

    async def rebuild(self) -> None:
        """As the port says."""
        await self._counted(Rebuild())

    async def _counted(self, call: Record) -> Counted:
        answer = await self._errands.do(call)
        if not isinstance(answer, Counted):
            raise VectorsFailed(f"the process of vectors answered {type(answer).__name__}")
        return answer

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[_Spoken]:
        try:
            process = await trio.lowlevel.open_process(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=_ENVIRONMENT,
                start_new_session=True,
            )
        except OSError as error:
            raise VectorsFailed(f"the process of vectors does not start: {error}") from error
        try:
            yield _Spoken(process)
        finally:
            with trio.CancelScope(shield=True):  # bounded: it is killed after 5 s
                await _end(process)


async def _end(process: trio.Process) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    await process.stdin.aclose()
    with trio.move_on_after(_END_SECONDS) as scope:
        await process.wait()
    if scope.cancelled_caught:
        process.kill()
        await process.wait()
    await process.stdout.aclose()


def _listed(answer: Record) -> Listed:
    if not isinstance(answer, Listed):
        raise VectorsFailed(f"the process of vectors answered {type(answer).__name__}")
    return answer
