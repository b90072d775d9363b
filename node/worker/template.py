"""A chat template, a stranger's program, run in a sealed child of its own.

The outer wall is the child: no files, no network, bounded memory and time. The inner one is Jinja's
sandbox, which keeps the program from the interpreter's own objects; both must fail before a
template reads a byte that is not in its conversation. All of Jinja that a template can reach is
imported here, since a sealed child opens no file.

Knows: Jinja, the files templates come in. Must not know: how tokens are made, who asks.
Source: https://huggingface.co/docs/transformers/chat_templating (names that templates may use).
"""

import html  # noqa: F401 - the filter `striptags` imports it, which a sealed child cannot
import json
import pprint  # noqa: F401 - as above, the filter of its name
import re
import textwrap  # noqa: F401 - as above, the filter `wordwrap`
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final, NoReturn

import jinja2.debug  # noqa: F401 - imported by Jinja when a template fails, as above
import msgspec
from jinja2 import nodes
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from typing_extensions import override

from prsm.node.worker.files import read_all
from prsm.node.worker.pipe import Frame, Pipe
from prsm.protocol.jsontext import UNREADABLE
from prsm.protocol.messages.chats import (
    CALL_BEGIN,
    TEMPLATE_BYTES_MAX,
    TOKENIZER_CONFIG_BYTES_MAX,
    WRITTEN_CHARS_MAX,
    CallForm,
    Render,
    Rendered,
)
from prsm.protocol.messages.pipe import InputMismatch, ModelRefused, WorkerFailed

FORM: Final = "template"
_TOOL_USE: Final = "tool_use"  # of several templates, the one for conversations with tools
_FORMAT_CHARS_MAX: Final = 64
_WORDS_MAX: Final = 200
# The mark with an object of `name` or `arguments` behind it, as the template tells the model or
# writes earlier calls: others use the same mark around XML.
_HERMES: Final = re.compile(CALL_BEGIN + r"[^<]{0,120}?\\?[\"'](?:name|arguments)\\?[\"']")


class Conversation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is written: `tools` as the OpenAI API spells them, `now_s` for templates with a date."""

    messages: list[dict[str, object]]
    tools: list[dict[str, object]]
    now_s: int


class Program(msgspec.Struct, frozen=True):
    """A template, and the special tokens it writes by name."""

    text: str
    names: dict[str, str]


class _Named(msgspec.Struct):
    name: str
    template: str


class _Token(msgspec.Struct):
    content: str


class _Config(msgspec.Struct):
    chat_template: str | list[_Named] | None = None
    bos_token: str | _Token | None = None
    eos_token: str | _Token | None = None
    pad_token: str | _Token | None = None
    unk_token: str | _Token | None = None


class _Refused(Exception):
    """The template refused a conversation."""


class _Generation(Extension):
    """The block that marks an answer for training; its content is written as it is."""

    tags = {"generation"}  # noqa: RUF012 - as the base class declares it

    @override
    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Read the block."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def read_program(
    template: bytes | None, config: bytes | None, *, with_tools: bool
) -> Program | None:
    """The template of a model; a file of its own wins over the one in the tokenizer's settings.

    Args:
        template: `chat_template.jinja`, if the model has one.
        config: `tokenizer_config.json`, if it has one.
        with_tools: of several templates, is the one for tools wanted?

    Returns:
        None where there is none.

    Raises:
        ModelRefused: the files are not what their names say.
    """
    try:
        found = msgspec.json.decode(config, type=_Config) if config else _Config()
        text = template.decode("utf-8") if template else None
    except UNREADABLE as error:
        raise ModelRefused(f"the chat template does not load: {_words(error)}") from error
    if text is None:
        text = _chosen(found.chat_template, with_tools=with_tools)
    if text is None:
        return None
    if len(text) > TEMPLATE_BYTES_MAX:
        raise ModelRefused(
            f"a chat template of {len(text)} characters, at most {TEMPLATE_BYTES_MAX}"
        )
    tokens = {
        "bos_token": found.bos_token,
        "eos_token": found.eos_token,
        "pad_token": found.pad_token,
        "unk_token": found.unk_token,
    }
    names = {
        name: token if isinstance(token, str) else token.content
        for name, token in tokens.items()
        if token is not None
    }
    return Program(text, names)


def calls_of(program: Program) -> CallForm:
    """How a model of this template calls tools, as far as the template says it."""
    return "hermes" if "tools" in program.text and _HERMES.search(program.text) else ""


def write(program: Program, talk: Conversation) -> str:
    """Run a template up to where the model is to answer.

    Raises:
        InputMismatch: the template refuses the conversation, in its own words.
        ModelRefused: it fails, reaches for what it may not have, or writes too much.
        MemoryError: it takes more memory than this process may have.
    """
    parts: list[str] = []
    size = 0
    for part in _run(program, talk):
        size += len(part)
        if size > WRITTEN_CHARS_MAX:
            raise ModelRefused(f"the chat template writes over {WRITTEN_CHARS_MAX} characters")
        parts.append(part)
    return "".join(parts)


def _run(program: Program, talk: Conversation) -> Iterator[str]:
    """What the template writes, with its failures as typed errors."""
    try:
        made = _environment(talk.now_s).from_string(program.text)
        yield from made.generate(
            messages=talk.messages,
            tools=talk.tools or None,
            documents=None,
            add_generation_prompt=True,
            **program.names,
        )
    except _Refused as error:
        raise InputMismatch(
            f"the chat template refuses the conversation: {_words(error)}"
        ) from error
    except SecurityError as error:
        raise ModelRefused(
            f"the chat template reaches for what it may not have: {_words(error)}"
        ) from error
    except MemoryError:
        raise
    except Exception as error:
        kind = "" if isinstance(error, TemplateError) else f"{type(error).__name__}: "
        raise ModelRefused(f"the chat template fails: {kind}{_words(error)}") from error


def answer(pipe: Pipe, fds: Sequence[int], frame: Frame) -> None:
    """Answer one call of a child whose files are `fds`.

    Raises:
        LocalError: as `read_program` and `write`.
    """
    call, files = frame.body, list(fds)
    if not isinstance(call, Render):
        raise WorkerFailed(f"a child for templates takes no {type(call).__name__}")
    template = read_all(files.pop(0), size_max=TEMPLATE_BYTES_MAX) if call.has_template else None
    config = (
        read_all(files.pop(0), size_max=TOKENIZER_CONFIG_BYTES_MAX) if call.has_config else None
    )
    talk = msgspec.json.decode(bytes(frame.tail), type=Conversation)
    program = read_program(template, config, with_tools=bool(talk.tools))
    if program is None:
        pipe.write(Rendered("", ""), request_id=frame.request_id)
        return
    try:
        written = write(program, talk).encode("utf-8")
    except UnicodeEncodeError as error:
        raise ModelRefused("the chat template writes what is no text") from error
    rendered = Rendered(FORM, calls_of(program))
    pipe.write(rendered, request_id=frame.request_id, tail=[memoryview(written)])


def _environment(now_s: int) -> ImmutableSandboxedEnvironment:
    """The names a template may use, and no others: nothing drawn, nothing made up."""
    made = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _Generation]
    )
    del made.globals["lipsum"], made.filters["random"]

    def strftime_now(form: str) -> str:
        if len(form) > _FORMAT_CHARS_MAX:
            raise _Refused(f"a format of {len(form)} characters, at most {_FORMAT_CHARS_MAX}")
        return datetime.fromtimestamp(now_s, UTC).strftime(form)

    made.globals |= {"raise_exception": _raise, "strftime_now": strftime_now}
    made.filters["tojson"] = _tojson
    return made


def _raise(words: str) -> NoReturn:
    raise _Refused(words)


def _tojson(value: object, indent: int | None = None) -> str:
    """As models were trained on it: plain characters, nothing escaped for HTML."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _chosen(found: str | list[_Named] | None, *, with_tools: bool) -> str | None:
    if not isinstance(found, list):
        return found
    named = {one.name: one.template for one in found}
    if with_tools and _TOOL_USE in named:
        return named[_TOOL_USE]
    return named.get("default")


def _words(error: Exception) -> str:
    """What a stranger's program says, in one bounded line of plain characters."""
    line = " ".join(str(error).split())
    return "".join(one for one in line if one.isprintable())[:_WORDS_MAX]
