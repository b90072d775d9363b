"""Models that come and go while a network is soaked: added at a node, fetched by another, removed.

Knows: the methods of models, a small ONNX file. Must not know: faults; a step that fails is written
down with its reason, and the next model begins anew.
"""

import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import msgspec
import trio

from prsm.node.rpc.client import RpcError
from prsm.node.rpc.errors import NodeUnreachable
from prsm.node.rpc.methods.models import AddParams, ModelInfo, RefParams
from prsm.node.rpc.spec import Params
from prsm.testnet import books
from prsm.testnet.asking import Asker
from prsm.testnet.jobload import build_model
from prsm.testnet.scene import Scene

BOOK: Final = "newcomers.jsonl"
EVERY_SECONDS: Final = 60.0
STEP_SECONDS: Final = 50.0
OWN_BYTES: Final = 1_000_000  # of each model, that no other one has
KEPT: Final = 3  # of the newest
T = TypeVar("T")


class Step(msgspec.Struct, frozen=True):
    """One thing done with one model at one node; `why` is empty if it worked."""

    number: int
    step: str  # add, pull, remove
    place: int
    cid: str
    took_s: float
    why: str = ""


@dataclass(slots=True)
class Newcomers:
    """Adds a model again and again, at drawn nodes.

    Args:
        scene: with nodes that run models.
        dice: draws nodes and bytes.
    """

    scene: Scene
    dice: random.Random

    async def run(self) -> None:
        """Work until cancelled."""
        model = await build_model(self.scene.folder)
        original = (model / "model.onnx").read_bytes()
        kept: list[tuple[int, str, list[int]]] = []
        number = 0
        while True:
            number += 1
            file = self.scene.folder / f"newcomer{number}.onnx"
            file.write_bytes(with_comment(original, self.dice.randbytes(OWN_BYTES)))
            kept.append(await self._come(number, file, str(model / "tokenizer.json")))
            file.unlink()
            if len(kept) > KEPT:
                await self._go(*kept.pop(0))
            await trio.sleep(EVERY_SECONDS)

    async def _come(self, number: int, file: Path, tokenizer: str) -> tuple[int, str, list[int]]:
        """Add a model at one node and fetch it at another; who has it then."""
        first, second = self.dice.sample(range(len(self.scene.doors)), 2)
        params = AddParams(path=str(file), name=f"newcomer-{number}", tokenizer=tokenizer)
        added = await self._do(number, "add", first, "", ("model_add", params), ModelInfo)
        if added is None:
            return number, "", []
        asked = ("model_pull", RefParams(added.cid))
        pulled = await self._do(number, "pull", second, added.cid, asked, ModelInfo)
        return number, added.cid, [first] if pulled is None else [first, second]

    async def _go(self, number: int, cid: str, places: list[int]) -> None:
        for place in places:
            asked = ("model_remove", RefParams(cid))
            await self._do(number, "remove", place, cid, asked, msgspec.Raw)

    async def _do(
        self, number: int, step: str, place: int, cid: str, asked: tuple[str, Params], kind: type[T]
    ) -> T | None:
        asker, why, found = Asker(self.scene.doors[place]), "", None
        began = time.monotonic()
        try:
            with trio.fail_after(STEP_SECONDS):
                found = await asker.call(*asked, result=kind)
        except RpcError as error:
            why = error.reason
        except NodeUnreachable:
            why = "unreachable"
        except trio.TooSlowError:
            why = "late"
        finally:
            asker.close()
        took_s = round(time.monotonic() - began, 3)
        books.add(self.scene.folder / BOOK, Step(number, step, place, cid, took_s, why))
        return found


def with_comment(model: bytes, content: bytes) -> bytes:
    """An ONNX file with an entry of metadata more: another file, and the same graph.

    Protobuf lets fields be added behind a message's end; here field 14 of ModelProto
    (`metadata_props`) with key, field 1, and value, field 2 (onnx.proto).
    """
    text = content.hex().encode()
    entry = b"\x0a\x04soak" + b"\x12" + _varint(len(text)) + text
    return model + b"\x72" + _varint(len(entry)) + entry


def _varint(value: int) -> bytes:
    groups = []
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])


def read(folder: Path) -> list[Step]:
    """Every step, in the order they ended."""
    return books.read(folder / BOOK, Step)
