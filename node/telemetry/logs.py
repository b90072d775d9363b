"""Log lines: for people on a terminal, JSON elsewhere; secrets never reach either.

What repeats is written a few times and then counted (`repeats`). Knows: structlog, the standard
`logging` of libraries, what a secret looks like. Must not know: rooms. Fields: ts, level, event,
then what the room bound (node, height, view, peer, job, trace).
"""

import base64
import json
import logging
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager, suppress
from typing import Any, Final, Literal, TextIO, cast

import structlog
from typing_extensions import override

from prsm.node.telemetry.logfile import RotatingFile
from prsm.node.telemetry.repeats import Repeats, Told

SECRET_MARK: Final = "[secret]"  # noqa: S105 - what stands in its place
# A value whose name holds one of these words is never written (`api_token`, not `tokens`).
_SECRET_WORDS: Final = frozenset(
    ("password", "passphrase", "secret", "token", "cookie", "authorization", "seed", "mnemonic")
)
_STRING_MAX: Final = 4096  # a hostile peer must not fill the disk with one line
_SECRET_BYTES_MIN: Final = 8
_NAMES: Final = ("debug", "info", "warning", "error")
# What is a secret wherever it stands: a signed token, or what follows the word Bearer.
_SHAPES: Final = re.compile(
    r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}|(?<=[Bb]earer )[^\s\"',]{8,}"
)

Level = Literal["debug", "info", "warning", "error"]
Event = MutableMapping[str, Any]


class SecretFilter:
    """A structlog processor that blanks secrets by key name and by known bytes."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def guard(self, secret: bytes) -> None:
        """Never write these bytes: raw, hex or base64. Shorter than 8 bytes is ignored."""
        if len(secret) < _SECRET_BYTES_MIN:
            return
        texts = {secret.hex(), base64.b64encode(secret).decode(), repr(secret)[2:-1]}
        texts.add(base64.urlsafe_b64encode(secret).decode().rstrip("="))
        self._known |= {text for text in texts if len(text) >= _SECRET_BYTES_MIN}

    def __call__(self, _logger: object, _method: str, event: Event) -> Event:
        """Return the event with every secret replaced."""
        return {key: self._clean(key, value) for key, value in event.items()}

    def _clean(self, key: str, value: object) -> object:
        if not _SECRET_WORDS.isdisjoint(re.split(r"[^a-z]+", key.lower())):
            return SECRET_MARK
        if isinstance(value, bytes | bytearray | memoryview):
            value = "0x" + bytes(value).hex()
        if isinstance(value, Mapping):
            return {str(name): self._clean(str(name), item) for name, item in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self._clean("", item) for item in value]
        if value is None or isinstance(value, bool | int | float):
            return value
        text = str(value)
        for secret in self._known:
            text = text.replace(secret, SECRET_MARK)
        text = _SHAPES.sub(SECRET_MARK, text)
        return text if len(text) <= _STRING_MAX else text[:_STRING_MAX] + "…"


secrets: Final = SecretFilter()
_listeners: Final[list[Callable[[Event], None]]] = []
# Libraries log in threads, too.
_lock: Final = threading.Lock()
_repeats = Repeats()


@contextmanager
def listening(listener: Callable[[Event], None]) -> Iterator[None]:
    """Give each line that is written to a listener too, as long as the block runs."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def configure(
    *,
    level: Level = "info",
    style: Literal["auto", "human", "json"] = "auto",
    stream: TextIO | None = None,
    file: RotatingFile | None = None,
) -> None:
    """Send every log line of ours and of libraries to one stream, and to a file.

    Args:
        level: least level written; libraries write warnings and errors only.
        style: `auto` is human on a terminal and JSON elsewhere.
        stream: where lines go; standard error if None.
        file: where they go as JSON; instead of the stream where both are one file.
    """
    global _repeats  # noqa: PLW0603 - one process has one log
    _repeats = Repeats()
    shown = stream if stream is not None else sys.stderr
    human = style == "human" or (style == "auto" and shown.isatty())
    target: TextIO | RotatingFile = shown
    also: list[structlog.typing.Processor] = []
    if file is not None and file.open():
        if stream is None and file.take_stderr():
            target, human = file, False  # commands read it, whatever people would like to see
        else:
            also = [_Beside(file)]
    structlog.configure(
        processors=[*_shared(), _tell, *also, _human if human else _json],
        wrapper_class=structlog.make_filtering_bound_logger(_number(level)),
        logger_factory=structlog.WriteLoggerFactory(file=cast("TextIO", _Patient(target))),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers = [_Bridge()]
    root.setLevel(logging.WARNING)


def finish() -> None:
    """Write what was held back: the process ends."""
    with _lock:
        rest = _repeats.rest(time.monotonic())
    _write_told(rest)


def get(room: str, **fields: object) -> structlog.typing.FilteringBoundLogger:
    """A logger of one room, with fields every line of it carries."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(room=room, **fields)
    return logger


# Every line of a task carries these fields as long as the block runs, and of all it starts.
bound: Final = structlog.contextvars.bound_contextvars


class _Patient:
    """A stream whose full disk or closed pipe costs lines, never the daemon that writes them."""

    def __init__(self, stream: TextIO | RotatingFile) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        """Write a line, or lose it."""
        with suppress(OSError):
            self._stream.write(text)

    def flush(self) -> None:
        """Hand lines on, or keep them for later."""
        with suppress(OSError):
            self._stream.flush()


class _Beside:
    """A processor that writes each line as JSON into a file as well."""

    def __init__(self, file: RotatingFile) -> None:
        self._file = file

    def __call__(self, _logger: object, method: str, event: Event) -> Event:
        self._file.write(_json(None, method, dict(event)) + "\n")
        return event


class _Bridge(logging.Handler):
    """Hands the lines of libraries to structlog."""

    @override
    def emit(self, record: logging.LogRecord) -> None:
        """Write one record; a record that cannot be formatted is named, not raised."""
        name = record.levelname.lower()
        logger = get(record.name.partition(".")[0])
        try:
            text = record.getMessage()
        except (TypeError, ValueError):
            text = f"unreadable log record: {record.msg!r:.200}"
        getattr(logger, name if name in _NAMES else "error")(text, exc_info=record.exc_info)


def _shared() -> Iterable[structlog.typing.Processor]:
    return (
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        _collapse,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
        structlog.processors.format_exc_info,
        secrets,
    )


def _collapse(_logger: object, _method: str, event: Event) -> Event:
    """Hold back what repeats; what is debugged is wanted whole.

    Raises:
        structlog.DropEvent: the line is counted and not written.
    """
    level = str(event.get("level", ""))
    if "repeated" in event or level == "debug":
        return event
    kind = (level, str(event.get("room", "")), str(event.get("event", ""))[:_STRING_MAX])
    fields = (f"{key}={value}" for key, value in sorted(event.items()) if key != "exc_info")
    now_s = time.monotonic()
    with _lock:
        passes = _repeats.passes(kind, (*kind, *fields), now_s)
        told = _repeats.told(now_s)
    _write_told(told)
    if not passes:
        raise structlog.DropEvent
    return event


def _write_told(told: Iterable[Told]) -> None:
    for one in told:
        level, room, event = one.key[:3]
        write = getattr(get(room), level if level in _NAMES else "error")
        write(event, repeated=one.times, over_s=round(one.over_s))


def _tell(_logger: object, _method: str, event: Event) -> Event:
    for listener in _listeners:
        listener(event)
    return event


def _json(_logger: object, _method: str, event: Event) -> str:
    head = {key: event.pop(key) for key in ("ts", "level", "event") if key in event}
    return json.dumps(head | dict(event), ensure_ascii=False)


def _human(_logger: object, _method: str, event: Event) -> str:
    trace = event.pop("exception", "")
    clock = str(event.pop("ts", ""))[11:23]
    level = str(event.pop("level", "")).upper()[:4].ljust(4)
    room = str(event.pop("room", "")).ljust(9)
    name = event.pop("event", "")
    fields = " ".join(f"{key}={_plain(value)}" for key, value in event.items())
    line = f"{clock} {level} {room} {_plain(name)}"
    return f"{line}  {fields}".rstrip() + (f"\n{trace}" if trace else "")


def _plain(value: object) -> str:
    """One printable line: control characters of a peer must not move the cursor."""
    text = str(value)
    return text if text.isprintable() else ascii(text)[1:-1]


def _number(level: Level) -> int:
    return int(getattr(logging, level.upper()))
