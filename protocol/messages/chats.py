"""Conversations on the worker pipe: a model's own template, rendered in a sealed child.

Part of the table of `pipe`. Source: docs/spec/rpc.md, "Conversations".
"""

from typing import Annotated, Final, Literal

import msgspec

from prsm.protocol.codec import Record
from prsm.protocol.limits import MIB

TEMPLATE_BYTES_MAX: Final = 1 * MIB  # the longest in use are of 30 kB
TOKENIZER_CONFIG_BYTES_MAX: Final = 4 * MIB  # some list each of 50,000 added tokens
WRITTEN_CHARS_MAX: Final = 1_048_576  # as infer_generate takes a prompt

CallForm = Literal["", "hermes"]  # how answers of a model call tools; empty: no known way
# Around each call in the text of an answer, in the form of the Hermes models.
CALL_BEGIN: Final = "<tool_call>"
CALL_END: Final = "</tool_call>"
_Name = Annotated[str, msgspec.Meta(max_length=16)]


class Render(Record, frozen=True):
    """Call: write the conversation in the tail, a JSON object of `messages`, `tools`, `now_s`.

    The template comes in the files of the child: `chat_template.jinja`, `tokenizer_config.json`.
    """

    has_template: bool
    has_config: bool


class Rendered(Record, frozen=True):
    """Answer to `Render`: UTF-8 in the tail; an empty `form` says that there is no template."""

    form: _Name
    calls: _Name  # a `CallForm`


KINDS: Final[dict[int, type[Record]]] = {
    135: Render,
    136: Rendered,
}
