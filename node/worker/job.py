"""One child of the fork server: seal, answer calls on one pipe, exit.

The main thread works; a session child has a second thread that reads the pipe, so that a CANCEL
reaches a run in progress and a dead daemon ends the child at once. Nothing is opened after the
seal. The exit is `os._exit`: the interpreter's own makes system calls the sandbox kills for.
"""

import ctypes
import gc
import hashlib
import os
import queue
import resource
import struct
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from tokenizers import Tokenizer

from prsm.node.worker import (
    beside,
    compress,
    golden,
    lora,
    raw,
    session,
    shrinking,
    speech,
    template,
    text,
    tolerance,
)
from prsm.node.worker.files import mapped, read_all
from prsm.node.worker.kv import Caches
from prsm.node.worker.pipe import (
    Array,
    Frame,
    Pipe,
    PipeClosed,
    read_arrays,
    write_arrays,
)
from prsm.node.worker.provider import CPU, Provider
from prsm.node.worker.sandbox import Profile, SealFailed, seal
from prsm.node.worker.scan import MODEL_BYTES_MAX, Policy, scan
from prsm.protocol.errors import LocalError, WireError
from prsm.protocol.framing import Flow
from prsm.protocol.generating import kv_shape
from prsm.protocol.messages.forms import Adapt, Adapted
from prsm.protocol.messages.pipe import (
    Cancel,
    Compare,
    Compared,
    InputMismatch,
    Load,
    Loaded,
    ModelRefused,
    OutOfMemory,
    Ran,
    Role,
    Run,
    Spawn,
    TextBatch,
    Tokenise,
    Tokenised,
    WorkerFailed,
)
from prsm.protocol.messages.steps import Drop, Dropped, Step, Stepped

# Above the memory of a fresh session by this much, the next run gives unused arena back.
_SHRINK_ABOVE_BYTES: Final = 128 * 1024 * 1024
_TEXT_LENGTH: Final = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class Program:
    """What a worker computes with; a network of tests composes other ones.

    Attributes:
        compute: answers runs. Golden rows and splits are always computed honestly.
        policy: what the static gate lets through.
        provider: where sessions run; all else is the CPU's.
    """

    compute: session.Compute = session.compute
    policy: Policy = field(default_factory=Policy)
    provider: Provider = CPU


def run_child(  # noqa: C901 - a dispatch by role
    spawn: Spawn, fds: Sequence[int], parent: int, program: Program
) -> None:
    """Seal this process and answer its pipe until the other end closes.

    Args:
        spawn: role and bounds.
        fds: the pipe, then the files of the role, read-only.
        parent: pid of the fork server.
        program: what to compute with.
    """
    profile = Profile(
        Path(spawn.folder),
        spawn.memory_bytes,
        spawn.cpu_seconds,
        spawn.file_bytes,
        is_writing=spawn.role in (Role.PREPARE, Role.COMPRESS),
        has_device=spawn.role == Role.SESSION and program.provider.has_device,
    )
    if spawn.role == Role.COMPRESS:
        compress.warm_up()
    memory = _Memory()
    pipe = Pipe(fds[0])
    try:
        seal(profile, keep=[*fds, *memory.fds], parent=parent)
    except SealFailed as error:
        pipe.refuse(WorkerFailed(f"the sandbox does not hold: {error}"), request_id=0)
        return
    try:
        match spawn.role:
            case Role.SESSION:
                _Session(pipe, fds[1:], program, memory).serve()
            case Role.PREPARE:
                _answer(pipe, partial(raw.answer, pipe, fds[1:], profile.folder, program.policy))
            case Role.COMPRESS:
                work = partial(shrinking.answer, pipe, fds[1:], profile.folder, program.policy)
                _answer(pipe, work)
            case Role.TEXT:
                _Texts(pipe, fds[1]).serve()
            case Role.TEMPLATE:
                _answer(pipe, partial(template.answer, pipe, fds[1:]))
            case Role.SPEECH:
                speech.serve(pipe, read_all(fds[1], size_max=text.TOKENIZER_BYTES_MAX))
    except PipeClosed:
        return
    except BaseException as error:  # noqa: BLE001 - the last words of this process
        pipe.refuse(WorkerFailed(f"the worker failed: {_text(error)}"), request_id=0)


class _Memory:
    """Reads this process's resident size through a file opened before the seal."""

    def __init__(self) -> None:
        try:
            self.fds = [os.open("/proc/self/statm", os.O_RDONLY)]
        except OSError:
            self.fds = []
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it, musl not

    def rss_bytes(self) -> int:
        if not self.fds:
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        pages = int(os.pread(self.fds[0], 128, 0).split()[1])
        return pages * resource.getpagesize()

    def give_back(self) -> None:
        """Return freed memory to the system; glibc alone keeps what loading used."""
        gc.collect()
        if self._trim is not None:
            self._trim(0)


class _Session:
    """A shard and the calls on it.

    Invariant: `_current` is set before `_cancelled` is looked at, and the reader sets them in the
    other order, so a CANCEL meets its run whichever thread comes first.
    """

    def __init__(self, pipe: Pipe, files: Sequence[int], program: Program, memory: _Memory) -> None:
        self._pipe = pipe
        self._files = files  # graph, golden rows, weights beside the graph
        self._program = program
        self._memory = memory
        self._calls: queue.SimpleQueue[Frame] = queue.SimpleQueue()
        self._model: session.Model | None = None
        self._golden: dict[str, Array] = {}
        self._adapter: dict[str, Array] = {}  # fed beside every run's inputs
        self._caches: Caches | None = None  # made by the first step
        self._fresh_bytes = 0
        self._current: tuple[int, session.RunOptions] | None = None
        self._cancelled = 0

    def serve(self) -> None:
        threading.Thread(target=self._read, daemon=True).start()
        while True:
            frame = self._calls.get()
            try:
                self._call(frame)
            except LocalError as error:
                self._pipe.refuse(error, request_id=frame.request_id)
            except MemoryError:
                full = OutOfMemory("not enough memory for this run")
                self._pipe.refuse(full, request_id=frame.request_id)

    def _call(self, frame: Frame) -> None:
        match frame.body:
            case Load():
                self._pipe.write(self._load(), request_id=frame.request_id)
            case Adapt():
                self._pipe.write(self._adapt(frame.tail), request_id=frame.request_id)
            case Run():
                self._run(frame.request_id, frame.body, frame.tail)
            case Step():
                self._step(frame.request_id, frame.body, frame.tail)
            case Drop():
                if self._caches is not None:
                    self._caches.drop(frame.body.session)
                self._pipe.write(Dropped(), request_id=frame.request_id)
            case Compare():
                compared = _compare(frame.body, frame.tail)
                self._pipe.write(compared, request_id=frame.request_id)
            case _:
                raise WorkerFailed(f"a session takes no {type(frame.body).__name__}")

    def _read(self) -> None:
        try:
            while True:
                frame = self._pipe.read()
                if isinstance(frame.body, Cancel):
                    self._cancelled = frame.request_id
                    current = self._current
                    if current is not None and current[0] == frame.request_id:
                        current[1].terminate = True
                else:
                    self._calls.put(frame)
        except LocalError as error:
            self._pipe.refuse(error, request_id=0)
        finally:
            # The daemon is gone, or speaks another language: nobody waits for the run.
            os._exit(0)

    def _load(self) -> Loaded:
        raw = read_all(self._files[0], size_max=MODEL_BYTES_MAX)
        weights = beside.by_digest([mapped(fd) for fd in self._files[2:]])
        wide = compress.wide_bytes(raw, scan(raw, self._program.policy, weights))
        model = self._program.provider.load(wide, beside=weights)
        digest = hashlib.sha256(raw).digest()
        del raw, wide, weights
        rows = golden.load(read_all(self._files[1], size_max=MODEL_BYTES_MAX))
        session.check_inputs(model, rows)
        root = session.output_root(session.compute(model, rows, session.run_options()))
        self._memory.give_back()
        self._model, self._golden = model, rows
        self._fresh_bytes = self._memory.rss_bytes()
        return Loaded(
            model.inputs,
            model.outputs,
            session.RUNTIME,
            self._program.provider.options,
            digest,
            root,
            self._fresh_bytes,
        )

    def _adapt(self, tail: memoryview) -> Adapted:
        """Run with an adapter from now on; the golden rows prove what it does here."""
        if self._model is None or self._adapter:
            raise WorkerFailed("an adapter is taken once, after the shard was loaded")
        raw = bytes(tail)
        feeds = lora.feeds_for(self._model, lora.read(raw))
        outputs = session.compute(self._model, {**self._golden, **feeds}, session.run_options())
        _require_finite(outputs)
        self._adapter = feeds
        sites = len(feeds) // 2
        return Adapted(hashlib.sha256(raw).digest(), sites, session.output_root(outputs))

    def _run(self, request_id: int, call: Run, tail: memoryview) -> None:
        if self._model is None:
            raise WorkerFailed("a run before the shard was loaded")
        feeds = read_arrays(call.tensors, tail)
        session.check_inputs(self._model, feeds)
        before = time.thread_time_ns()
        outputs = self._compute(request_id, feeds)
        spent_us = (time.thread_time_ns() - before) // 1000
        _require_finite(outputs)
        heads, buffers = write_arrays(outputs)
        ran = Ran(heads, spent_us, self._memory.rss_bytes())
        self._pipe.write(ran, request_id=request_id, tail=buffers)

    def _step(self, request_id: int, call: Step, tail: memoryview) -> None:
        if self._model is None:
            raise WorkerFailed("a step before the shard was loaded")
        if self._caches is None:
            self._caches = Caches(kv_shape(self._model.inputs, self._model.outputs))
        given = read_arrays((call.tensor,), tail)[call.tensor.name]
        before = time.thread_time_ns()
        name, made = self._caches.step(call, given, partial(self._compute, request_id))
        spent_us = (time.thread_time_ns() - before) // 1000
        [head], buffers = write_arrays({name: made})
        position = self._caches.position(call.session)
        answer = Stepped(position, head, spent_us, self._memory.rss_bytes())
        self._pipe.write(answer, request_id=request_id, tail=buffers)

    def _compute(self, request_id: int, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run the graph once; a CANCEL of this call ends it."""
        assert self._model is not None
        is_large = self._memory.rss_bytes() > self._fresh_bytes + _SHRINK_ABOVE_BYTES
        options = session.run_options(is_shrinking=is_large)
        self._current = (request_id, options)
        if self._cancelled == request_id:
            options.terminate = True
        try:
            return self._program.compute(self._model, {**feeds, **self._adapter}, options)
        finally:
            self._current = None


def _compare(call: Compare, tail: memoryview) -> Compared:
    size = sum(head.nbytes for head in call.ours)
    ours = read_arrays(call.ours, tail[:size])
    return Compared(tolerance.gap_ppb(ours, read_arrays(call.theirs, tail[size:])))


def _require_finite(outputs: dict[str, Array]) -> None:
    try:
        session.check_finite(outputs)
    except InputMismatch as error:
        raise InputMismatch(f"the inputs lead to it: {error.what}") from error


def _answer(pipe: Pipe, work: Callable[[Frame], None]) -> None:
    """Answer the calls of a short-lived child until the other end closes."""
    while True:
        _answer_one(pipe, pipe.read(), work)


def _answer_one(pipe: Pipe, frame: Frame, work: Callable[[Frame], None]) -> None:
    try:
        work(frame)
    except LocalError as error:
        pipe.refuse(error, request_id=frame.request_id)
    except MemoryError:
        full = OutOfMemory("not enough memory for this job")
        pipe.refuse(full, request_id=frame.request_id)
    except PipeClosed:
        raise
    except Exception as error:  # noqa: BLE001 - a stranger's file must come out as a typed answer
        refused = ModelRefused(f"the file cannot be used: {_text(error)}")
        pipe.refuse(refused, request_id=frame.request_id)


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


class _Texts:
    """A tokenizer and the calls on it: loaded by the first, kept for the others."""

    def __init__(self, pipe: Pipe, fd: int) -> None:
        self._pipe, self._fd = pipe, fd
        self._tokenizer: Tokenizer | None = None

    def serve(self) -> None:
        _answer(self._pipe, self._tokenise)

    def _tokenise(self, frame: Frame) -> None:
        call = frame.body
        if not isinstance(call, Tokenise):
            raise WorkerFailed(f"a tokenising child takes no {type(call).__name__}")
        if self._tokenizer is None:
            self._tokenizer = text.load(read_all(self._fd, size_max=text.TOKENIZER_BYTES_MAX))
        texts = _read_texts(call.texts, frame.tail)
        tokenizer, self._tokenizer = self._tokenizer, None  # one that panics is loaded anew
        count = 0
        for rows, arrays in text.batches(
            tokenizer, texts, rows_per_batch=call.rows_per_batch, tokens_max=call.tokens_max
        ):
            heads, buffers = write_arrays(arrays)
            self._pipe.write(TextBatch(rows, heads), flow=Flow.ONE_WAY, tail=buffers)
            count += 1
        self._tokenizer = tokenizer
        self._pipe.write(Tokenised(count), request_id=frame.request_id)


def _read_texts(count: int, tail: memoryview) -> list[str]:
    texts, offset = [], 0
    for _ in range(count):
        if offset + _TEXT_LENGTH.size > len(tail):
            raise WireError("fewer texts than announced")
        (length,) = _TEXT_LENGTH.unpack_from(tail, offset)
        offset += _TEXT_LENGTH.size
        texts.append(bytes(tail[offset : offset + length]).decode("utf-8"))
        offset += length
    return texts
