"""Mutants of valid bytes: by structure where they are canonical msgpack, else byte by byte.

Knows the shape of msgpack only. A mutant of a record is again canonical, so that it gets past the
codec; records inside of byte strings are found and changed too.
"""

import json
from random import Random
from typing import Final

import msgpack
import msgspec

NUMBERS: Final = (
    0,
    1,
    2,
    127,
    128,
    255,
    256,
    2**16,
    2**31 - 1,
    2**32 - 1,
    2**32,
    2**63 - 1,
    2**64 - 1,
)
SIZES: Final = (0, 1, 7, 8, 31, 32, 33, 63, 64, 65, 1024)
DEPTH_MAX: Final = 6
Value = object


def mutate(data: bytes, dice: Random, *, prefix: int = 0) -> bytes:
    """Change one to three places of `data`; the first `prefix` bytes only now and then."""
    head, body = data[:prefix], data[prefix:]
    if prefix and dice.random() < 0.1:
        head = dice.randbytes(prefix)
    for _ in range(dice.randint(1, 3)):
        value = _read(body)
        if value is not None and dice.random() < 0.8:
            body = _pack(_changed(value[0], dice, 0))
        elif body[:1] == b"{" and dice.random() < 0.8:
            body = _json(body, dice)
        else:
            body = _bytes(body, dice)
    return head + body


def _read(raw: bytes) -> tuple[Value] | None:
    try:
        return (msgpack.unpackb(raw, strict_map_key=False),)
    except (ValueError, msgpack.exceptions.UnpackException, TypeError, RecursionError):
        return None


def _pack(value: Value) -> bytes:
    try:
        return msgspec.msgpack.encode(value)
    except (OverflowError, TypeError, RecursionError, UnicodeEncodeError):
        return b"\xc0"


def _json(raw: bytes, dice: Random) -> bytes:
    try:
        return json.dumps(_changed(json.loads(raw), dice, 0)).encode()
    except (ValueError, TypeError, RecursionError):
        return _bytes(raw, dice)


def _changed(value: Value, dice: Random, depth: int) -> Value:
    """The value with one place in it changed."""
    if isinstance(value, dict) and value and dice.random() < 0.9:
        key = dice.choice(sorted(value, key=str))
        if dice.random() < 0.1:
            return {name: item for name, item in value.items() if name != key}
        return value | {key: _changed(value[key], dice, depth + 1)}
    if isinstance(value, list) and depth < DEPTH_MAX:
        return _changed_list(value, dice, depth)
    if isinstance(value, bytes) and len(value) > 1 and dice.random() < 0.7:
        inner = _read(value)
        if inner is not None and isinstance(inner[0], list):
            return _pack(_changed(inner[0], dice, depth + 1))
    return _replaced(value, dice)


def _changed_list(items: list[Value], dice: Random, depth: int) -> list[Value]:
    made = list(items)
    at = dice.randrange(len(made)) if made else 0
    roll = dice.random()
    if made and roll < 0.8:
        made[at] = _changed(made[at], dice, depth + 1)
    elif made and roll < 0.86:
        del made[at]
    elif made and roll < 0.92:
        made.insert(at, made[dice.randrange(len(made))])
    elif made and roll < 0.95:
        made = made * dice.choice((2, 3, 40))
    else:
        made.insert(at, _fresh(dice))
    return made


def _replaced(value: Value, dice: Random) -> Value:
    roll = dice.random()
    if isinstance(value, bool) or value is None or roll < 0.15:
        return _fresh(dice)
    if isinstance(value, int):
        return dice.choice(
            (max(value - 1, 0), value + 1, value ^ 1 << dice.randrange(40), dice.choice(NUMBERS))
        )
    if isinstance(value, bytes):
        return _bytes(value, dice)
    if isinstance(value, str):
        return _bytes(value.encode(), dice).decode("utf-8", "replace")
    return _fresh(dice)


def _fresh(dice: Random) -> Value:
    match dice.randrange(6):
        case 0:
            return dice.choice(NUMBERS)
        case 1:
            return dice.randbytes(dice.choice(SIZES))
        case 2:
            return "a" * dice.choice(SIZES)
        case 3:
            return []
        case 4:
            return None
        case _:
            return dice.random() < 0.5


def _bytes(raw: bytes, dice: Random) -> bytes:
    """Flip, cut, repeat, insert."""
    made = bytearray(raw)
    at = dice.randrange(len(made)) if made else 0
    match dice.randrange(6):
        case 0 if made:
            made[at] ^= 1 << dice.randrange(8)
        case 1 if made:
            made[at] = dice.choice((0, 1, 0x7F, 0x80, 0xFF, made[at] + 1 & 0xFF))
        case 2:
            del made[at : at + dice.choice((1, 2, 4, 32))]
        case 3:
            made[at:at] = made[at : at + dice.choice((1, 4, 32, 200))]
        case 4:
            return bytes(made[: dice.randrange(len(made) + 1)])
        case _:
            made[at:at] = dice.randbytes(dice.choice((1, 2, 4, 8)))
    return bytes(made)
