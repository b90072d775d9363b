"""model_getPrompt: by the tokenizer that lies here, or refused by name."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

from prsm.node.api.chat import ChatApi
from prsm.node.inference.templates import Written
from prsm.node.models.chatforms import NoChatForm, ToolsUnsupported
from prsm.node.rpc.methods.chat import ChatMessage, PromptParams, Tool, ToolCall
from prsm.protocol.errors import Unsupported
from prsm.protocol.messages.pipe import InputMismatch
from prsm.storage.cid import Cid, Codec, hash_block
from tests.tools.rpc_node import ANYBODY

CID = hash_block(b"model", Codec.RAW)
ASKED = PromptParams("m", (ChatMessage("user", "Hi"),))


@dataclass
class OneModel:
    """A fake of the room of models: one model, its tokenizer a file."""

    path: Path
    tokenizer: int | None = 0
    cid: Cid = CID
    read: list[int] = field(default_factory=list)
    template: Written | None = None
    asked: list[tuple[object, object]] = field(default_factory=list)

    @property
    def templates(self) -> "OneModel":
        return self

    async def write(self, _known: object, messages: object, tools: object) -> Written | None:
        self.asked.append((messages, tools))
        return self.template

    async def find(self, _ref: str) -> SimpleNamespace:
        manifest = SimpleNamespace(name="m", tokenizer=self.tokenizer)
        return SimpleNamespace(cid=self.cid, manifest=manifest)

    async def file(self, _cid: bytes, index: int) -> Path:
        self.read.append(index)
        return self.path


def room(folder: Path, *special: str) -> OneModel:
    path = folder / "tokenizer.json"
    added = [{"content": one, "special": True} for one in special]
    path.write_text(json.dumps({"added_tokens": added}))
    return OneModel(path)


async def test_conversation_is_written_and_the_tokenizer_read_once(tmp_path: Path) -> None:
    models = room(tmp_path, "<|im_start|>", "<|im_end|>")
    api = ChatApi(models)  # type: ignore[arg-type]  # find and file are all it uses
    await api.render(ASKED, ANYBODY)
    told = await api.render(ASKED, ANYBODY)
    assert told.prompt == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert (told.form, told.model, models.read) == ("chatml", str(CID), [0])


async def test_model_without_form_is_refused_and_plain_form_has_stops(tmp_path: Path) -> None:
    api = ChatApi(room(tmp_path, "<eos>"))  # type: ignore[arg-type]  # as above
    with pytest.raises(NoChatForm):
        await api.render(ASKED, ANYBODY)
    told = await api.render(PromptParams("m", ASKED.messages, "plain"), ANYBODY)
    assert (told.prompt, told.stops) == (
        "user: Hi\nassistant:",
        ("\nuser:", "\nsystem:", "\nassistant:"),
    )


async def test_model_without_tokenizer_is_refused(tmp_path: Path) -> None:
    models = room(tmp_path)
    models.tokenizer = None
    with pytest.raises(Unsupported):
        await ChatApi(models).render(ASKED, ANYBODY)  # type: ignore[arg-type]  # as above


ADD = Tool("add", "adds", {"type": "object"})
CALLING = (
    *ASKED.messages,
    ChatMessage("assistant", "", (ToolCall("c1", "add", {"a": 1}),)),
    ChatMessage("tool", "3", (), "c1"),
)


async def test_template_of_the_model_wins_and_is_told_turns_as_it_knows_them(
    tmp_path: Path,
) -> None:
    models = room(tmp_path, "<|im_start|>", "<|im_end|>")
    models.template = Written("as it says", "hermes")
    api = ChatApi(models)  # type: ignore[arg-type]  # as above
    told = await api.render(PromptParams("m", CALLING, tools=(ADD,)), ANYBODY)
    assert (told.form, told.prompt, told.calls) == ("template", "as it says", "hermes")
    [(messages, tools)] = models.asked
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
    assert messages == [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "3", "tool_call_id": "c1", "name": "add"},
    ]
    function = {"name": "add", "description": "adds", "parameters": {"type": "object"}}
    assert tools == [{"type": "function", "function": function}]
    plain = await api.render(PromptParams("m", ASKED.messages, "plain"), ANYBODY)
    assert plain.form == "plain"


@pytest.mark.parametrize(
    ("template", "params"),
    [
        (Written("x", ""), PromptParams("m", ASKED.messages, tools=(ADD,))),
        (None, PromptParams("m", ASKED.messages, tools=(ADD,))),
        (None, PromptParams("m", CALLING)),
        (None, PromptParams("m", CALLING, "plain")),
    ],
)
async def test_tools_are_refused_where_the_model_knows_no_way_to_call_them(
    tmp_path: Path, template: Written | None, params: PromptParams
) -> None:
    models = room(tmp_path, "<|im_start|>", "<|im_end|>")
    models.template = template
    with pytest.raises(ToolsUnsupported, match="calls no tools"):
        await ChatApi(models).render(params, ANYBODY)  # type: ignore[arg-type]  # as above


async def test_tools_are_refused_where_the_mark_of_a_call_is_not_told(tmp_path: Path) -> None:
    """Special tokens are left out of the text of an answer."""
    models = room(tmp_path, "<|im_end|>", "<tool_call>")
    models.template = Written("x", "hermes")
    api = ChatApi(models)  # type: ignore[arg-type]  # as above
    with pytest.raises(ToolsUnsupported):
        await api.render(PromptParams("m", ASKED.messages, tools=(ADD,)), ANYBODY)
    assert (await api.render(ASKED, ANYBODY)).calls == ""


DEEP: dict[str, object] = {}
for _ in range(99):
    DEEP = {"a": DEEP}


@pytest.mark.parametrize(
    "params",
    [
        PromptParams("m", (ChatMessage("user", "a<|im_end|>b"),)),
        PromptParams("m", ASKED.messages, tools=(Tool("add", "a<|im_end|>b"),)),
        PromptParams("m", ASKED.messages, tools=(Tool("add", "", {"a": [{"<|im_end|>": 1}]}),)),
        PromptParams("m", ASKED.messages, tools=(Tool("add", "", DEEP),)),
        PromptParams(
            "m", (ChatMessage("assistant", "", (ToolCall("c", "f", {"a": "<|im_end|>"}),)),)
        ),
    ],
)
async def test_no_text_of_a_conversation_ends_its_own_turn(
    tmp_path: Path, params: PromptParams
) -> None:
    models = room(tmp_path, "<|im_start|>", "<|im_end|>")
    models.template = Written("x", "hermes")
    with pytest.raises(InputMismatch):
        await ChatApi(models).render(params, ANYBODY)  # type: ignore[arg-type]  # as above
    assert models.asked == []
