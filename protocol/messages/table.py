"""The one table of message numbers; each module of this package brings its own rows.

A peer of an older schema is never sent a number that came after it (docs/spec/wire.md, "Versions").
"""

from typing import Final

from prsm.protocol.codec import Record
from prsm.protocol.messages import (
    announce,
    audit,
    consensus,
    evaluation,
    exchange,
    generation,
    models,
    net,
    notices,
    pipe,
    pool,
    quotes,
    reach,
    serving,
    sync,
    work,
)
from prsm.protocol.registry import Registry

FIRST_SCHEMA: Final = 1
# Schema -> the numbers it brought, used or still free; all others are of the first.
BROUGHT_BY: Final[dict[int, tuple[range, ...]]] = {
    2: (range(55, 57), range(93, 100), range(140, 150)),
    # Parts of chunks, inputs and quotes, what the worker pipe learned, serving, evaluation,
    # generation.
    3: (
        range(30, 32),
        range(81, 90),
        range(105, 110),
        range(115, 120),
        range(123, 130),
        range(133, 140),
        range(150, 180),
    ),
}

MESSAGES: Final[Registry[Record]] = Registry("message")

for _module in (
    consensus,
    sync,
    pool,
    notices,
    models,
    work,
    quotes,
    audit,
    net,
    announce,
    evaluation,
    exchange,
    generation,
    reach,
    pipe,
    serving,
):
    for _number, _cls in _module.KINDS.items():
        MESSAGES.add(_number, _cls)


_TOPICS: Final = {number: cls.__module__.rpartition(".")[2] for number, cls in MESSAGES.items()}


def topic_of(number: int) -> str:
    """What a message is about: the module that has it; `other` for a number nobody knows here."""
    return _TOPICS.get(number, "other")


def since(number: int) -> int:
    """The first schema a node must speak to know a message number."""
    for schema, brought in BROUGHT_BY.items():
        if any(number in numbers for numbers in brought):
            return schema
    return FIRST_SCHEMA
