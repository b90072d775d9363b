"""Documents of the OpenAI API: models, embeddings, completions, chunks, and the field `prsm`.

Knows: their form. Must not know: HTTP, how an answer is made.
"""

import base64
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from prsm.node.rpc.methods.generation import GenerateParams
from prsm.node.rpc.methods.models import ModelInfo
from prsm.node.rpc.methods.serving import ServedRows
from prsm.node.rpc.methods.work import TensorText
from prsm.node.version import VERSION
from prsm.node.web.openai.faults import NoEmbedding
from prsm.node.web.openai.texts import Prompt, Telling

Document = dict[str, object]
Kind = Literal["chat", "text"]


@dataclass(frozen=True, slots=True)
class Told:
    """What the parts of one answer have in common."""

    kind: Kind
    model: str
    created_s: int
    prompt: Prompt
    params: GenerateParams

    def whole(self, telling: Telling, text: str, height: int) -> Document:
        """The answer in one document."""
        choice: Document = {"index": 0, "logprobs": None, "finish_reason": telling.finish}
        if self.kind == "chat":
            choice["message"] = {"role": "assistant", "content": text, "refusal": None}
        else:
            choice["text"] = text
        return {
            **self._head(telling, is_chunk=False),
            "choices": [choice],
            "usage": telling.usage,
            "prsm": self._prsm(telling, height),
        }

    def chunk(self, telling: Telling, text: str | None, *, is_first: bool = False) -> Document:
        """A part of the answer; None: no text, the last of them, which says why it ends."""
        choice: Document = {"index": 0, "logprobs": None, "finish_reason": None}
        if text is None:
            choice["finish_reason"] = telling.finish
        if self.kind == "chat":
            delta: Document = {} if text is None else {"content": text}
            choice["delta"] = {"role": "assistant", **delta} if is_first else delta
        else:
            choice["text"] = text or ""
        return {**self._head(telling, is_chunk=True), "choices": [choice]}

    def last(self, telling: Telling, height: int) -> Document:
        """The part that says why it ends, with the field `prsm`."""
        return {**self.chunk(telling, None), "prsm": self._prsm(telling, height)}

    def usage(self, telling: Telling, height: int) -> Document:
        """The part with the usage alone."""
        return {
            **self._head(telling, is_chunk=True),
            "choices": [],
            "usage": telling.usage,
            "prsm": self._prsm(telling, height),
        }

    def _head(self, telling: Telling, *, is_chunk: bool) -> Document:
        assert telling.info is not None
        name = "chat.completion" if self.kind == "chat" else "text_completion"
        prefix = "chatcmpl-" if self.kind == "chat" else "cmpl-"
        return {
            "id": prefix + telling.info.generation_id[2:],
            "object": f"{name}.chunk" if is_chunk and self.kind == "chat" else name,
            "created": self.created_s,
            "model": self.model,
            "system_fingerprint": f"prsm-{VERSION}",
        }

    def _prsm(self, telling: Telling, height: int) -> Document:
        info = telling.info
        assert info is not None
        return {
            **_bill(info.jobs, info.locked, info.stages, height),
            "generation_id": info.generation_id,
            "seed": self.params.seed,
            "form": self.prompt.form,
            "first_token_ms": info.first_token_ms,
        }


def embeddings(served: ServedRows, model: str, height: int, *, is_base64: bool) -> Document:
    """Vectors of texts, in the order they were given.

    Raises:
        NoEmbedding: the model's first output is something else.
    """
    rows = _vectors(served.outputs)
    return {
        "object": "list",
        "model": model,
        "data": [
            {
                "object": "embedding",
                "index": place,
                "embedding": base64.b64encode(row).decode("ascii")
                if is_base64
                else struct.unpack(f"<{len(row) // 4}f", row),
            }
            for place, row in enumerate(rows)
        ],
        "usage": {"prompt_tokens": served.tokens, "total_tokens": served.tokens},
        "prsm": {
            **_bill(served.tabs, served.price, served.workers, height),
            "model": served.model,
            "batches": served.batches,
            "cached": served.cached,
        },
    }


def model_document(info: ModelInfo) -> Document:
    """A model as clients of the API list it."""
    return {
        "id": info.ref,
        "object": "model",
        "created": int(datetime.fromisoformat(info.created).timestamp()) if info.created else 0,
        "owned_by": info.publisher,
        "prsm": {
            "cid": info.cid,
            "state": info.state,
            "size_bytes": info.size_bytes,
            "stages": info.stages,
            "registered": info.registered,
        },
    }


def _bill(jobs: Sequence[str], price: str, peers: Sequence[str], height: int) -> Document:
    """Which locks stand behind an answer, most that it costs, who did it, what the ledger had."""
    first = jobs[0] if jobs else None
    return {
        "job_id": first,
        "jobs": jobs,
        "proof": None if first is None else f"/v1/proofs/{first}",
        "price": price,
        "peers": peers,
        "height": height,
    }


def _vectors(outputs: Sequence[TensorText]) -> list[bytes]:
    """Rows of the first output: float32 (rows, dimension)."""
    first = outputs[0]
    if first.dtype != "f32" or len(first.shape) != 2:
        shape = ", ".join(map(str, first.shape))
        raise NoEmbedding(f"its output {first.name} is {first.dtype} ({shape})")
    raw, size = bytes.fromhex(first.data[2:]), 4 * first.shape[1]
    return [raw[start : start + size] for start in range(0, len(raw), size)]
