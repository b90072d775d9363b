"""Calls of tools in a text that comes in parts: told apart from the words around them.

The one form known is that of the Hermes models, which Qwen and others took over: a JSON object of
`name` and `arguments` between `<tool_call>` and `</tool_call>`. What stands between the marks and
is no such object stays in the text: nothing a model said is lost. Knows: texts only.
Source: https://github.com/NousResearch/Hermes-Function-Calling ("Prompt Format")
"""

from dataclasses import dataclass

import msgspec

from prsm.node.web.openai.stops import overlap
from prsm.protocol.messages.chats import CALL_BEGIN, CALL_END


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a tool; `arguments` is the text of a JSON object."""

    name: str
    arguments: str


class _Hermes(msgspec.Struct):
    name: str
    arguments: dict[str, object]


class CallReader:
    """Passes text on and keeps the calls in it.

    Invariants: text and calls come in the order they were said; a call is told once it is whole.

    Attributes:
        calls: those that were whole so far.
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._kept = ""

    def feed(self, text: str) -> str:
        """What of the text is no call, as far as that can be told now."""
        self._kept += text
        told: list[str] = []
        while True:
            before, mark, rest = self._kept.partition(CALL_BEGIN)
            if not mark:
                held = overlap(before, CALL_BEGIN)
                self._kept = before[len(before) - held :]
                told.append(before[: len(before) - held])
                break
            body, mark, after = rest.partition(CALL_END)
            told.append(before)
            if not mark:
                self._kept = CALL_BEGIN + rest
                break
            self._kept = after
            call = _read(body)
            if call is None:
                told.append(CALL_BEGIN + body + CALL_END)
            else:
                self.calls.append(call)
        return "".join(told)

    def end(self) -> str:
        """What waited, once no more comes."""
        kept, self._kept = self._kept, ""
        call = _read(kept.removeprefix(CALL_BEGIN)) if kept.startswith(CALL_BEGIN) else None
        if call is None:
            return kept
        self.calls.append(call)  # its end was a token that is not told, or the bound of tokens
        return ""


def _read(body: str) -> Call | None:
    try:
        found = msgspec.json.decode(body.strip(), type=_Hermes)
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError):
        return None
    return Call(found.name, msgspec.json.encode(found.arguments).decode("utf-8"))
