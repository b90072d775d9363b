"""model_getPrompt: the messages of a conversation as the prompt a model was trained on."""

from typing import Annotated, Final, Literal

import msgspec

from prsm.node.rpc.spec import CidText, Method, Params, RefText, Result, Scope

MESSAGES_MAX: Final = 1024


class ChatMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: Annotated[str, msgspec.Meta(max_length=1_048_576)]


class PromptParams(Params, frozen=True):
    """A conversation, and how it is written."""

    model: RefText
    messages: Annotated[
        tuple[ChatMessage, ...], msgspec.Meta(min_length=1, max_length=MESSAGES_MAX)
    ]
    form: Annotated[
        Literal["own", "plain"],
        msgspec.Meta(description="own: by the special tokens of the model's tokenizer"),
    ] = "own"


class PromptText(Result, frozen=True):
    """A prompt for infer_generate; an answer ends before any of `stops`."""

    model: CidText
    form: str  # chatml, llama3, phi3, plain
    prompt: str
    stops: tuple[str, ...]


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
