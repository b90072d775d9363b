"""Choosing the only protocol there is, without waiting for the answer in between.

Knows multistream-select as libp2p 0.8.1 speaks it
(https://github.com/multiformats/multistream-select). Must not know what is chosen. Stock code names
multistream, waits for the other side to name it too, and only then says which protocol it wants: a
way there and back more for the encryption, for the muxer, and for each stream. With one protocol to
choose from both lines leave together; what the other side says to them is read as stock code does.
Before the encryption not even that is waited for: its first message leaves with the lines, and the
answer to these is checked when the answer to it is read.
"""

from collections.abc import Sequence
from typing import Final

import trio
from libp2p.abc import IMultiselectCommunicator
from libp2p.custom_types import TProtocol
from libp2p.io.exceptions import IOException
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.protocol_muxer.exceptions import MultiselectClientError, MultiselectCommunicatorError
from libp2p.protocol_muxer.multiselect import MULTISELECT_PROTOCOL_ID
from libp2p.protocol_muxer.multiselect_client import (
    DEFAULT_NEGOTIATE_TIMEOUT,
    MultiselectClient,
)
from libp2p.protocol_muxer.multiselect_communicator import MultiselectCommunicator
from libp2p.utils import encode_delim
from typing_extensions import override

LINES: Final = 2  # multistream itself, and the protocol


class _Together(IMultiselectCommunicator):
    """A communicator of which the first two lines leave with the first."""

    def __init__(self, stock: MultiselectCommunicator, protocol: TProtocol) -> None:
        self._stock = stock
        self._protocol = encode_delim(protocol.encode())
        self._written = 0

    @override
    async def write(self, msg_str: str) -> None:
        self._written += 1
        if self._written == 1:
            both = encode_delim(msg_str.encode()) + self._protocol
            try:
                await self._stock.read_writer.write(both)
            except (IOException, AssertionError, ValueError) as error:  # as stock code does
                raise MultiselectCommunicatorError("fail to write") from error
        elif self._written > LINES:
            await self._stock.write(msg_str)

    @override
    async def read(self) -> str:
        return await self._stock.read()


class OpeningClient(MultiselectClient):
    """A dialler's side whose only choice leaves with the first words of what is chosen."""

    @override
    async def select_one_of(
        self,
        protocols: Sequence[TProtocol],
        communicator: IMultiselectCommunicator,
        negotiate_timeout: int = DEFAULT_NEGOTIATE_TIMEOUT,
    ) -> TProtocol:
        """Name the protocol; says and hears nothing yet."""
        [protocol] = protocols
        assert isinstance(communicator, MultiselectCommunicator)
        raw = communicator.read_writer
        assert isinstance(raw, RawConnection)
        _Opening(raw, communicator, protocol)
        await trio.lowlevel.checkpoint()
        return protocol


class _Opening:
    """Stands before a connection until its first write and its first read."""

    def __init__(
        self, raw: RawConnection, communicator: MultiselectCommunicator, protocol: TProtocol
    ) -> None:
        self._raw, self._communicator, self._protocol = raw, communicator, protocol
        vars(raw).update(write=self._write, read=self._read)

    async def _write(self, data: bytes) -> None:
        del vars(self._raw)["write"]
        lines = MULTISELECT_PROTOCOL_ID, self._protocol
        await self._raw.write(b"".join(encode_delim(line.encode()) for line in lines) + data)

    async def _read(self, n: int | None = None) -> bytes:
        del vars(self._raw)["read"]
        try:
            heard = [await self._communicator.read() for _ in range(LINES)]
        except MultiselectCommunicatorError as error:
            raise MultiselectClientError("no answer to what was chosen") from error
        if heard != [MULTISELECT_PROTOCOL_ID, self._protocol]:
            raise MultiselectClientError(f"{self._protocol} is not supported: {heard[-1][:64]!r}")
        return await self._raw.read(n)


class PromptClient(MultiselectClient):
    """A dialler's side of multistream-select that says all it has to say at once."""

    @override
    async def select_one_of(
        self,
        protocols: Sequence[TProtocol],
        communicator: IMultiselectCommunicator,
        negotiate_timeout: int = DEFAULT_NEGOTIATE_TIMEOUT,
    ) -> TProtocol:
        """Choose a protocol; of several the first that the other side speaks, as stock code does.

        Raises:
            MultiselectClientError: it speaks none of them, or not multistream-select.
        """
        if len(protocols) == 1 and isinstance(communicator, MultiselectCommunicator):
            communicator = _Together(communicator, protocols[0])
        return await super().select_one_of(protocols, communicator, negotiate_timeout)
