"""The OpenAI API asked by its own client: sync, on asyncio and on trio."""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
import trio
from structlog.testing import capture_logs

from prsm.node.inference.generate.generation import ReaderTooSlow
from prsm.node.inference.interface import NoBond
from prsm.node.models.chatforms import NoChatForm
from prsm.node.net.interface import Busy
from prsm.node.rpc.errors import TooMany
from prsm.node.web.auth import Gate
from prsm.node.web.serve import Bounds
from tests.tools.openai_door import HEIGHT, JOB, PEER, VECTORS, a_part, open_v1, served
from tests.tools.rpc_door import OpenDoor, auth, exchange, request

# The client leaves its own generators to the garbage collector at the end of a stream.
pytestmark = pytest.mark.filterwarnings(
    r"ignore:Exception ignored in. <async_generator object (Pool|Response|SSE|AsyncStream)"
)
HI: Any = [{"role": "user", "content": "Hi"}]
PRSM = {"job_id": JOB, "proof": f"/v1/proofs/{JOB}", "price": "120", "peers": [PEER]}


def text_in_parts(door: OpenDoor) -> None:
    door.node.answers["infer_readTokens"] = deque(
        [
            a_part("Hel", is_over=False),
            a_part("", is_over=False),
            a_part("lo", is_over=True, finish="stop", tokens=2),
        ]
    )


def ending(door: OpenDoor) -> trio.Event:
    """Set once a generation is told to end."""
    ended = trio.Event()

    async def told() -> None:
        await trio.lowlevel.checkpoint()
        ended.set()

    door.node.before["infer_endGeneration"] = told
    return ended


@asynccontextmanager
async def asking(folder: Path) -> AsyncIterator[tuple[OpenDoor, openai.AsyncOpenAI]]:
    async with open_v1(folder) as door:
        url = f"http://{door.bound.http}/v1"
        async with openai.AsyncOpenAI(base_url=url, api_key=door.cookie) as client:
            yield door, client


async def chat(client: openai.AsyncOpenAI, **more: Any) -> Any:  # noqa: ANN401 - the client's own
    return await client.chat.completions.create(model="net", messages=HI, **more)


async def everything(client: openai.AsyncOpenAI, door: OpenDoor) -> None:
    """What every kind of client must see."""
    models = [model async for model in client.models.list()]
    assert [(one.id, one.created) for one in models] == [("net@1.0.0", 1_700_000_000)]
    assert (await client.models.retrieve("net@1.0.0")).object == "model"

    text_in_parts(door)
    whole = await chat(client, max_tokens=9, temperature=0.5, seed=3, stop=["###"])
    assert whole.choices[0].message.content == "Hello"
    assert (whole.choices[0].finish_reason, whole.usage.total_tokens) == ("stop", 5)
    told = whole.model_extra["prsm"]
    assert {name: told[name] for name in PRSM} == PRSM
    assert (told["height"], told["form"], told["seed"]) == (HEIGHT, "plain", 3)

    text_in_parts(door)
    chunks = [
        chunk
        async for chunk in await chat(client, stream=True, stream_options={"include_usage": True})
    ]
    assert "".join(one.choices[0].delta.content or "" for one in chunks[:-1]) == "Hello"
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert (chunks[-1].choices, chunks[-1].usage.completion_tokens) == ([], 2)
    assert chunks[-1].model_extra["prsm"]["job_id"] == JOB

    text_in_parts(door)
    done = await client.completions.create(model="net", prompt="Once")
    assert (done.choices[0].text, done.object) == ("Hello", "text_completion")

    for form in ("float", "base64"):
        vectors = await client.embeddings.create(
            model="net", input=["a", "b"], encoding_format=form
        )
        assert vectors.usage.total_tokens == 9
        assert vectors.model_extra is not None
        assert vectors.model_extra["prsm"]["price"] == "40"
    plain = await client.embeddings.create(model="net", input=["a", "b"])  # base64 beneath
    assert [tuple(row.embedding) for row in plain.data] == list(VECTORS)


async def test_async_client_on_trio(tmp_path: Path) -> None:
    with trio.fail_after(30):
        async with asking(tmp_path) as (door, client):
            await everything(client, door)
            asked = dict(door.node.calls)
            generate = asked["infer_generate"]
            assert (generate.prompt, generate.temperature, generate.top_p) == ("Once", 1000, 1000)


async def test_async_client_on_asyncio(tmp_path: Path) -> None:
    with trio.fail_after(30):
        async with open_v1(tmp_path) as door:
            url = f"http://{door.bound.http}/v1"

            async def ask() -> None:
                async with openai.AsyncOpenAI(base_url=url, api_key=door.cookie) as client:
                    await everything(client, door)

            await trio.to_thread.run_sync(lambda: asyncio.run(ask()))


async def test_sync_client(tmp_path: Path) -> None:
    with trio.fail_after(30):
        async with open_v1(tmp_path) as door:
            text_in_parts(door)
            url = f"http://{door.bound.http}/v1"

            def ask() -> None:
                with openai.OpenAI(base_url=url, api_key=door.cookie) as client:
                    assert [one.id for one in client.models.list()] == ["net@1.0.0"]
                    stream = client.chat.completions.create(
                        model="net",
                        messages=[{"role": "user", "content": "Hi"}],
                        stream=True,
                        extra_body={"prsm": {"max_price": "500", "stages": 2}},
                    )
                    told = [chunk.choices[0].delta.content or "" for chunk in stream]
                    assert "".join(told) == "Hello"
                    vectors = client.embeddings.create(model="net", input="a")
                    assert tuple(vectors.data[0].embedding) == VECTORS[0]

            await trio.to_thread.run_sync(ask)
            params = dict(door.node.calls)["infer_generate"]
            assert (params.max_price, params.stages, params.local) == ("500", 2, False)


@pytest.mark.parametrize(
    ("method", "error", "seen", "code"),
    [
        ("model_getPrompt", NoChatForm("no form"), openai.BadRequestError, "no_chat_form"),
        ("infer_generate", Busy("full", retry_after_ms=1), openai.RateLimitError, "busy"),
        ("infer_readTokens", RuntimeError("secret"), openai.InternalServerError, "internal"),
        ("infer_readTokens", ReaderTooSlow("gone"), openai.InternalServerError, "reader_too_slow"),
    ],
)
async def test_refusal_is_the_clients_own_error_with_our_words(
    tmp_path: Path,
    method: str,
    error: Exception,
    seen: type[openai.APIStatusError],
    code: str,
) -> None:
    with trio.fail_after(30), capture_logs():
        async with asking(tmp_path) as (door, client):
            door.node.answers[method] = error
            for stream in (False, True):
                with pytest.raises(seen) as caught:
                    await chat(client.with_options(max_retries=0), stream=stream)
                assert caught.value.code == code
                assert isinstance(caught.value.body, dict)
                assert caught.value.body["prsm_code"].startswith("PRSM-")
                assert "secret" not in str(caught.value.body)


async def test_call_that_may_have_cost_something_is_not_sent_again(tmp_path: Path) -> None:
    """The client repeats 5xx by itself unless it is told not to."""
    with trio.fail_after(30), capture_logs() as lines:
        async with asking(tmp_path) as (door, client):
            door.node.answers["infer_readTokens"] = RuntimeError("a fault")
            with pytest.raises(openai.InternalServerError):
                await chat(client)
            assert [name for name, _ in door.node.calls].count("infer_generate") == 1
            assert "request failed" in {line["event"] for line in lines}


@pytest.mark.parametrize(
    ("ask", "seen", "param"),
    [
        (lambda c: chat(c, n=9), openai.BadRequestError, "n"),
        (
            lambda c: c.completions.create(model="net", prompt=["a"] * 3, n=3),
            *(openai.BadRequestError, "n"),
        ),
        (lambda c: chat(c, logprobs=True), openai.BadRequestError, "logprobs"),
        (lambda c: chat(c, top_logprobs=2), openai.BadRequestError, "top_logprobs"),
        (
            lambda c: c.completions.create(model="net", prompt="a", logprobs=0),
            *(openai.BadRequestError, "logprobs"),
        ),
        (lambda c: chat(c, presence_penalty=0.5), openai.BadRequestError, "presence_penalty"),
        (lambda c: chat(c, frequency_penalty=-2), openai.BadRequestError, "frequency_penalty"),
        (
            lambda c: chat(c, response_format={"type": "json_object"}),
            *(openai.BadRequestError, "response_format"),
        ),
        (lambda c: chat(c, tools=[{"type": "custom"}]), openai.BadRequestError, "tools[0].type"),
        (lambda c: chat(c, tool_choice="required"), openai.BadRequestError, "tool_choice"),
        (lambda c: chat(c, extra_body={"temprature": 1}), openai.BadRequestError, "temprature"),
    ],
)
async def test_unsupported_parameter_is_refused_by_name_and_nothing_is_asked(
    tmp_path: Path,
    ask: Callable[[openai.AsyncOpenAI], Awaitable[object]],
    seen: type[openai.APIStatusError],
    param: str,
) -> None:
    with trio.fail_after(30):
        async with asking(tmp_path) as (door, client):
            with pytest.raises(seen) as caught:
                await ask(client)
            assert caught.value.param == param
            assert door.node.calls == []


async def test_fault_in_mid_stream_is_an_error_event(tmp_path: Path) -> None:
    with trio.fail_after(30):
        async with asking(tmp_path) as (door, client):
            door.node.answers["infer_readTokens"] = deque(
                [a_part("Hel", is_over=False), ReaderTooSlow("gone")]
            )
            stream = await chat(client, stream=True)
            texts = [(await anext(stream)).choices[0].delta.content]
            with pytest.raises(openai.APIError) as caught:
                await anext(stream)
            assert texts == ["Hel"]
            assert caught.value.code == "reader_too_slow"


async def test_stop_word_ends_the_generation_and_is_not_told(tmp_path: Path) -> None:
    with trio.fail_after(30):
        async with asking(tmp_path) as (door, client):
            door.node.answers["infer_readTokens"] = deque(
                [a_part("one #", is_over=False), a_part("## two", is_over=False)]
            )
            chunks = [chunk async for chunk in await chat(client, stream=True, stop="###")]
            assert "".join(one.choices[0].delta.content or "" for one in chunks) == "one "
            assert chunks[-1].choices[0].finish_reason == "stop"
            assert door.node.calls[-1][0] == "infer_endGeneration"


@pytest.mark.parametrize("stream", [False, True])
async def test_client_that_hangs_up_ends_the_generation(tmp_path: Path, stream: bool) -> None:
    with trio.fail_after(30):
        async with asking(tmp_path) as (door, client):
            begun = a_part("a", is_over=False)
            door.node.answers["infer_readTokens"] = deque([begun, begun])
            reading = trio.Event()

            async def stuck() -> None:
                if len(door.node.answers["infer_readTokens"]) < 2:
                    reading.set()
                    await trio.sleep_forever()

            door.node.before["infer_readTokens"] = stuck
            ended = ending(door)
            async with trio.open_nursery() as nursery:

                async def ask() -> None:
                    found = await chat(client, stream=stream)
                    async for _ in found:
                        pass

                nursery.start_soon(ask)
                await reading.wait()
                nursery.cancel_scope.cancel()
            await ended.wait()


async def test_vectors_of_two_workers_where_none_has_pledged(tmp_path: Path) -> None:
    with trio.fail_after(30):
        async with asking(tmp_path) as (door, client):
            nobody = NoBond("0 workers have pledged enough")
            door.node.answers["serve_run"] = deque([nobody, served(), nobody])
            await client.embeddings.create(model="net", input="a")
            assert [params.opinions for _, params in door.node.calls] == [1, 2]
            one: Any = {"prsm": {"opinions": 1}}
            with pytest.raises(openai.APIStatusError) as caught:
                await client.embeddings.create(model="net", input="a", extra_body=one)
            assert caught.value.code == "no_bond"


async def test_quota_of_calls_slows_a_text_and_does_not_break_it(tmp_path: Path) -> None:
    with trio.fail_after(30):
        async with asking(tmp_path) as (door, client):
            text_in_parts(door)
            door.node.answers["infer_readTokens"].insert(1, TooMany("50 a s", retry_after_ms=1))
            assert (await chat(client)).choices[0].message.content == "Hello"
            door.node.answers["infer_generate"] = TooMany("50 a second", retry_after_ms=1)
            with pytest.raises(openai.RateLimitError):
                await chat(client.with_options(max_retries=0))


async def test_client_that_does_not_read_is_cut_off_and_its_generation_ended(
    tmp_path: Path,
) -> None:
    body = json.dumps({"model": "net", "messages": HI, "stream": True}).encode()
    with trio.fail_after(30):
        async with open_v1(tmp_path, bounds=Bounds(write_s=0.05)) as door:
            door.node.answers["infer_readTokens"] = a_part("x" * 1_000_000, is_over=False)
            ended = ending(door)
            async with await door.tcp() as stream:
                headers = auth(door)
                asked = request(path="/v1/chat/completions", body=body, headers=headers)
                await stream.send_all(asked)
                await ended.wait()


async def test_token_taken_back_ends_the_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([True, False])
    monkeypatch.setattr(Gate, "is_live", lambda _gate, _caller: next(answers))
    with trio.fail_after(30):
        async with asking(tmp_path) as (door, client):
            door.node.answers["infer_readTokens"] = a_part("a", is_over=False)
            ended = ending(door)
            stream = await chat(client, stream=True)
            assert (await anext(stream)).choices[0].delta.content == "a"
            with pytest.raises(openai.APIError) as caught:
                await anext(stream)
            assert caught.value.code == "unauthorised"
            await ended.wait()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.test"}, 403),
        ({"Origin": "http://evil.test"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": None}, 415),
        ({"Authorization": None}, 401),
        ({"Authorization": "Basic eDp5"}, 401),
        ({"Content-Length": "99999999"}, 413),
    ],
)
async def test_page_of_another_site_or_nobody_asks_for_nothing(
    tmp_path: Path, headers: dict[str, str | None], status: int
) -> None:
    body = json.dumps({"model": "net", "messages": HI}).encode()
    with trio.fail_after(30):
        async with open_v1(tmp_path) as door:
            given = {**auth(door), **headers}
            for page in ("embeddings", "completions", "chat/completions"):
                raw = request(path=f"/v1/{page}", body=body, headers=given)
                answered = await exchange(await door.tcp(), raw)
                assert answered.status == status
                assert answered.json["error"]["message"]
                assert "access-control-allow-origin" not in answered.headers
            assert door.node.calls == []


async def test_wrong_verb_names_the_right_one(tmp_path: Path) -> None:
    with trio.fail_after(30):
        async with open_v1(tmp_path) as door:
            for verb, path, allow in (
                ("POST", "/v1/models", "get"),
                ("GET", "/v1/embeddings", "post"),
            ):
                raw = request(verb, path, body=b"", headers=auth(door))
                answered = await exchange(await door.tcp(), raw)
                assert (answered.status, answered.headers["allow"]) == (405, allow)
            raw = request("GET", "/v1/nothing", body=b"", headers=auth(door))
            assert (await exchange(await door.tcp(), raw)).status == 404


async def test_wrong_token_and_wrong_scope(tmp_path: Path) -> None:
    with trio.fail_after(30):
        async with asking(tmp_path) as (door, client):
            with pytest.raises(openai.AuthenticationError) as caught:
                await chat(client.with_options(api_key="0" * 64))
            assert caught.value.code == "unauthorised"
            door.node.answers["job_getProof"] = _NotThere("no such job")
            with pytest.raises(openai.NotFoundError):
                await client.get(f"/proofs/{JOB}", cast_to=object)
            assert [name for name, _ in door.node.calls] == ["job_getProof"]


class _NotThere(NoChatForm):
    reason = "not_found"
