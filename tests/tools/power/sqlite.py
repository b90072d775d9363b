"""SQLite over a VFS that records and refuses, under the store's own code.

apsw carries a SQLite of its own, so the stores' `sqlite3.connect` is replaced for a while by
connections with the part of its API that the stores use; their schema, statements and pragmas run
unchanged. The files are real ones (shared memory needs that); the tape has each write of them.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

import apsw
from typing_extensions import override

from tests.tools.power.tape import Cut, Names, Sync, SyncFolder, Tape, Write

_MADE_WITH_FOLDER = ("-wal", "-journal")  # the unix VFS syncs the folder with their first sync


@dataclass
class Recorder:
    """Names and numbers of the files SQLite has made, and which of its calls fails."""

    tape: Tape
    numbers: dict[str, int] = field(default_factory=dict)
    fail: Callable[[str], type[Exception] | None] = lambda _call: None
    _fresh: set[int] = field(default_factory=set)

    def opened(self, path: str) -> int:
        """A file is open: a new one gets a number and its name."""
        name = Path(path).name
        if name not in self.numbers:
            self.numbers[name] = number = self.tape.make_file()
            self._fresh.add(number)
            self.tape.add(Names(((name, number),)))
        return self.numbers[name]

    def removed(self, path: str, *, sync: bool) -> None:
        """A file is gone."""
        name = Path(path).name
        if self.numbers.pop(name, None) is not None:
            self.tape.add(Names(((name, None),)))
        if sync:
            self.tape.add(SyncFolder())

    def synced(self, path: str, number: int) -> None:
        """A file is durable."""
        folder = number in self._fresh and path.endswith(_MADE_WITH_FOLDER)
        self._fresh.discard(number)
        self.tape.add(Sync(number, folder))

    def check(self, call: str) -> None:
        """Raise what this call is to fail with."""
        error = self.fail(call)
        if error is not None:
            raise error


class _Vfs(apsw.VFS):
    def __init__(self, recorder: Recorder, name: str) -> None:
        super().__init__(name, "unix")
        self._recorder = recorder

    @override
    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        if name is None or flags[0] & (apsw.SQLITE_OPEN_TEMP_DB | apsw.SQLITE_OPEN_TEMP_JOURNAL):
            return apsw.VFSFile("", name, flags)
        return _File(self._recorder, name, flags)

    @override
    def xDelete(self, filename: str, syncdir: bool) -> None:
        self._recorder.check("delete")
        super().xDelete(filename, syncdir)
        self._recorder.removed(filename, sync=syncdir)


class _File(apsw.VFSFile):
    def __init__(self, recorder: Recorder, name: str | apsw.URIFilename, flags: list[int]) -> None:
        self._path = name if isinstance(name, str) else name.filename()
        super().__init__("", name, flags)
        self._recorder = recorder
        self._number = recorder.opened(self._path)

    @override
    def xWrite(self, data: bytes, offset: int) -> None:
        self._recorder.check("write")
        super().xWrite(data, offset)
        self._recorder.tape.add(Write(self._number, offset, bytes(data)))

    @override
    def xTruncate(self, newsize: int) -> None:
        self._recorder.check("truncate")
        super().xTruncate(newsize)
        self._recorder.tape.add(Cut(self._number, newsize))

    @override
    def xSync(self, flags: int) -> None:
        del flags  # FULL or NORMAL: here all of it or nothing
        self._recorder.check("sync")
        # The tape decides what is durable; the real files only have to be readable.
        self._recorder.synced(self._path, self._number)


class Connection:
    """What the stores use of `sqlite3.Connection`, over apsw."""

    def __init__(self, path: str, *, vfs: str, read_only: bool) -> None:
        mode = apsw.SQLITE_OPEN_READONLY
        if not read_only:
            mode = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
        with _translated():
            self._real = apsw.Connection(path, flags=mode | apsw.SQLITE_OPEN_URI, vfs=vfs)

    @property
    def in_transaction(self) -> bool:
        """Is a transaction open?"""
        return self._real.in_transaction

    def execute(self, statement: str, values: Sequence[object] = ()) -> "Cursor":
        """Run a statement; its rows are read at once."""
        with _translated():
            found = self._real.execute(statement, tuple(values))
            return Cursor(list(found))

    def executemany(self, statement: str, rows: Iterable[Sequence[object]]) -> None:
        """Run a statement for each row."""
        with _translated():
            self._real.executemany(statement, [tuple(row) for row in rows])

    def interrupt(self) -> None:
        """Stop what runs."""
        self._real.interrupt()

    def close(self) -> None:
        """Close the file; a disk that refuses then is no error, as with the standard library."""
        with suppress(apsw.Error):
            self._real.close()


class Cursor:
    """Rows that are read already."""

    def __init__(self, rows: list[tuple[object, ...]]) -> None:
        self._rows = iter(rows)

    def fetchone(self) -> tuple[object, ...] | None:
        """The next row, None after the last."""
        return next(self._rows, None)

    def __iter__(self) -> Iterator[tuple[object, ...]]:
        return self._rows


@contextmanager
def recorded(recorder: Recorder) -> Iterator[None]:
    """While the block runs, the stores open their files through the recorder."""
    name = f"recorder-{id(recorder)}"
    vfs = _Vfs(recorder, name)

    def connect(location: str, **_options: object) -> Connection:
        return Connection(location, vfs=name, read_only="mode=ro" in location)

    try:
        with patch("prsm.storage.trio_sqlite.sqlite3.connect", connect):
            yield
    finally:
        vfs.unregister()


@contextmanager
def _translated() -> Iterator[None]:
    """Errors of apsw as those of sqlite3, with their codes."""
    try:
        yield
    except apsw.Error as error:
        code = getattr(error, "extendedresult", 0) or getattr(error, "result", 0)
        if not code:  # raised by a recorder, which knows classes only
            code = apsw.SQLITE_FULL if isinstance(error, apsw.FullError) else apsw.SQLITE_IOERR
        kind = (
            sqlite3.OperationalError
            if code & 0xFF != apsw.SQLITE_CONSTRAINT
            else (sqlite3.IntegrityError)
        )
        translated = kind(str(error))
        translated.sqlite_errorcode = code
        translated.sqlite_errorname = type(error).__name__
        raise translated from error
