"""The process of vectors: answers calls on its standard input until that is closed.

Knows: which store fits how many vectors. Must not know: whose vectors they are. Nothing is cached
between calls but the store itself, so a killed process loses no acknowledged write.
"""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Final

from prsm.protocol.codec import Record
from prsm.protocol.errors import LocalError, PrsmError
from prsm.storage.vectors.interface import VectorStore
from prsm.storage.vectors.messages import (
    HEAD,
    Count,
    Counted,
    Found,
    Listed,
    ListIds,
    Put,
    Rebuild,
    Refused,
    Remove,
    Search,
    condition_of,
    entry_of,
    found_of,
    labels_of,
    pack,
    unpack,
    unpack_head,
)

EXACT_MAX: Final = 20_000  # entries; docs/testing.md has what a query costs on both sides of it


def open_vectors(path: Path, *, dimension: int, exact_max: int = EXACT_MAX) -> VectorStore:
    """Open the store that fits: exact up to `exact_max` entries, above it a graph if faiss is here.

    Raises:
        Conflict, StoreUnavailable, Corrupt: as `Table`.
    """
    from prsm.storage.vectors.exact import ExactVectors  # noqa: PLC0415 - loads numpy

    exact = ExactVectors(path, dimension=dimension)
    if exact.count() <= exact_max or importlib.util.find_spec("faiss") is None:
        return exact
    exact.close()
    from prsm.storage.vectors.hnsw import HnswVectors  # noqa: PLC0415 - loads faiss

    return HnswVectors(path, dimension=dimension)


def refuse(error: PrsmError, calls: BinaryIO, answers: BinaryIO) -> None:
    """Answer one call with the error that kept the store from opening."""
    head = calls.read(HEAD.size)
    if len(head) == HEAD.size:
        calls.read(unpack_head(head)[0])
        answers.write(pack(_refused(error)))
        answers.flush()


class Service:
    """One store behind a pair of streams."""

    def __init__(self, path: Path, *, dimension: int, exact_max: int = EXACT_MAX) -> None:
        """Open the store."""
        self._open: Callable[[], VectorStore] = lambda: open_vectors(
            path, dimension=dimension, exact_max=exact_max
        )
        self._exact_max = exact_max
        self.store = self._open()

    def serve(self, calls: BinaryIO, answers: BinaryIO) -> None:
        """Answer until `calls` ends."""
        try:
            while len(head := calls.read(HEAD.size)) == HEAD.size:
                size, kind = unpack_head(head)
                answers.write(pack(self.answer(unpack(kind, calls.read(size)))))
                answers.flush()
        finally:
            self.store.close()

    def answer(self, call: Record) -> Record:
        """Run one call; a typed error is an answer, too."""
        try:
            return self._run(call)
        except PrsmError as error:
            return _refused(error)

    def _run(self, call: Record) -> Record:
        match call:
            case Put():
                self.store.upsert([entry_of(entry) for entry in call.entries])
                self._fit()
                return self._counted(len(call.entries))
            case Remove():
                return self._counted(self.store.delete(call.ids))
            case Search():
                where = [condition_of(asked) for asked in call.where]
                hits = self.store.search(call.query, limit=call.limit, where=where)
                return Listed(tuple(map(found_of, hits)))
            case ListIds():
                page = self.store.ids(call.after, call.limit)
                return Listed(tuple(Found(each, 0, labels_of(labels)) for each, labels in page))
            case Rebuild():
                self.store.rebuild()
                return self._counted(0)
            case Count():
                return self._counted(0)
            case _:
                raise LocalError(f"{type(call).__name__} is no call")

    def _counted(self, touched: int) -> Counted:
        return Counted(self.store.count(), touched, self.store.backend)

    def _fit(self) -> None:
        """Change the store when it has grown beyond the exact one."""
        is_small = self.store.count() <= self._exact_max
        if self.store.backend != "exact" or is_small or not importlib.util.find_spec("faiss"):
            return
        self.store.close()
        self.store = self._open()


def _refused(error: PrsmError) -> Refused:
    return Refused(error.reason, error.what[:1024], error.hint[:1024])
