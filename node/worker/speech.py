"""Text into tokens and tokens back into text, for one generation, in a sealed child of its own.

Text leaves in whole characters: a token that ends inside one waits for the next. Must not know
models or sessions.
"""

import json
from typing import Final

import msgspec
import numpy as np
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.decoders import DecodeStream

from prsm.node.worker import text
from prsm.node.worker.pipe import Frame, Pipe
from prsm.protocol.errors import LocalError
from prsm.protocol.jsontext import UNREADABLE
from prsm.protocol.messages.pipe import InputMismatch, WorkerFailed
from prsm.protocol.messages.steps import Said, Say, Spell, Spelt

# What exporters call the token that ends an answer.
_ENDS: Final = (
    *("<|end|>", "<|endoftext|>", "<|im_end|>", "<eos>", "</s>", "[EOS]", "<|eot_id|>"),
    *("<|eom_id|>", "<|end_of_text|>", "<end_of_turn>", "<|end_of_turn|>", "<|return|>"),
    *("<|endofturn|>", "<|END_OF_TURN_TOKEN|>", "<\uff5cend\u2581of\u2581sentence\uff5c>"),
)
assert len(_ENDS) <= 16, "as many as `Spelt` carries"
_BROKEN: Final = "\N{REPLACEMENT CHARACTER}"


class _Added(msgspec.Struct):
    special: bool = False
    normalized: bool = False


class _File(msgspec.Struct):
    added_tokens: list[_Added] = []


class Speaker:
    """One conversation with a tokenizer."""

    def __init__(self, raw: bytes) -> None:
        """Load a `tokenizer.json`.

        Raises:
            ModelRefused: the library does not accept it.
        """
        self._tokenizer: Tokenizer = text.load(_exact(raw))
        if self._tokenizer.decoder is None:  # files made for embedding alone have none
            self._tokenizer.decoder = ByteLevelDecoder()
        self._stream = DecodeStream(skip_special_tokens=True)
        self._ids: list[int] = []
        self._said = ""
        self.ends = tuple(
            sorted(
                int(found)
                for name in _ENDS
                if (found := self._tokenizer.token_to_id(name)) is not None
            )
        )

    def spell(self, prompt: str) -> list[int]:
        """Tokens of a text.

        Raises:
            ModelRefused: the tokenizer fails on it.
        """
        return text.ids_of(self._tokenizer, prompt, with_special=False)

    def say(self, ids: list[int], *, is_last: bool) -> str:
        """What these tokens add to the text; whole characters, unless it is the end.

        Raises:
            InputMismatch: a token the vocabulary does not have.
            ModelRefused: the tokenizer fails on them.
        """
        size = self._tokenizer.get_vocab_size(with_added_tokens=True)
        for token in ids:
            if not 0 <= token < size:
                raise InputMismatch(f"token {token}, the vocabulary has {size}")
        self._ids += ids
        with text.refusing("the tokenizer fails on tokens"):
            parts = [self._stream.step(self._tokenizer, token) or "" for token in ids]
            if is_last:
                parts.append(self._rest("".join(parts)))
        self._said += "".join(parts)
        return "".join(parts)

    def _rest(self, fresh: str) -> str:
        """Characters whose last bytes never came, as the standard writes them."""
        whole = str(self._tokenizer.decode(self._ids, skip_special_tokens=True))
        said = self._said + fresh
        return whole.removeprefix(said) if whole.startswith(said) else ""


def _exact(raw: bytes) -> bytes:
    """The file with its special tokens looked for in the text as it is written.

    Else `<|IM_END|>` may be one once it is normalised, and a message that holds it ends its turn:
    who writes a conversation looks for the tokens as they stand in the file.
    """
    try:
        found = msgspec.json.decode(raw, type=_File)
        if not any(one.special and one.normalized for one in found.added_tokens):
            return raw
        whole = json.loads(raw)
    except (*UNREADABLE, ValueError):
        return raw  # the library says what is wrong with it
    for one in whole["added_tokens"]:
        one["normalized"] = bool(one.get("normalized")) and not one.get("special")
    return json.dumps(whole).encode()


def serve(pipe: Pipe, raw: bytes) -> None:
    """Answer until the daemon closes the pipe."""
    speaker: Speaker | None = None
    while True:
        frame = pipe.read()
        try:
            speaker = speaker or Speaker(raw)
            _answer(pipe, frame, speaker)
        except LocalError as error:
            pipe.refuse(error, request_id=frame.request_id)


def _answer(pipe: Pipe, frame: Frame, speaker: Speaker) -> None:
    match frame.body:
        case Spell():
            try:
                prompt = bytes(frame.tail).decode("utf-8")
            except UnicodeDecodeError as error:
                raise InputMismatch(f"the prompt is no UTF-8: {error.reason}") from error
            ids = np.array(speaker.spell(prompt), dtype="<i8")
            tail = [memoryview(ids.tobytes())]
            pipe.write(Spelt(speaker.ends), request_id=frame.request_id, tail=tail)
        case Say(is_last=is_last):
            if len(frame.tail) % 8:
                raise InputMismatch(f"{len(frame.tail)} bytes are no int64 tokens")
            given = np.frombuffer(frame.tail, dtype="<i8")
            said = speaker.say([int(token) for token in given], is_last=is_last).encode("utf-8")
            pipe.write(Said(), request_id=frame.request_id, tail=[memoryview(said)])
        case _:
            raise WorkerFailed(f"a speaking child takes no {type(frame.body).__name__}")
