"""A byte-level BPE tokenizer learned from a corpus, and texts as one line of tokens.

Knows the library of tokenizers. Every UTF-8 text has tokens: the alphabet is all 256 bytes.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from prsm.node.worker.recipes.decoder import PADDING

END: Final = "<|end|>"  # between documents; a generation may stop at it
Tokens = npt.NDArray[np.int64]


def learn(texts: Sequence[str], vocabulary: int) -> Tokenizer:
    """Learn merges from texts; the two special tokens have ids 0 (padding) and 1 (end)."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PADDING, END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def line(tokenizer: Tokenizer, texts: Sequence[str]) -> Tokens:
    """All texts behind one another, each followed by the end token; int64 (tokens)."""
    end = tokenizer.token_to_id(END)
    assert end is not None, "learned as a special token"
    ids: list[int] = []
    for encoding in tokenizer.encode_batch(list(texts)):
        ids.extend(encoding.ids)
        ids.append(end)
    return np.array(ids, dtype=np.int64)
