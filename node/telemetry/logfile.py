"""The log as files: `node.log`, and `node.log.1` to `node.log.K` of what was before.

Knows: files. Must not know: lines. A full disk costs lines, never the daemon that writes them; what
is appended is whole lines, so that a reader who follows never sees half of one moved away.
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
_STDERR: Final = 2


class RotatingFile:
    """A file that is put aside when it is full.

    Args:
        path: of the newest lines.
        bytes_max: of one file; 0: it grows without bound.
        keep: files of earlier lines.
    """

    def __init__(self, path: Path, *, bytes_max: int, keep: int) -> None:
        self.path = path
        self._bytes_max, self._keep = bytes_max, keep
        self._file: int | None = None
        self._size = 0
        self._holds_stderr = False

    def open(self) -> bool:
        """Begin to write; False where the disk refuses, and lines are lost until it does not."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = os.open(self.path, _FLAGS, 0o600)
        except OSError:
            self._file = None
            return False
        self._size = os.fstat(self._file).st_size
        if self._holds_stderr:
            os.dup2(self._file, _STDERR)
        return True

    def take_stderr(self) -> bool:
        """Hold standard error too, if it is this very file: it must move on when the file does.

        Returns:
            Whether it is: so that nobody writes a line twice.
        """
        if self._file is None:
            return False
        with suppress(OSError):
            ours, other = os.fstat(self._file), os.fstat(_STDERR)
            self._holds_stderr = (ours.st_dev, ours.st_ino) == (other.st_dev, other.st_ino)
        return self._holds_stderr

    def write(self, text: str) -> None:
        """Append whole lines, in a new file if they do not fit."""
        raw = text.encode("utf-8", "backslashreplace")
        if self._file is not None and 0 < self._bytes_max < self._size + len(raw) and self._size:
            self._rotate()
        if self._file is None and not self.open():
            return
        assert self._file is not None
        with suppress(OSError):
            self._size += os.write(self._file, raw)

    def flush(self) -> None:
        """Nothing waits: each line is written at once."""

    def close(self) -> None:
        """Write no more."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _rotate(self) -> None:
        self.close()
        with suppress(OSError):
            self._named(self._keep).unlink(missing_ok=True)
            for number in range(self._keep - 1, -1, -1):
                if self._named(number).exists():
                    self._named(number).rename(self._named(number + 1))
        self.open()

    def _named(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}") if number else self.path
