"""The worker program as the daemon sees it: one process that forks, kills and reaps children.

Knows the control socket and the children's pipes. Must not know models or jobs. When this process
dies, even by kill -9, the control socket closes and the program ends with all its children.

Invariants: a child number is used once; a `Child` whose `exited` is set has been reaped.
"""

import os
import signal
import socket
import subprocess
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

import trio

import prsm
from prsm.node.inference.channel import Channel, ChannelClosed, Received
from prsm.protocol.codec import Record
from prsm.protocol.errors import LocalError, WireError
from prsm.protocol.framing import Flow, Refusal
from prsm.protocol.messages.pipe import (
    CONTROL_FRAME_BYTES_MAX,
    PIPE_FRAME_BYTES_MAX,
    Cancel,
    DeadlinePassed,
    Exited,
    Kill,
    Ready,
    Spawn,
    Spawned,
    WorkerFailed,
    refused,
)

R = TypeVar("R", bound=Record)
TakePart = Callable[[Received], Awaitable[None]]
_READY_SECONDS: Final = 30.0  # imports take 0.4 s on a quiet machine
_SPAWN_SECONDS: Final = 10.0
_REAP_SECONDS: Final = 5.0
# Between two operators a run ends in well under this; one huge kernel does not, and is killed.
_CANCEL_SECONDS: Final = 0.4
_STDERR_LINES: Final = 20
# The program finds the same package as this process, and its libraries make no threads.
_ENVIRONMENT: Final = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "RAYON_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONPATH": str(Path(prsm.__file__).parents[1]),
    "PATH": os.defpath,
    "LANG": "C.UTF-8",
}


class Child:
    """One sealed process, its pipe, and its end."""

    def __init__(self, server: "ForkServer", number: int, channel: Channel) -> None:
        self._server = server
        self._channel = channel
        self._requests = 0
        self.number = number
        self.pid = 0
        self.exited = trio.Event()
        self.exit: Exited | None = None
        self.is_usable = True

    async def call(self, body: Record, want: type[R], *, tail: Sequence[bytes] = ()) -> R:
        """Call and take an answer without a tail."""
        answer, _ = await self.exchange(body, want, tail=tail)
        return answer

    async def exchange(
        self,
        body: Record,
        want: type[R],
        *,
        tail: Sequence[bytes] = (),
        on_part: TakePart | None = None,
    ) -> tuple[R, memoryview]:
        """Send a call, hand every one-way frame before its answer to `on_part`, return the answer.

        Cancelled in the middle, the child is asked to stop and, if it answers within the grace,
        stays usable; otherwise it is marked for the end.

        Raises:
            LocalError: the child's typed refusal, or `WorkerFailed` when it died or misbehaved.
        """
        self._requests += 1
        number = self._requests
        is_sent = False
        try:
            await self._channel.send(body, request_id=number, tail=tail)
            is_sent = True
            return await self._answer(number, want, on_part)
        except trio.Cancelled:
            self.is_usable = False
            with trio.move_on_after(_CANCEL_SECONDS, shield=True):
                self.is_usable = is_sent and await self._stop(number, want)
            raise
        except ChannelClosed:
            self.is_usable = False
            raise await self._cause() from None
        except WireError as error:
            self.is_usable = False
            raise WorkerFailed(f"the worker answered what no worker answers: {error}") from error

    async def end(self) -> None:
        """Close the pipe, kill the process, wait until it is reaped (bounded)."""
        self.is_usable = False
        self._channel.close()
        if not self.exited.is_set():
            await self._server.kill(self.number)
            with trio.move_on_after(_REAP_SECONDS):
                await self.exited.wait()

    async def _answer(
        self, number: int, want: type[R], on_part: TakePart | None
    ) -> tuple[R, memoryview]:
        while True:
            frame = await self._channel.receive()
            if isinstance(frame.body, Refusal) and frame.request_id in (0, number):
                self.is_usable = self.is_usable and frame.request_id == number
                raise refused(frame.body)
            if frame.flow == Flow.ONE_WAY and on_part is not None:
                await on_part(frame)
            elif frame.request_id == number and isinstance(frame.body, want):
                return frame.body, frame.tail
            elif frame.request_id >= number or not frame.request_id:
                raise WireError(f"{type(frame.body).__name__} is not the answer to this call")

    async def _stop(self, number: int, want: type[R]) -> bool:
        """Ask the run to end between two operators, wait for its answer, say if there is one."""
        try:
            await self._channel.send(Cancel(), flow=Flow.ONE_WAY, request_id=number)
            await self._answer(number, want, None)
        except LocalError:
            return True
        except (ChannelClosed, WireError):
            return False
        return True

    async def _cause(self) -> LocalError:
        with trio.move_on_after(_REAP_SECONDS):
            await self.exited.wait()
        gone = self.exit
        if gone is None:
            return WorkerFailed("the worker program ended while this job ran")
        if gone.status == -signal.SIGXCPU:
            return DeadlinePassed(f"the job used its {gone.cpu_ms / 1000:.0f} s of processor time")
        if gone.status == -signal.SIGSYS:
            return WorkerFailed("the sandbox ended the worker: it made a forbidden system call")
        if gone.status < 0:
            return WorkerFailed(f"the worker was ended by {signal.Signals(-gone.status).name}")
        return WorkerFailed(f"the worker ended by itself with code {gone.status}")


class ForkServer:
    """One run of the worker program, from its start to its end."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = tuple(command)
        self._children: dict[int, Child] = {}
        self._calls: dict[int, trio.MemorySendChannel[Record]] = {}
        self._numbers = 0
        self._send_lock = trio.Lock()
        self._control: Channel | None = None
        self._stderr: deque[bytes] = deque(maxlen=_STDERR_LINES)
        self.ready: Ready | None = None
        self.pid = 0

    async def run(self, on_ready: Callable[["ForkServer"], None]) -> None:
        """Start the program and serve its control socket until the program ends.

        Args:
            on_ready: called once, when the program's imports are done.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            process = await trio.lowlevel.open_process(
                [*self._command, "--control", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=(theirs.fileno(),),
                env=_ENVIRONMENT,
            )
        self.pid = process.pid
        self._control = Channel(ours, frame_bytes_max=CONTROL_FRAME_BYTES_MAX)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._read_stderr, process)
                try:
                    await self._serve(self._control, on_ready)
                except (ChannelClosed, trio.TooSlowError):
                    nursery.cancel_scope.cancel()
        finally:
            self._control.close()
            for child in self._children.values():
                child.exited.set()
            for call in self._calls.values():
                call.close()
            with trio.CancelScope(shield=True):
                with trio.move_on_after(_REAP_SECONDS):
                    await process.wait()
                if process.returncode is None:
                    process.kill()
                    await process.wait()

    @property
    def last_words(self) -> str:
        """What the program wrote before it ended, for a person to read."""
        return b"".join(self._stderr).decode("utf-8", "replace").strip()[-500:]

    async def spawn(self, spawn: Spawn, fds: Sequence[int]) -> Child:
        """Fork a child that holds copies of `fds` behind its pipe.

        Args:
            spawn: its role and bounds; the number is chosen here.
            fds: open files of the role; the caller closes its own.

        Raises:
            WorkerFailed: the program is gone or cannot fork.
        """
        self._numbers += 1
        number = self._numbers
        ours, theirs = socket.socketpair()
        channel = Channel(ours, frame_bytes_max=PIPE_FRAME_BYTES_MAX)
        child = Child(self, number, channel)
        self._children[number] = child
        wanted = Spawn(
            number,
            spawn.role,
            spawn.memory_bytes,
            spawn.cpu_seconds,
            spawn.file_bytes,
            spawn.folder,
        )
        try:
            with theirs:
                child.pid = (await self._call(number, wanted, [theirs.fileno(), *fds])).pid
        except BaseException:
            channel.close()
            with trio.CancelScope(shield=True):
                await self.kill(number)
            raise
        return child

    async def kill(self, number: int) -> None:
        """Have a child killed; no answer is waited for, its `exited` tells."""
        if number in self._children:
            try:
                await self._send(Kill(number), Flow.ONE_WAY, 0, ())
            except WorkerFailed:
                return  # the program is gone, and its children with it

    async def _call(self, number: int, body: Record, fds: Sequence[int]) -> Spawned:
        send, receive = trio.open_memory_channel[Record](1)
        self._calls[number] = send
        try:
            with trio.fail_after(_SPAWN_SECONDS):
                await self._send(body, Flow.CALL, number, fds)
                answer = await receive.receive()
        except (trio.EndOfChannel, trio.TooSlowError) as error:
            raise WorkerFailed("the worker program does not fork") from error
        finally:
            del self._calls[number]
        if isinstance(answer, Refusal):
            raise refused(answer)
        assert isinstance(answer, Spawned)
        return answer

    async def _send(self, body: Record, flow: Flow, number: int, fds: Sequence[int]) -> None:
        if self._control is None:
            raise WorkerFailed("the worker program is not started")
        # Shielded: half a frame would end the program for everybody.
        with trio.move_on_after(_SPAWN_SECONDS, shield=True) as scope:
            async with self._send_lock:
                try:
                    await self._control.send(body, flow=flow, request_id=number, fds=fds)
                except ChannelClosed as error:
                    raise WorkerFailed("the worker program is gone") from error
        if scope.cancelled_caught:
            raise WorkerFailed("the worker program does not read its control socket")

    async def _serve(self, control: Channel, on_ready: Callable[["ForkServer"], None]) -> None:
        with trio.fail_after(_READY_SECONDS):
            first = await control.receive()
        if not isinstance(first.body, Ready):
            raise ChannelClosed
        self.ready = first.body
        on_ready(self)
        while True:
            frame = await control.receive()
            match frame.body:
                case Exited() as gone:
                    child = self._children.pop(gone.child, None)
                    if child is not None:
                        child.exit = gone
                        child.exited.set()
                case Spawned() | Refusal():
                    call = self._calls.get(frame.request_id)
                    if call is not None and isinstance(frame.body, Spawned | Refusal):
                        call.send_nowait(frame.body)
                case _:
                    raise ChannelClosed

    async def _read_stderr(self, process: trio.Process) -> None:
        assert process.stderr is not None
        async for chunk in process.stderr:
            self._stderr.append(bytes(chunk[-500:]))
