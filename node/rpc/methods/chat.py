"""model_getPrompt: the messages of a conversation as the prompt a model was trained on."""

from typing import Annotated, Final, Literal

import msgspec

from prsm.node.rpc.spec import CidText, Method, Params, RefText, Result, Scope

MESSAGES_MAX: Final = 1024
TOOLS_MAX: Final = 64
CALLS_MAX: Final = 64

ToolName = Annotated[str, msgspec.Meta(pattern=r"\A[a-zA-Z0-9_-]{1,64}\Z")]
_CallId = Annotated[str, msgspec.Meta(max_length=64)]


class ToolCall(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A call of a tool, as an earlier answer made it."""

    id: _CallId
    name: ToolName
    arguments: dict[str, object]


class Tool(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A function the model may ask for; `parameters` is a JSON schema."""

    name: ToolName
    description: Annotated[str, msgspec.Meta(max_length=65_536)] = ""
    parameters: dict[str, object] = {}


class ChatMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One turn of a conversation; that of role `tool` is what the call `tool_call_id` gave."""

    role: Literal["system", "user", "assistant", "tool"]
    content: Annotated[str, msgspec.Meta(max_length=1_048_576)]
    tool_calls: Annotated[tuple[ToolCall, ...], msgspec.Meta(max_length=CALLS_MAX)] = ()
    tool_call_id: _CallId = ""


class PromptParams(Params, frozen=True):
    """A conversation, and how it is written."""

    model: RefText
    messages: Annotated[
        tuple[ChatMessage, ...], msgspec.Meta(min_length=1, max_length=MESSAGES_MAX)
    ]
    form: Annotated[
        Literal["own", "plain"],
        msgspec.Meta(
            description="own: by the model's template, else by its tokenizer's special tokens"
        ),
    ] = "own"
    tools: Annotated[tuple[Tool, ...], msgspec.Meta(max_length=TOOLS_MAX)] = ()


class PromptText(Result, frozen=True):
    """A prompt for infer_generate; an answer ends before any of `stops`.

    `calls` says how an answer calls tools: `hermes`, a JSON object of `name` and `arguments`
    between `<tool_call>` and `</tool_call>`; empty where the model knows no way.
    """

    model: CidText
    form: str  # template, chatml, llama3, phi3, plain
    prompt: str
    stops: tuple[str, ...]
    calls: Literal["", "hermes"] = ""


METHODS: Final = (
    Method(
        "model_getPrompt",
        PromptParams,
        PromptText,
        Scope.READ,
        "A conversation as the prompt of a model, in the form it was trained on.",
        deadline_ms=60_000,  # its tokenizer may have to be fetched
        example=PromptParams("tiny-gpt@1.0.0", (ChatMessage("user", "Hello"),)),
    ),
)
