"""A subscription against a server of wsproto's own, byte by byte and without a socket."""

import json

import msgspec
import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    CloseConnection,
    Message,
    Ping,
    Pong,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)

from prsm.node.rpc.faults import RpcError
from prsm.node.rpc.methods.subscriptions import HeadRow
from prsm.node.rpc.sdk.feed import Event, Feed
from tests.tools.rpc_node import sample


class Door:
    """The node's side of one connection."""

    def __init__(self, feed: Feed[HeadRow], token: str = "secret") -> None:
        self.connection = WSConnection(ConnectionType.SERVER)
        self.feed = feed
        self.headers: dict[bytes, bytes] = {}
        self.asked: list[dict[str, object]] = []
        self.pongs = 0
        self._hear(feed.begin("localhost", {"Authorization": f"Bearer {token}"}))

    def accept(self) -> None:
        self.tell(AcceptConnection())

    def answer(self, *, seq: int) -> None:
        self.say({"id": 1, "result": {"subscription": "1", "topic": "heads", "seq": seq}})

    def row(self, seq: int, result: object = None, **more: object) -> None:
        params = {"subscription": "1", "seq": seq, "result": result, **more}
        self.say({"method": "prsm_subscription", "params": params})

    def say(self, document: dict[str, object]) -> None:
        self.tell(TextMessage(data=json.dumps({"jsonrpc": "2.0", **document})))

    def tell(self, event: Message | AcceptConnection | CloseConnection | Ping) -> None:  # type: ignore[type-arg]  # text or bytes
        raw = self.connection.send(event)
        for i in range(len(raw)):  # cut wherever a stream may cut
            self._hear(self.feed.feed(raw[i : i + 1]))

    def _hear(self, raw: bytes) -> None:
        if not raw:
            return
        self.connection.receive_data(raw)
        for event in self.connection.events():
            match event:
                case Request(extra_headers=headers):
                    self.headers = dict(headers)
                case TextMessage(data=text):
                    self.asked.append(json.loads(text))
                case Pong():
                    self.pongs += 1
                case _:
                    pass


def head(height: int) -> object:
    return {**msgspec.to_builtins(sample(HeadRow)), "height": height}


def test_rows_come_typed_and_in_order() -> None:
    feed = Feed("heads", wanted={"proposer": 2}, row=HeadRow)
    door = Door(feed)
    assert door.headers[b"authorization"] == b"Bearer secret"
    door.accept()
    assert door.asked[0]["params"] == {"topic": "heads", "filter": {"proposer": 2}}
    door.answer(seq=6)
    assert feed.is_open
    door.row(7, head(70))
    door.row(9, head(90))
    first, second = feed.take(), feed.take()
    assert isinstance(first, Event)
    assert isinstance(second, Event)
    assert (first.seq, first.result.height, second.result.height) == (7, 70, 90)
    assert feed.take() is None
    door.tell(Ping())
    assert door.pongs == 1


def test_the_next_connection_goes_on_behind_the_last_row() -> None:
    feed = Feed("heads", row=HeadRow)
    door = Door(feed)
    door.accept()
    door.answer(seq=6)
    door.row(7, head(70))
    assert feed.take() is not None
    with pytest.raises(RpcError, match="read too slowly") as caught:
        door.tell(CloseConnection(code=4008))
    assert caught.value.retryable
    again = Door(feed)
    again.accept()
    assert again.asked[0]["params"] == {"topic": "heads", "resume_from": 7}
    again.answer(seq=12)
    again.row(10, None, missed=3)
    assert feed.take() is None
    again.row(11, head(110))
    told = feed.take()
    assert told is not None
    assert (told.seq, told.missed, told.result.height) == (11, 3, 110)


def test_a_node_that_began_anew_counts_from_one() -> None:
    feed = Feed("heads", resume_from=900, row=HeadRow)
    door = Door(feed)
    door.accept()
    door.answer(seq=3)
    assert feed.last == 0


def test_a_refusal_is_typed() -> None:
    body = b'{"error":{"code":-32001,"message":"no token","data":{"reason":"unauthorised"}}}'
    door = Door(Feed("heads", row=HeadRow))
    raw = door.connection.send(RejectConnection(status_code=401, has_body=True))
    raw += door.connection.send(RejectData(data=body))
    with pytest.raises(RpcError, match="no token") as caught:
        door.feed.feed(raw)
    assert (caught.value.reason, caught.value.retryable) == ("unauthorised", False)
    door = Door(Feed("heads", row=HeadRow))
    door.accept()
    with pytest.raises(RpcError, match="topics") as caught:
        door.say({"id": 1, "error": {"code": -1, "message": "16 topics", "data": {}}})


@pytest.mark.parametrize(
    ("code", "reason", "retryable"),
    [(4401, "unauthorised", False), (1001, "node_unreachable", True)],
)
def test_the_end_of_a_connection_says_whether_another_is_worth_it(
    code: int, reason: str, *, retryable: bool
) -> None:
    door = Door(Feed("heads", row=HeadRow))
    door.accept()
    door.answer(seq=0)
    with pytest.raises(RpcError) as caught:
        door.tell(CloseConnection(code=code))
    assert (caught.value.reason, caught.value.retryable) == (reason, retryable)


@pytest.mark.parametrize("raw", [b"HTTP/1.1 200 OK\r\n\r\n", b"SSH-2.0-OpenSSH\r\n\r\n", b""])
def test_what_is_no_door_of_ours_is_told(raw: bytes) -> None:
    door = Door(Feed("heads", row=HeadRow))

    def hear(*pieces: bytes) -> None:
        for piece in pieces:
            door.feed.feed(piece)

    with pytest.raises(RpcError) as caught:
        hear(raw, b"")
    assert caught.value.reason == "node_unreachable"


def test_a_row_of_another_form_is_told() -> None:
    door = Door(Feed("heads", row=HeadRow))
    door.accept()
    door.answer(seq=0)
    with pytest.raises(RpcError, match="of another form"):
        door.row(1, {"height": "x"})
