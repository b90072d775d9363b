"""A preparing child's answers: which files a raw model wants beside it, then the finished ones.

Knows descriptors and calls of the pipe. Must not open a file by a name: what lies beside a model
comes as descriptors, which the daemon has opened.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from prsm.node.worker import beside, session, text
from prsm.node.worker.files import mapped, read_all
from prsm.node.worker.pipe import Frame, Pipe, send_file
from prsm.node.worker.prepare import Preparation
from prsm.node.worker.scan import MODEL_BYTES_MAX, Policy, parse
from prsm.protocol.limits import SHARD_WEIGHTS_MAX
from prsm.protocol.messages.pipe import (
    SIDE_NAME_CHARS_MAX,
    AskSideFiles,
    ModelRefused,
    Prepare,
    SideFiles,
    WorkerFailed,
)


def answer(pipe: Pipe, fds: Sequence[int], folder: Path, policy: Policy, frame: Frame) -> None:
    """Answer one call.

    Args:
        pipe: gets the answer and, before it, the parts of finished files.
        fds: the model, its tokenizer if it has one, the files beside it.
        folder: writable, for the pin.
        policy: what the gate lets through.
        frame: the call.

    Raises:
        LocalError: see `Preparation.run`.
    """
    call = frame.body
    raw = read_all(fds[0], size_max=MODEL_BYTES_MAX)
    if isinstance(call, AskSideFiles):
        pipe.write(SideFiles(_names(raw)), request_id=frame.request_id)
        return
    if not isinstance(call, Prepare):
        raise WorkerFailed(f"a preparing child takes no {type(call).__name__}")
    if call.has_tokenizer:
        text.load(read_all(fds[1], size_max=text.TOKENIZER_BYTES_MAX))
    others = fds[2:] if call.has_tokenizer else fds[1:]
    sides = dict(zip(call.sides, map(mapped, others), strict=True))
    work = Preparation(policy, session.compute, partial(send_file, pipe))
    pipe.write(work.run(raw, folder, call.stages, sides), request_id=frame.request_id)


def _names(raw: bytes) -> tuple[str, ...]:
    names = beside.names_wanted(parse(raw))
    if len(names) > SHARD_WEIGHTS_MAX:
        raise ModelRefused(f"its weights lie in {len(names)} files, at most {SHARD_WEIGHTS_MAX}")
    if not all(1 <= len(name) <= SIDE_NAME_CHARS_MAX for name in names):
        raise ModelRefused("its weights lie in a file whose name is none")
    return tuple(names)
