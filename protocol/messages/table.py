"""The one table of message numbers; each module of this package brings its own rows."""

from typing import Final

from prsm.protocol.codec import Record
from prsm.protocol.messages import consensus, models, net, notices, pipe, pool, sync, work
from prsm.protocol.registry import Registry

MESSAGES: Final[Registry[Record]] = Registry("message")

for _module in (
    consensus,
    sync,
    pool,
    notices,
    models,
    work,
    net,
    pipe,
):
    for _number, _cls in _module.KINDS.items():
        MESSAGES.add(_number, _cls)
