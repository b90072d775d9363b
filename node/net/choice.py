"""Choosing the only protocol there is, without waiting for the answer in between.

Knows multistream-select as libp2p 0.8.1 speaks it
(https://github.com/multiformats/multistream-select). Must not know what is chosen. Stock code names
multistream, waits for the other side to name it too, and only then says which protocol it wants: a
way there and back more for the encryption, for the muxer, and for each stream. With one protocol to
choose from both lines leave together; what the other side says to them is read as stock code does.
"""

from collections.abc import Sequence
from typing import Final

from libp2p.abc import IMultiselectCommunicator
from libp2p.custom_types import TProtocol
from libp2p.io.exceptions import IOException
from libp2p.protocol_muxer.exceptions import MultiselectCommunicatorError
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
