"""Documents of the OpenAI API: models, embeddings, completions, chunks, and the field `prsm`.

Knows: their form. Must not know: HTTP, how an answer is made.
"""

import base64
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from prsm.node.rpc.methods.generation import GenerationInfo
from prsm.node.rpc.methods.models import ModelInfo
from prsm.node.rpc.methods.serving import ServedRows
from prsm.node.rpc.methods.work import TensorText
from prsm.node.version import VERSION
from prsm.node.web.openai.faults import NoEmbedding
from prsm.node.web.openai.texts import Telling

Document = dict[str, object]
Kind = Literal["chat", "text"]


@dataclass(frozen=True, slots=True)
class Told:
    """What the answers to one request have in common, and the answers.

    Attributes:
        kind: chat or plain text.
        model: as it was asked for.
        created_s: wall time of the request.
        tellings: the answers, by their index.
    """

    kind: Kind
    model: str
    created_s: int
    tellings: Sequence[Telling]

    def whole(self, texts: Sequence[str], height: int) -> Document:
        """All answers in one document."""
        return {
            **self._head(is_chunk=False),
            "choices": [
                self._choice(telling, text)
                for telling, text in zip(self.tellings, texts, strict=True)
            ],
            "usage": self._usage(),
            "prsm": self._prsm(height),
        }

    def chunk(self, telling: Telling, text: str | None, *, is_first: bool = False) -> Document:
        """A part of an answer; None: no text, the last of them, which says why it ends."""
        choice: Document = {"index": telling.index, "logprobs": None, "finish_reason": None}
        if text is None:
            choice["finish_reason"] = telling.finish
        if self.kind == "chat":
            delta: Document = {} if text is None else {"content": text}
            choice["delta"] = {"role": "assistant", **delta} if is_first else delta
        else:
            choice["text"] = text or ""
        return {**self._head(is_chunk=True), "choices": [choice]}

    def calls(self, telling: Telling, first: int) -> Document:
        """A part of an answer: its calls of tools from the one numbered `first` on."""
        told = [{"index": place, **call} for place, call in enumerate(_calls(telling))]
        choice: Document = {"index": telling.index, "logprobs": None, "finish_reason": None}
        choice["delta"] = {"tool_calls": told[first:]}
        return {**self._head(is_chunk=True), "choices": [choice]}

    def last(self, telling: Telling, height: int) -> Document:
        """The part that says why the last answer ends, with the field `prsm`."""
        return {**self.chunk(telling, None), "prsm": self._prsm(height)}

    def usage(self, height: int) -> Document:
        """The part with the usage alone."""
        return {
            **self._head(is_chunk=True),
            "choices": [],
            "usage": self._usage(),
            "prsm": self._prsm(height),
        }

    def _choice(self, telling: Telling, text: str) -> Document:
        choice: Document = {
            "index": telling.index,
            "logprobs": None,
            "finish_reason": telling.finish,
        }
        if self.kind == "chat":
            message: Document = {"role": "assistant", "content": text, "refusal": None}
            if telling.calls:
                message |= {"content": text if text.strip() else None}
                message |= {"tool_calls": _calls(telling)}
            choice["message"] = message
        else:
            choice["text"] = text
        return choice

    def _head(self, *, is_chunk: bool) -> Document:
        name = "chat.completion" if self.kind == "chat" else "text_completion"
        prefix = "chatcmpl-" if self.kind == "chat" else "cmpl-"
        return {
            "id": prefix + _info(self.tellings[0]).generation_id[2:],
            "object": f"{name}.chunk" if is_chunk and self.kind == "chat" else name,
            "created": self.created_s,
            "model": self.model,
            "system_fingerprint": f"prsm-{VERSION}",
        }

    def _usage(self) -> Document:
        """Tokens of the prompts, each counted once, and of all answers."""
        # By the object: the same text given twice is two prompts, and `n` answers share one.
        prompts = {id(telling.prompt): _info(telling).prompt_tokens for telling in self.tellings}
        before = sum(prompts.values())
        after = sum(_info(telling).tokens for telling in self.tellings)
        return {
            "prompt_tokens": before,
            "completion_tokens": after,
            "total_tokens": before + after,
        }

    def _prsm(self, height: int) -> Document:
        infos = [_info(telling) for telling in self.tellings]
        jobs = [job for info in infos for job in info.jobs]
        peers = list(dict.fromkeys(peer for info in infos for peer in info.stages))
        price = str(sum(int(info.locked) for info in infos))
        return {
            **_bill(jobs, price, peers, height),
            **_course(self.tellings[0]),
            "form": self.tellings[0].prompt.form,
            "choices": [_course(telling) for telling in self.tellings],
        }


def _course(telling: Telling) -> Document:
    """How one answer came about."""
    info = _info(telling)
    return {
        "generation_id": info.generation_id,
        "seed": telling.params.seed,
        "first_token_ms": info.first_token_ms,
    }


def _calls(telling: Telling) -> list[Document]:
    """Calls of tools, with ids that name the generation."""
    prefix = _info(telling).generation_id[2:26]
    return [
        {
            "id": f"call_{prefix}_{place}",
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for place, call in enumerate(telling.calls)
    ]


def _info(telling: Telling) -> GenerationInfo:
    assert telling.info is not None
    return telling.info


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
