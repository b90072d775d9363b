"""Conversations as a model's own template writes them: one sealed child for each.

A template is a stranger's program, so its child has little memory, little time, and goes when it
has answered. Must not know what a template is written in, nor models.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import trio

from prsm.node.inference.pool import Pool, opened
from prsm.protocol.limits import MIB
from prsm.protocol.messages.chats import WRITTEN_CHARS_MAX, CallForm, Render, Rendered
from prsm.protocol.messages.pipe import (
    DeadlinePassed,
    InputMismatch,
    ModelRefused,
    Role,
    WorkerFailed,
)

# The program with its libraries takes 230 MiB of address space; templates in use take under one.
MEMORY_BYTES: Final = 512 * MIB
CPU_SECONDS: Final = 5  # those in use take milliseconds
WALL_SECONDS: Final = 20.0
TALK_BYTES_MAX: Final = 4 * MIB

Document = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Talk:
    """A conversation to write: messages and tools in the words of the OpenAI API.

    Attributes:
        messages: objects with `role`, `content` and what else a turn has.
        tools: objects with `type` and `function`.
        now_s: wall time, for templates that write the date.
    """

    messages: Sequence[Document]
    tools: Sequence[Document]
    now_s: int


@dataclass(frozen=True, slots=True)
class Written:
    """A prompt, and how answers of its model call tools; empty where the template says nothing."""

    prompt: str
    calls: CallForm


async def write(
    pool: Pool, talk: Talk, *, template: Path | None, config: Path | None
) -> Written | None:
    """Have a template write a conversation.

    Args:
        pool: forks the child.
        talk: the conversation.
        template: a `chat_template.jinja`, or None.
        config: a `tokenizer_config.json`, or None.

    Returns:
        None where the files hold no template.

    Raises:
        InputMismatch: too long a conversation, or one that the template refuses.
        ModelRefused: the template fails, or reaches for what it may not have.
        OutOfMemory, DeadlinePassed: it takes more memory or time than such a child may have.
        WorkerFailed: the child died, or answered what no worker answers.
    """
    raw = msgspec.json.encode({"messages": talk.messages, "tools": talk.tools, "now_s": talk.now_s})
    if len(raw) > TALK_BYTES_MAX:
        raise InputMismatch(f"a conversation of {len(raw)} bytes, at most {TALK_BYTES_MAX}")
    paths = [path for path in (template, config) if path is not None]
    call = Render(template is not None, config is not None)
    spawn = pool.spawn(Role.TEMPLATE, 0)
    memory_bytes = min(spawn.memory_bytes, MEMORY_BYTES)
    spawn = msgspec.structs.replace(spawn, memory_bytes=memory_bytes, cpu_seconds=CPU_SECONDS)
    with opened(paths) as fds:
        async with pool.child(spawn, fds) as child:
            with trio.move_on_after(WALL_SECONDS):
                rendered, tail = await child.exchange(call, Rendered, tail=[raw])
                return _read(rendered, bytes(tail))
    raise DeadlinePassed(f"the chat template took longer than {WALL_SECONDS:g} s")


def _read(rendered: Rendered, tail: bytes) -> Written | None:
    if not rendered.form:
        return None
    try:
        prompt = tail.decode("utf-8")
    except UnicodeDecodeError as error:
        raise WorkerFailed("the worker answered no UTF-8") from error
    if len(prompt) > WRITTEN_CHARS_MAX:
        raise WorkerFailed(f"the worker wrote {len(prompt)} characters")
    if not prompt:
        raise ModelRefused("the chat template writes nothing")
    match rendered.calls:
        case "" | "hermes" as calls:
            return Written(prompt, calls)
        case _:
            raise WorkerFailed("the worker names calls of no known form")
