"""What costs most memory for its size: a mebibyte of small things, for every decoder."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from prsm.protocol.codec import encode
from prsm.protocol.framing import Flow, Head, encode_frame
from prsm.protocol.limits import ARRAY_LENGTH_MAX, MIB
from tests.fuzz.seeds import seeds
from tests.fuzz.targets import TARGETS

_ITEMS: Final = {
    "empty arrays": b"\x90",
    "numbers of two bytes": b"\xcd\x12\x34",
    "large numbers": b"\xcf\x12\x34\x56\x78\x12\x34\x56\x78",
    "short texts": b"\xa2ab",
    "short byte strings": b"\xc4\x02ab",
    "nothings": b"\xc0",
    "empty maps": b"\x80",
    "pairs": b"\x92\xa1a\xc4\x01b",
}
_PROTOBUF: Final = (b"\x0a\x00", b"\x12\x00", b"\x12\x02\x22\x00", b"\x1a\x02\x0a\x00")
_BODY_BYTES: Final = MIB - 256  # beside it a head


def _packed(item: bytes) -> bytes:
    """Arrays of as many items as one may have, in an array."""
    row = b"\xdc" + ARRAY_LENGTH_MAX.to_bytes(2, "big") + item * ARRAY_LENGTH_MAX
    count = _BODY_BYTES // len(row)
    return b"\xdc" + count.to_bytes(2, "big") + row * count


def _flat(item: bytes) -> bytes:
    """One array of as many items as fit, which no record may have."""
    count = _BODY_BYTES // len(item)
    return b"\xdd" + count.to_bytes(4, "big") + item * count


def _bodies() -> Iterator[bytes]:
    for item in _ITEMS.values():
        yield _packed(item)
        yield _flat(item)
    yield from ((_BODY_BYTES // len(part)) * part for part in _PROTOBUF)
    yield b"\x91" * _BODY_BYTES
    yield b"\xc6" + _BODY_BYTES.to_bytes(4, "big") + bytes(_BODY_BYTES)


def _documents() -> Iterator[bytes]:
    """JSON: many small things in every place of a genesis document."""
    [document] = seeds("genesis")
    found = json.loads(document)
    for name, value in found.items():
        if isinstance(value, list):
            count = _BODY_BYTES // (len(json.dumps(value[0])) + 2)
            yield json.dumps(found | {name: [value[0]] * count}).encode()
        yield json.dumps(found | {name: [[]] * (_BODY_BYTES // 4)}).encode()
        yield json.dumps(found | {name: {str(n): 0 for n in range(_BODY_BYTES // 12)}}).encode()
    yield b"[" * _BODY_BYTES


def bombs(name: str) -> Iterator[bytes]:
    """Inputs for a target; each valid seed repeated to a mebibyte is among them."""
    choices = TARGETS[name].choices
    prefixes = [bytes((place,)) for place in range(choices)] or [b""]
    if name == "genesis":
        yield from _documents()
    for body in _bodies():
        if name in ("frames", "hello"):
            yield encode_frame(Head(1, Flow.ONE_WAY, 90 if name == "hello" else 40, 0, b"", body))
        else:
            yield from (prefix + body for prefix in prefixes)
    for seed in seeds(name):
        yield seed * (_BODY_BYTES // len(seed))
        yield encode([seed] * min(ARRAY_LENGTH_MAX, _BODY_BYTES // (len(seed) + 5)))


def peak_ratio(name: str, raw: bytes) -> float:
    """How much larger a process gets at most while it decodes, in bytes for each byte of `raw`.

    Measured in a child of this process; it must take the input or refuse it.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        code = 1
        try:
            Path("/proc/self/clear_refs").write_text("5")  # the peak starts here
            before = _status("VmRSS")
            TARGETS[name](raw)
            os.write(writing, str(max(0, _status("VmHWM") - before)).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading, "rb") as said:
        answer = said.read()
    assert os.waitpid(child, 0)[1] == 0, f"{name}: {len(raw)} bytes neither taken nor refused"
    return int(answer) * 1024 / len(raw)


def _status(key: str) -> int:
    """A size of /proc/self/status in KiB."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(key))
    return int(line.split()[1])
