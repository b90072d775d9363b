"""Bytes of calls and answers, whole and in pieces."""

import pytest

from prsm.node.rpc.faults import RpcError
from prsm.node.rpc.wire import Answer, AnswerReader, decode_reply, encode_call, encode_request

_WHOLE = b'HTTP/1.1 200 OK\r\nContent-Length: 11\r\nX-Y: Z\r\n\r\n{"result":1}'[:-1]


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_an_answer_is_read_however_it_is_cut(size: int) -> None:
    reader, found = AnswerReader(), list[Answer]()
    for start in range(0, len(_WHOLE), size):
        answer = reader.feed(_WHOLE[start : start + size])
        if answer is not None:
            found.append(answer)
    assert found == [Answer(200, b'{"result":1', keep=True)]


def test_a_closing_answer_is_not_kept_and_an_end_too_early_is_told() -> None:
    head = b"HTTP/1.1 503 No\r\nConnection: close\r\nContent-Length: 2\r\n\r\n"
    assert AnswerReader().feed(head + b"{}") == Answer(503, b"{}", keep=False)
    reader = AnswerReader()
    assert reader.feed(head + b"{") is None
    with pytest.raises(ConnectionResetError, match="1 of 2 bytes"):
        reader.feed(b"")


def test_a_call_is_written_and_its_result_is_read_verbatim() -> None:
    body = encode_call(3, "rpc_ping", {"x": "0"})
    assert body == b'{"jsonrpc":"2.0","id":3,"method":"rpc_ping","params":{"x":"0"}}'
    raw = encode_request("POST", "/rpc", "localhost", body=body, headers={"A": "b"})
    assert raw.endswith(b"A: b\r\n\r\n" + body)
    assert decode_reply(Answer(200, b'{"id":1,"result":{"a": 1}}', keep=True)) == b'{"a": 1}'


def test_a_refusal_is_raised_with_all_it_says() -> None:
    body = (
        b'{"error":{"code":-32003,"message":"no job","data":{"reason":"not_found",'
        b'"hint":"prsm job ls","retry_after_ms":7,"new":1}}}'
    )
    with pytest.raises(RpcError) as caught:
        decode_reply(Answer(200, body, keep=True))
    error = caught.value
    assert (error.code, error.reason, error.hint) == (-32003, "not_found", "prsm job ls")
    assert (error.retry_after_ms, error.data["new"], error.retryable) == (7, 1, False)
    assert type(error).__name__ == "NotFound"


@pytest.mark.parametrize("body", [b"", b"hey", b"\xff", b"{}", b'{"error":{"code":"x"}}'])
def test_what_is_no_answer_is_told(body: bytes) -> None:
    with pytest.raises(ValueError, match="status 200"):
        decode_reply(Answer(200, body, keep=True))
