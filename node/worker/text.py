"""Tokenise texts and lay them into micro-batches, alike on every machine.

Rule R9: rows of a micro-batch, their order and padded length are part of the job. Padding is to a
length bucket (multiples of 8 up to 64, then of 32), inside the bucket only; longer texts are cut.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import numpy as np
from tokenizers import Tokenizer

from prsm.node.worker.pipe import Array
from prsm.protocol.messages.pipe import ModelRefused

TOKENIZER_BYTES_MAX: Final = 64 * 1024 * 1024


def load(raw: bytes) -> Tokenizer:
    """Read a `tokenizer.json`.

    Raises:
        ModelRefused: the library does not accept it.
    """
    with refusing("the tokenizer does not load"):
        tokenizer = Tokenizer.from_buffer(raw)
        # The file's own length limit and padding are the exporter's habit, not the job's plan.
        tokenizer.no_padding()
        tokenizer.no_truncation()
        # Merges left out by dice belong to training; here equal texts have equal tokens.
        if getattr(tokenizer.model, "dropout", None) is not None:
            tokenizer.model.dropout = None
    return tokenizer


@contextmanager
def refusing(what: str) -> Iterator[None]:
    """Turn whatever the library raises over a stranger's file, panics included, into a refusal.

    Raises:
        ModelRefused: `what`, and why.
    """
    try:
        yield
    except BaseException as error:
        # A panic of the Rust library derives from BaseException.
        if isinstance(error, MemoryError | SystemExit | KeyboardInterrupt):
            raise
        raise ModelRefused(f"{what}: {' '.join(str(error).split())[:200]}") from error


def ids_of(tokenizer: Tokenizer, text: str, *, with_special: bool = True) -> list[int]:
    """Tokens of a text.

    Raises:
        ModelRefused: the tokenizer fails on it.
    """
    with refusing("the tokenizer fails on a text"):
        return list(tokenizer.encode(text, add_special_tokens=with_special).ids)


def bucket(tokens: int) -> int:
    """Return the padded length of a row: a multiple of 8 up to 64, then of 32."""
    step = 8 if tokens <= 64 else 32
    return max(8, -(-tokens // step) * step)


def plan(lengths: Sequence[int], rows_per_batch: int) -> list[tuple[int, tuple[int, ...]]]:
    """Lay rows into micro-batches: (padded length, places of the rows), short buckets first.

    Rows keep their order inside a bucket, so the plan follows from the lengths alone.
    """
    buckets: dict[int, list[int]] = {}
    for place, length in enumerate(lengths):
        buckets.setdefault(bucket(length), []).append(place)
    return [
        (size, tuple(rows[start : start + rows_per_batch]))
        for size, rows in sorted(buckets.items())
        for start in range(0, len(rows), rows_per_batch)
    ]


def batches(
    tokenizer: Tokenizer, texts: Sequence[str], *, rows_per_batch: int, tokens_max: int
) -> Iterator[tuple[tuple[int, ...], dict[str, Array]]]:
    """Yield micro-batches: places of the rows, and their arrays.

    Arrays: `input_ids` and `attention_mask`, both int64 (batch, tokens).

    Raises:
        ModelRefused: the tokenizer fails on a text.
    """
    tokenizer.enable_truncation(tokens_max)
    encoded = [ids_of(tokenizer, text) for text in texts]
    padding = _padding_id(tokenizer)
    for size, rows in plan([len(ids) for ids in encoded], rows_per_batch):
        ids = np.full((len(rows), size), padding, dtype=np.int64)
        mask = np.zeros((len(rows), size), dtype=np.int64)
        for line, place in enumerate(rows):
            ids[line, : len(encoded[place])] = encoded[place]
            mask[line, : len(encoded[place])] = 1
        yield rows, {"input_ids": ids, "attention_mask": mask}


def _padding_id(tokenizer: Tokenizer) -> int:
    for token in ("[PAD]", "<pad>", "<|pad|>"):
        found = tokenizer.token_to_id(token)
        if found is not None:
            return int(found)
    return 0
