"""Requests of the OpenAI API: what is taken, what changes nothing, what is refused by name.

A parameter that would change the answer and is not supported is refused; one whose value is what
happens anyway (`n: 1`) is taken. Knows: JSON. Must not know: HTTP, how an answer is made.
Source: https://platform.openai.com/docs/api-reference
"""

import difflib
from collections.abc import Mapping
from typing import Annotated, Final, Literal, TypeVar

import msgspec

from prsm.node.rpc.errors import BadParams, ParseFailed
from prsm.node.rpc.methods.chat import CALLS_MAX, TOOLS_MAX, ToolName
from prsm.node.rpc.spec import AmountText, RefText
from prsm.node.web.openai.faults import ParameterUnsupported
from prsm.protocol.jsontext import UNREADABLE
from prsm.protocol.limits import WORK_STAGES_MAX

EMBED_TEXTS_MAX: Final = 256  # as serve_run takes rows
CHOICES_MAX: Final = 8  # answers to one request: half of the generations a node runs at a time
SEED_MAX: Final = 2**53  # as infer_generate takes it
_STOPS_MAX: Final = 4

# Name -> values that ask for what is done anyway; null always does.
_NEUTRAL: Final[Mapping[str, tuple[object, ...]]] = {
    "n": (1,),
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "tools": ([],),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "web_search_options": (),
    "reasoning_effort": ("none",),
    "verbosity": ("medium",),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "dimensions": (),
}
# What to do instead, of what people ask for most.
_DRAWN: Final = (
    "a token is drawn by temperature, top_k, top_p and seed alone, so that it can be checked"
)
_UNTOLD: Final = "workers answer tokens, not how likely each was"
_INSTEAD: Final[Mapping[str, str]] = {
    **dict.fromkeys(("presence_penalty", "frequency_penalty", "logit_bias"), _DRAWN),
    **dict.fromkeys(("logprobs", "top_logprobs"), _UNTOLD),
    "response_format": "nothing holds a model to a form: ask for it in the messages, or give tools",
}
# Names of the caller's own users and notes: they change no answer.
_NOTES: Final = frozenset(
    ("user", "metadata", "safety_identifier", "prompt_cache_key", "prompt_cache_retention")
)
_SILENT: Final = frozenset(("refusal", "annotations", "audio", "function_call", "name"))
# Names that are read, but not whatever they say.
_ONLY: Final[Mapping[str, tuple[object, ...]]] = {"tool_choice": ("none", "auto")}
T = TypeVar("T", bound=msgspec.Struct)

_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=1_048_576)]
_Row = Annotated[str, msgspec.Meta(min_length=1, max_length=65_536)]  # as serve_run takes them
_Stop = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
_Stops = _Stop | Annotated[tuple[_Stop, ...], msgspec.Meta(max_length=_STOPS_MAX)] | None


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The field `prsm` of a request: what the OpenAI API has no words for.

    `max_price`: most micro-FTNS to lock; `local`: this node does it all, and nothing is locked;
    `form`: how a conversation is written; `opinions`: workers asked for an embedding; null: one
    that has pledged for it, else two that must agree.
    """

    max_price: AmountText | None = None
    local: bool = False
    stages: Annotated[int, msgspec.Meta(ge=1, le=WORK_STAGES_MAX)] = 1
    home: Annotated[int, msgspec.Meta(ge=0, le=WORK_STAGES_MAX)] = 0
    spare: bool = True
    deadline_ms: Annotated[int, msgspec.Meta(ge=1_000, le=86_400_000)] = 600_000
    form: Literal["own", "plain"] = "own"
    opinions: Annotated[int, msgspec.Meta(ge=1, le=3)] | None = None
    fresh: bool = False


class StreamOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`include_usage`: one more chunk before the end, with the usage alone."""

    include_usage: bool = False


class _Generate(msgspec.Struct, frozen=True, kw_only=True):
    model: RefText
    max_tokens: Annotated[int, msgspec.Meta(ge=1, le=65_536)] | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] = 1.0
    top_p: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0
    top_k: Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)] = 0
    seed: Annotated[int, msgspec.Meta(ge=0, le=SEED_MAX)] | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=CHOICES_MAX)] = 1
    stop: _Stops = None
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    prsm: Options = Options()

    @property
    def stops(self) -> tuple[str, ...]:
        """Texts that end the answer."""
        return (self.stop,) if isinstance(self.stop, str) else self.stop or ()


class CompletionRequest(_Generate, frozen=True, kw_only=True):
    """POST /v1/completions."""

    prompt: _Text | Annotated[tuple[_Text, ...], msgspec.Meta(min_length=1, max_length=CHOICES_MAX)]
    echo: bool = False

    @property
    def texts(self) -> tuple[str, ...]:
        """The prompts."""
        return (self.prompt,) if isinstance(self.prompt, str) else self.prompt


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: Literal["text"]
    text: str


class CalledFunction(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an earlier answer asked for; `arguments` is the text of a JSON object."""

    name: ToolName
    arguments: Annotated[str, msgspec.Meta(max_length=1_048_576)]


class Called(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One call of an earlier answer."""

    id: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    function: CalledFunction
    type: Literal["function"] = "function"


class Message(msgspec.Struct, frozen=True):
    """One turn; its content is joined to one text."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | tuple[_Part, ...] | None = None
    tool_calls: Annotated[tuple[Called, ...], msgspec.Meta(max_length=CALLS_MAX)] = ()
    tool_call_id: Annotated[str, msgspec.Meta(max_length=64)] = ""

    def __post_init__(self) -> None:
        """Check what one field allows of another.

        Raises:
            ValueError: a turn without content, or with calls that are not its own.
        """
        if self.content is None and not self.tool_calls:
            raise ValueError("Object missing required field `content`")
        if self.tool_calls and self.role != "assistant":
            raise ValueError(f"a message of role {self.role} calls no tools")
        if (self.role == "tool") != bool(self.tool_call_id):
            raise ValueError("`tool_call_id` belongs to a message of role tool")

    @property
    def text(self) -> str:
        """All of its text."""
        if self.content is None or isinstance(self.content, str):
            return self.content or ""
        return "".join(part.text for part in self.content)


class Function(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A function the model may ask for."""

    name: ToolName
    description: Annotated[str, msgspec.Meta(max_length=65_536)] | None = None
    parameters: dict[str, object] | None = None
    strict: bool | None = None


class FunctionTool(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of the tools of a request."""

    type: Literal["function"]
    function: Function


class ChatRequest(_Generate, frozen=True, kw_only=True):
    """POST /v1/chat/completions."""

    messages: Annotated[tuple[Message, ...], msgspec.Meta(min_length=1, max_length=1024)]
    max_completion_tokens: Annotated[int, msgspec.Meta(ge=1, le=65_536)] | None = None
    tools: Annotated[tuple[FunctionTool, ...], msgspec.Meta(max_length=TOOLS_MAX)] = ()
    tool_choice: Literal["none", "auto"] = "auto"
    parallel_tool_calls: bool = True


class EmbeddingRequest(msgspec.Struct, frozen=True, kw_only=True):
    """POST /v1/embeddings."""

    model: RefText
    input: (
        _Row | Annotated[tuple[_Row, ...], msgspec.Meta(min_length=1, max_length=EMBED_TEXTS_MAX)]
    )
    encoding_format: Literal["float", "base64"] = "float"
    prsm: Options = Options()

    @property
    def texts(self) -> tuple[str, ...]:
        """One row each."""
        return (self.input,) if isinstance(self.input, str) else self.input


def read_request(body: bytes, shape: type[T]) -> T:
    """Read a request, or say which parameter is wrong.

    Raises:
        ParseFailed: no JSON object.
        ParameterUnsupported: a parameter this node would not do as it says.
        BadParams: an unknown one, one of another type, or one out of bounds.
    """
    try:
        given = msgspec.json.decode(body, type=dict[str, object])
    except UNREADABLE as error:
        raise ParseFailed(f"no JSON object: {str(error)[:120]}") from error
    known = shape.__struct_fields__
    taken = {
        name: _plain_messages(value) if name == "messages" else value
        for name, value in given.items()
        if value is not None and _is_taken(name, value, known)
    }
    try:
        return msgspec.convert(taken, type=shape)
    except msgspec.ValidationError as error:
        text, _, place = str(error).partition(" - at `$")
        where = place.removeprefix(".").removesuffix("`")
        raise BadParams(f"{where or 'the request'}: {text}", field=where) from error


def _is_taken(name: str, value: object, known: tuple[str, ...]) -> bool:
    """Is it read here? False: it changes nothing."""
    if name in known and value in _ONLY.get(name, (value,)):
        return True
    if name in _NOTES or _is_neutral(value, _NEUTRAL.get(name, ())):
        return False
    if name in _NEUTRAL or name in known:
        what = f"{name} is not supported"
        raise ParameterUnsupported(what, hint=_INSTEAD.get(name, ""), field=name)
    near = difflib.get_close_matches(name[:80], known, n=1)
    raise BadParams(
        f"no parameter {name[:80]!r}",
        hint=f"did you mean {near[0]!r}?" if near else f"it takes: {', '.join(known)}",
        field=name[:80],
    )


def _is_neutral(value: object, ones: tuple[object, ...]) -> bool:
    # To Python 0 is False, but `logprobs: 0` of a completion asks for those of what was chosen.
    return any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in ones)


def _plain_messages(value: object) -> object:
    """Messages without the empty fields that clients send back with an earlier answer."""
    if not isinstance(value, list):
        return value
    return [
        _plain_message(place, message) if isinstance(message, dict) else message
        for place, message in enumerate(value)
    ]


def _plain_message(place: int, message: Mapping[str, object]) -> Mapping[str, object]:
    for name, held in message.items():
        if name not in Message.__struct_fields__ and not (name in _SILENT and not held):
            field = f"messages[{place}].{name}"[:80]
            raise ParameterUnsupported(f"{field} is not supported", field=field)
    return {name: held for name, held in message.items() if held is not None or name == "content"}
