"""`python -m prsm.node.worker`: the fork server, started by name by node/inference/pool.

Imports numpy, onnxruntime and tokenizers once and makes no session, so that a fork is cheap and
safe; forks one sealed child for each job. Knows pids and pipes. Must not open a model: files come
as descriptors from the daemon and go to the child. When the daemon's end of the control socket
closes, every child is killed and the program ends.
"""

import array
import gc
import os
import resource
import select
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Final

from prsm.node.worker import session
from prsm.node.worker.job import Program, run_child
from prsm.node.worker.pipe import PipeClosed
from prsm.node.worker.provider import choose
from prsm.node.worker.sandbox import WITH_DEVICE, layers
from prsm.protocol.codec import Record, encode
from prsm.protocol.errors import Unsupported, WireError
from prsm.protocol.framing import (
    PREFIX_BYTES,
    PROTOCOL_VERSION,
    Flow,
    Head,
    decode_head,
    encode_frame,
    parse_lengths,
)
from prsm.protocol.limits import SHARD_WEIGHTS_MAX
from prsm.protocol.messages.pipe import (
    CONTROL_FRAME_BYTES_MAX,
    PIPE,
    Exited,
    Kill,
    Ready,
    Spawn,
    Spawned,
    WorkerFailed,
    refusal,
)

_FDS_MAX: Final = SHARD_WEIGHTS_MAX + 4  # pipe, graph, golden rows, adapter beside the weights
_PROVIDER: Final = "--provider="
_BROKEN: Final = 70  # exit code of a child that could not seal itself


class ForkServer:
    """Forks, kills and reaps children on the daemon's word."""

    def __init__(self, control: socket.socket, program: Program) -> None:
        self._control = control
        self._program = program
        self._pids: dict[int, int] = {}  # child number -> pid

    def serve(self) -> None:
        """Answer the control socket until the daemon closes it."""
        wake, alarm = os.pipe()
        os.set_blocking(wake, False)
        os.set_blocking(alarm, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(alarm, warn_on_full_buffer=False)
        found = WITH_DEVICE if self._program.provider.has_device else layers()
        self._send(Ready(session.RUNTIME, found))
        gc.collect()
        gc.freeze()  # children share these pages instead of copying them for reference counts
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(wake, select.POLLIN)
        try:
            while True:
                ready = {fd for fd, _ in poll.poll()}
                if wake in ready:
                    os.read(wake, 4096)
                    self._reap()
                if self._control.fileno() in ready:
                    self._answer()
        except (PipeClosed, ConnectionError):
            return
        finally:
            for pid in self._pids.values():
                os.kill(pid, signal.SIGKILL)

    def _answer(self) -> None:
        head, fds = self._receive()
        try:
            body = PIPE.decode(head.kind, head.body, size_max=CONTROL_FRAME_BYTES_MAX)
            match body:
                case Spawn():
                    self._send(self._spawn(body, fds), Flow.REPLY, head.request_id)
                case Kill() if body.child in self._pids:
                    # Not reaped yet, so the pid is still this child's.
                    os.kill(self._pids[body.child], signal.SIGKILL)
                case _:
                    pass
        except OSError as error:
            failed = WorkerFailed(f"no child could be forked: {error.strerror}")
            self._send(refusal(failed), Flow.ERROR, head.request_id)
        finally:
            for fd in fds:
                os.close(fd)

    def _spawn(self, spawn: Spawn, fds: Sequence[int]) -> Spawned:
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            try:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                run_child(spawn, fds, parent, self._program)
                os._exit(0)
            finally:
                os._exit(_BROKEN)
        self._pids[spawn.child] = pid
        return Spawned(spawn.child, pid)

    def _reap(self) -> None:
        for child, pid in list(self._pids.items()):
            found, status, usage = os.wait4(pid, os.WNOHANG)
            if not found:
                continue
            del self._pids[child]
            self._send(
                Exited(
                    child,
                    os.waitstatus_to_exitcode(status),
                    round((usage.ru_utime + usage.ru_stime) * 1000),
                    usage.ru_maxrss * 1024,
                )
            )

    def _receive(self) -> tuple[Head, list[int]]:
        fds = array.array("i")
        size = socket.CMSG_SPACE(_FDS_MAX * fds.itemsize)
        prefix, ancillary, _, _ = self._control.recvmsg(PREFIX_BYTES, size)
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
        prefix += self._exactly(PREFIX_BYTES - len(prefix))
        head_bytes, tail_bytes = parse_lengths(prefix, frame_bytes_max=CONTROL_FRAME_BYTES_MAX)
        head = decode_head(self._exactly(head_bytes))
        if tail_bytes:
            raise WireError("a control frame has no tail")
        return head, list(fds)

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self._control.recv(size - len(data))
            if not part:
                raise PipeClosed
            data += part
        return data

    def _send(self, body: Record, flow: Flow = Flow.ONE_WAY, request_id: int = 0) -> None:
        kind = 0 if flow == Flow.ERROR else PIPE.number(type(body))
        head = Head(PROTOCOL_VERSION, flow, kind, request_id, b"", encode(body))
        self._control.sendall(encode_frame(head))


def main(argv: Sequence[str], program: Program | None = None) -> int:
    """Serve the control socket that the daemon passes as `[--provider=NAME] --control FD`."""
    words, name = list(argv), "cpu"
    if words and words[0].startswith(_PROVIDER):
        name = words.pop(0).removeprefix(_PROVIDER)
    if len(words) != 2 or words[0] != "--control" or not words[1].isdecimal():
        return _leave("prsm.node.worker is started by the daemon: --control FD")
    try:
        program = program or Program(provider=choose(name))
    except Unsupported as error:
        return _leave(f"{error.what}: {error.hint}")
    # Ctrl-C at a terminal reaches the whole group; the daemon decides when this program ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with socket.socket(fileno=int(words[1])) as control:
        ForkServer(control, program).serve()
    return 0


def _leave(line: str) -> int:
    print(line, file=sys.stderr)  # noqa: T201 - a program's answer to whoever started it
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
