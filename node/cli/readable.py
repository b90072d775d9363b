"""Values as people read them on a terminal: sizes, spans, moments, amounts, yes and no.

Programs read pipes and `--json`, which show values as they are. Text of peers may hold control
characters, which are shown escaped.

Knows: names of fields and the units that end them. Must not know: methods, terminals.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Final

from prsm.protocol.ids import format_ftns

AMOUNTS: Final = frozenset(
    (
        *("amount", "balance", "bonded", "cost", "fee", "fees", "locked", "paid", "refunded"),
        *("stake", "stake_total", "supply", "quorum"),
    )
)
_MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
_SIZES: Final = ("B", "KiB", "MiB", "GiB", "TiB")
_KIB: Final = 1024
_HASH_CHARS: Final = 2 + 2 * 64  # a signature; what is longer is raw bytes
_BEGIN_CHARS: Final = 34


def cell(name: str, value: object) -> str:
    """One value as one line of printable text, exactly as it is."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name in AMOUNTS and isinstance(value, str) and value.isdecimal():
        return f"{format_ftns(int(value))} FTNS"
    if isinstance(value, Mapping):
        return " ".join(f"{key}={cell(str(key), one)}" for key, one in value.items()) or "-"
    if isinstance(value, list):
        return ",".join(cell(name, one) for one in value) or "-"
    text = str(value)
    return text if text.isprintable() else ascii(text)[1:-1]


def words(name: str, value: object, *, now: datetime, whole: bool = True) -> str:
    """One value for a person.

    Args:
        name: of its field; `_bytes` and `_ms` at its end say what a number counts.
        value: as JSON has it.
        now: what moments are told from.
        whole: a moment with its date and how long ago; else only about how long ago.
    """
    if isinstance(value, Mapping):
        parts = (f"{title(str(k))} {words(str(k), v, now=now)}" for k, v in value.items())
        return ", ".join(parts) or "-"
    if isinstance(value, str):
        return _text(name, value, now, whole=whole)
    for ending, told in _COUNTS.items():
        if name.endswith(ending) and isinstance(value, int) and not isinstance(value, bool):
            return told(value)
    return cell(name, value)


def _text(name: str, value: str, now: datetime, *, whole: bool) -> str:
    if _MOMENT.fullmatch(value):
        moment = datetime.fromisoformat(value)
        return f"{moment:%Y-%m-%d %H:%M:%S}Z, {ago(moment, now)}" if whole else ago(moment, now, 1)
    if value.startswith("0x") and len(value) > _HASH_CHARS:
        return f"{cell(name, value[:_BEGIN_CHARS])}... ({len(value) // 2 - 1} bytes)"
    return cell(name, value) or "-"


def title(name: str) -> str:
    """A field's name without the unit, which stands beside the value."""
    for ending in _COUNTS:
        if name.endswith(ending):
            return name.removesuffix(ending)
    return name


def titles(names: Iterable[str]) -> list[str]:
    """Names of columns without their units, where that leaves them apart."""
    names = list(names)
    short = [title(name) for name in names]
    return [one if short.count(one) == 1 else name for name, one in zip(names, short, strict=True)]


def size(count: int) -> str:
    """Bytes: `512 B`, `1.5 KiB`, `25.8 MiB`."""
    left, unit = float(count), 0
    while abs(left) >= _KIB and unit < len(_SIZES) - 1:
        left, unit = left / _KIB, unit + 1
    return f"{left:.1f} {_SIZES[unit]}" if unit else f"{count} B"


def span(ms: int) -> str:
    """A time: `250 ms`, `1.03 s`, `38 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`."""
    if abs(ms) < 1_000:
        return f"{ms} ms"
    if abs(ms) < 10_000:
        return f"{ms / 1_000:.2f} s"
    return coarse(ms // 1_000)


def coarse(seconds: int, units: int = 2) -> str:
    """The same in whole seconds, by its largest units."""
    parts: list[str] = []
    for name, length in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        count, seconds = divmod(seconds, length)
        if count or parts:
            parts.append(f"{count} {name}")
    return " ".join(parts[:units]) or "0 s"


def ago(moment: datetime, now: datetime, units: int = 2) -> str:
    """`38 s ago`, `in 9 min 2 s`; a moment of this second is `now`."""
    seconds = int((now - moment).total_seconds())
    if seconds == 0:
        return "now"
    return f"{coarse(seconds, units)} ago" if seconds > 0 else f"in {coarse(-seconds, units)}"


def now() -> datetime:
    """The moment that answers are told from."""
    return datetime.now(UTC)


# What the end of a name says of a number, and how such a number is told.
_COUNTS: Final[Mapping[str, Callable[[int], str]]] = {
    "_bytes_per_s": lambda rate: f"{size(rate)}/s",
    "_bytes": size,
    "_ms": span,
}
