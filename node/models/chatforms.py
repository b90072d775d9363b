"""Messages of a conversation as one prompt, in the form a model was trained on.

A model with a template of its own is written by that, elsewhere (`templates`). For the others the
form is recognised by the special tokens of the model's own tokenizer; a model whose tokenizer has
none of them gets no conversation unless the caller asks for the plain form. A message that
holds a special token is refused: it would end its turn and speak for somebody else.

Knows: forms and their tokens. Must not know: where a tokenizer is, who asks.
Source: docs/spec/rpc.md, "Conversations".
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from prsm.protocol.errors import LocalError
from prsm.protocol.jsontext import UNREADABLE
from prsm.protocol.messages.pipe import InputMismatch, ModelRefused

Role = Literal["system", "user", "assistant"]


class NoChatForm(LocalError):
    """The tokenizer of the model has no tokens of a conversation."""

    reason = "no_chat_form"


class ToolsUnsupported(LocalError):
    """The model has no way of calling tools that is known here."""

    reason = "tools_unsupported"


@dataclass(frozen=True, slots=True)
class Message:
    """One turn."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class ChatForm:
    """How turns are written.

    Attributes:
        name: of the form.
        marks: special tokens that a tokenizer of such models has, all of them.
        start: before the first turn.
        turn: one turn, of `{role}` and `{content}`.
        answer: what the model goes on from.
        stops: texts that end an answer where no token does.
        begins: a special token written first where the tokenizer has it.
    """

    name: str
    marks: frozenset[str]
    turn: str
    answer: str
    stops: tuple[str, ...] = ()
    begins: str = ""


TEMPLATE: Final = "template"  # the name of what a model's own template writes
PLAIN: Final = ChatForm(
    "plain",
    frozenset(),
    "{role}: {content}\n",
    "assistant:",
    ("\nuser:", "\nsystem:", "\nassistant:"),  # a line of any role would be a turn of its own
)
# Looked at in this order; the marks of one are no subset of another's.
FORMS: Final = (
    ChatForm(
        "llama3",
        frozenset({"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"}),
        "<|start_header_id|>{role}<|end_header_id|>\n\n{content}<|eot_id|>",
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        begins="<|begin_of_text|>",
    ),
    ChatForm(
        "chatml",
        frozenset({"<|im_start|>", "<|im_end|>"}),
        "<|im_start|>{role}\n{content}<|im_end|>\n",
        "<|im_start|>assistant\n",
    ),
    ChatForm(
        "phi3",
        frozenset({"<|user|>", "<|assistant|>", "<|end|>"}),
        "<|{role}|>\n{content}<|end|>\n",
        "<|assistant|>\n",
    ),
)


_DEPTH_MAX: Final = 64  # of JSON in a tool; schemas in use have ten


class _Added(msgspec.Struct):
    content: str
    special: bool = False


class _Tokenizer(msgspec.Struct):
    added_tokens: list[_Added] = []


def special_tokens(raw: bytes) -> frozenset[str]:
    """Special tokens a `tokenizer.json` adds to its vocabulary.

    Raises:
        ModelRefused: it is no such file.
    """
    try:
        found = msgspec.json.decode(raw, type=_Tokenizer)
    except UNREADABLE as error:
        raise ModelRefused(f"the tokenizer does not load: {str(error)[:200]}") from error
    return frozenset(one.content for one in found.added_tokens if one.special and one.content)


def check_texts(talk: object, special: Collection[str]) -> None:
    """Look through every text of a conversation that a template will write.

    Args:
        talk: messages and tools, nested as JSON is.
        special: tokens none of them may hold, names of fields included.

    Raises:
        InputMismatch: one holds a special token, or lies too deep.
    """
    left: list[tuple[object, int]] = [(talk, 0)]
    while left:
        value, depth = left.pop()
        if depth > _DEPTH_MAX:
            raise InputMismatch(f"a tool or a call nested deeper than {_DEPTH_MAX}")
        if isinstance(value, str):
            held = next((one for one in special if one in value), None)
            if held is not None:
                raise InputMismatch(
                    f"a message or tool holds {held!r}, which would end its turn",
                    hint="leave it out; the node writes the turns itself",
                )
        elif isinstance(value, dict):
            left += [(one, depth + 1) for pair in value.items() for one in pair]
        elif isinstance(value, list):
            left += [(one, depth + 1) for one in value]


def form_of(special: Collection[str]) -> ChatForm | None:
    """The form whose tokens a tokenizer has; None if it has none's."""
    return next((form for form in FORMS if form.marks <= set(special)), None)


def render(form: ChatForm, messages: Sequence[Message], special: Collection[str]) -> str:
    """Write a conversation, up to where the model is to answer.

    Raises:
        InputMismatch: a message holds a special token, or a line that ends an answer.
    """
    for place, message in enumerate(messages):
        held = next((one for one in (*special, *form.stops) if one in message.content), None)
        if held is not None:
            raise InputMismatch(
                f"message {place} holds {held!r}, which ends a turn in the form {form.name}",
                hint="leave it out; the node writes the turns itself",
            )
    first = form.begins if form.begins in special else ""
    turns = (form.turn.format(role=one.role, content=one.content) for one in messages)
    return first + "".join(turns) + form.answer
