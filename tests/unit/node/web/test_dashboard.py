"""GET / and its files: open, small, cached, and fenced in by the policy of contents."""

import gzip
from pathlib import Path

from prsm.node.web.dashboard import FILES, POLICY, dashboard_pages
from tests.tools.rpc_door import OpenDoor, auth, open_door, read_answer, request


async def _ask(door: OpenDoor, raw: bytes) -> tuple[int, dict[str, str], bytes]:
    stream = await door.tcp()
    await stream.send_all(raw)
    answer = await read_answer(stream)
    await stream.aclose()
    return answer.status, answer.headers, answer.body


def _get(door: OpenDoor, path: str = "/", **headers: str) -> bytes:
    fields: dict[str, str | None] = {
        "Host": door.bound.http,
        "Content-Type": None,
        "Content-Length": None,
    }
    named: dict[str, str | None] = {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    return request("GET", path, body=b"", headers=fields | named)


async def test_the_page_is_open_and_may_load_its_own_files_only(tmp_path: Path) -> None:
    async with open_door(tmp_path, pages=lambda _calls: dashboard_pages) as door:
        for path, (_name, kind) in FILES.items():
            status, headers, body = await _ask(door, _get(door, path))
            assert (status, headers["content-type"]) == (200, kind)
            assert headers["content-security-policy"] == POLICY
            assert headers["x-content-type-options"] == "nosniff"
            assert "access-control-allow-origin" not in headers
            assert "set-cookie" not in headers
            assert b"http://" not in body.replace(b"http://www.w3.org/", b"")
    assert "unsafe" not in POLICY
    assert POLICY.startswith("default-src 'none';")


async def test_a_known_file_is_not_sent_again(tmp_path: Path) -> None:
    async with open_door(tmp_path, pages=lambda _calls: dashboard_pages) as door:
        _, headers, plain = await _ask(door, _get(door, "/app.js"))
        status, _, body = await _ask(door, _get(door, "/app.js", If_None_Match=headers["etag"]))
        assert (status, body) == (304, b"")
        _, packed, body = await _ask(door, _get(door, "/app.js", Accept_Encoding="gzip"))
        assert packed["content-encoding"] == "gzip"
        assert packed["etag"] != headers["etag"]
        assert gzip.decompress(body) == plain


async def test_calls_still_go_to_the_same_path(tmp_path: Path) -> None:
    async with open_door(tmp_path, pages=lambda _calls: dashboard_pages) as door:
        status, _, body = await _ask(door, request("POST", "/", headers=auth(door)))
        assert status == 200
        assert b'"result"' in body
        status, headers, body = await _ask(door, request("PUT", "/", headers=auth(door)))
        assert (status, headers["allow"]) == (405, "get, head, post")


async def test_a_page_of_another_site_does_not_get_it(tmp_path: Path) -> None:
    async with open_door(tmp_path, pages=lambda _calls: dashboard_pages) as door:
        for fields in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
            status, headers, body = await _ask(door, _get(door, **fields))
            assert status == 403
            assert b"<html" not in body
            assert "script-src" not in headers["content-security-policy"]


async def test_a_page_takes_no_body(tmp_path: Path) -> None:
    async with open_door(tmp_path, pages=lambda _calls: dashboard_pages) as door:
        fields: dict[str, str | None] = {"Host": door.bound.http}
        status, _, body = await _ask(door, request("GET", "/", body=b"{}", headers=fields))
        assert status == 400
        assert b"takes no body" in body
