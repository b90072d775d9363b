"""Whatever answers where a node should be: the clients' readers end in a typed word for it."""

from hypothesis import example, given, settings
from hypothesis import strategies as st
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection

from prsm.node.rpc.faults import RpcError
from prsm.node.rpc.sdk.feed import Feed
from prsm.node.rpc.wire import AnswerReader, decode_reply
from prsm.node.rpc.wire_ws import Text, Wire

_HEAD = b"HTTP/1.1 200 OK\r\n"
_SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: AAAA\r\n\r\n"
)
_PIECES = st.lists(
    st.one_of(
        st.binary(max_size=64),
        st.sampled_from([_HEAD, _SWITCH, b"\r\n", b"\r\n\r\n", b"Content-Length: 5\r\n", b"{}"]),
        st.text(max_size=20).map(str.encode),
    ),
    max_size=8,
)


@settings(max_examples=40)
@given(_PIECES)
@example([_HEAD, b"Content-Length: -1\r\n\r\n"])
@example([_HEAD, "Content-Length: ²\r\n\r\n".encode()])
@example([b"HTTP/1.1 \xb2\xb2\xb2\r\n\r\n"])
def test_an_answer_is_read_or_refused(pieces: list[bytes]) -> None:
    reader = AnswerReader()
    try:
        for piece in [*pieces, b""]:
            answer = reader.feed(piece)
            if answer is not None:
                assert len(answer.body) <= sum(map(len, pieces))
                decode_reply(answer)
                break
    except (ValueError, ConnectionResetError, RpcError):
        pass


@settings(max_examples=40)
@given(_PIECES)
def test_a_stream_is_a_subscription_or_refused(pieces: list[bytes]) -> None:
    feed: Feed[object] = Feed("heads")
    feed.begin("localhost", {})
    try:
        for piece in [*pieces, b""]:
            feed.feed(piece)
    except RpcError:
        pass


@settings(max_examples=40)
@given(st.binary(max_size=200), st.integers(1, 50))
def test_frames_of_anybody_are_text_or_refused(raw: bytes, size: int) -> None:
    """Behind a handshake that holds."""
    wire, node = Wire(), WSConnection(ConnectionType.SERVER)
    node.receive_data(wire.open("localhost", "/ws", {}))
    wire.feed(node.send(AcceptConnection()) if list(node.events()) else b"")
    try:
        for start in range(0, len(raw), size):
            heard, _ = wire.feed(raw[start : start + size])
            assert all(len(one.text) <= len(raw) for one in heard if isinstance(one, Text))
    except ValueError:
        pass
