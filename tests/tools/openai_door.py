"""The `/v1` pages over a fake node, and the real client of the API to ask them."""

import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Final

import msgspec

from prsm.node.rpc.dispatch import Handler
from prsm.node.rpc.methods.chat import PromptText
from prsm.node.rpc.methods.generation import GenerationInfo
from prsm.node.rpc.methods.models import ModelDetail, ModelInfo, Models
from prsm.node.rpc.methods.serving import ServedRows
from prsm.node.rpc.methods.work import TensorText
from prsm.node.web.openai import World, openai_pages
from prsm.node.web.serve import Bounds
from tests.tools.rpc_door import OpenDoor, open_door
from tests.tools.rpc_node import sample

JOB: Final = "0x" + "ab" * 32
PEER: Final = "12D3KooW" + "A" * 44
NOW_MS: Final = 1_700_000_000_000
HEIGHT: Final = 7
VECTORS: Final = ((1.0, 0.5), (0.25, -2.0))  # exact as float32
PROMPT: Final = PromptText(sample(ModelInfo).cid, "plain", "user: Hi\nassistant:", ("\nuser:",))


@asynccontextmanager
async def open_v1(
    folder: Path,
    handlers: Mapping[str, Handler] = MappingProxyType({}),
    *,
    bounds: Bounds | None = None,
) -> AsyncIterator[OpenDoor]:
    """Serve the pages while the block runs; a model, a text and two vectors are there."""
    world = World(lambda: NOW_MS, lambda: HEIGHT)
    async with open_door(
        folder,
        pages=lambda calls: openai_pages(calls, world),
        handlers=handlers,
        bounds=bounds,
    ) as door:
        door.node.answers |= {
            "model_list": Models(items=(a_model(), msgspec.structs.replace(a_model(), stages=()))),
            "model_get": msgspec.structs.replace(sample(ModelDetail), model=a_model()),
            "model_getPrompt": PROMPT,
            "infer_generate": a_part(is_over=False),
            "serve_run": served(),
        }
        yield door


def a_model() -> ModelInfo:
    """A model that can be run."""
    info: ModelInfo = sample(ModelInfo)
    return msgspec.structs.replace(info, ref="net@1.0.0", created="2023-11-14T22:13:20.000Z")


def a_part(text: str = "", **more: object) -> GenerationInfo:
    """What one reading of a generation says."""
    info: GenerationInfo = sample(GenerationInfo)
    told: GenerationInfo = msgspec.structs.replace(
        info, text=text, jobs=(JOB,), stages=(PEER,), locked="120", finish=None, prompt_tokens=3
    )
    changed: GenerationInfo = msgspec.structs.replace(told, **more)
    return changed


def served() -> ServedRows:
    """Two vectors of two numbers."""
    data = b"".join(struct.pack("<2f", *row) for row in VECTORS)
    tensor = TensorText("out", "f32", (2, 2), "0x" + data.hex())
    rows: ServedRows = sample(ServedRows)
    changed: ServedRows = msgspec.structs.replace(
        rows, outputs=(tensor,), tabs=(JOB,), price="40", tokens=9
    )
    return changed
