"""The OpenAI API and the tools of `prsm mcp` on four real daemons: vectors, text, a receipt.

The models are small ones with drawn weights: they prove the way, not knowledge.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import onnx
import openai
import pytest
from mcp import Client, StdioServerParameters

import prsm
from prsm.node.home import Home
from prsm.node.worker.recipes.decoder import Config, build_decoder, build_encoder, build_tokenizer
from prsm.testnet import launch

pytestmark = [pytest.mark.slow, pytest.mark.e2e, pytest.mark.long]
SMALL = Config(layers=2, width=64, heads=2, positions=1024)
TEMPLATE = """{% for one in tools or [] %}<tool_call>{"name": "{{ one.function.name }}"}{% endfor %}
{%- for one in messages %}{{ one.role }}: {{ one.content }}
{% endfor %}assistant:"""
TOOLS: Any = [{"type": "function", "function": {"name": "add", "parameters": {}}}]
HI: Any = [{"role": "user", "content": "Hi"}]
ENVIRON = os.environ | {"PYTHONPATH": str(Path(prsm.__file__).parents[1])}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """The first of four nodes; it knows `encoder` and `decoder`."""
    folder = tmp_path_factory.mktemp("v1")
    network = launch.create(folder / "net", 4)
    tokenizer = folder / "tokenizer.json"
    tokenizer.write_text(build_tokenizer().to_str(), encoding="utf-8")
    template = folder / "chat_template.jinja"
    template.write_text(TEMPLATE, encoding="utf-8")
    for node in network.nodes[2:]:  # text is one worker's word: for pay it asks for a pledge
        settings = node.home.config.read_text(encoding="utf-8")
        node.home.config.write_text(settings.replace('price = "1000"', 'price = "0"'))
    try:
        network.start()
        home = network.nodes[0].home
        for name, model in (("encoder", build_encoder(SMALL)), ("decoder", build_decoder(SMALL))):
            path = folder / f"{name}.onnx"
            onnx.save(model, path)
            words = (
                "--name",
                name,
                "--tokenizer",
                str(tokenizer),
                "--stages",
                "1",
                "--stages",
                "2",
            )
            more = ("--chat-template", str(template)) if name == "decoder" else ()
            prsm_of(home, "model", "add", str(path), *words, *more)
        yield home
    finally:
        network.stop()


def prsm_of(home: Home, *words: str) -> str:
    command = [sys.executable, "-m", "prsm.node.cli.main", "--home", str(home.root), *words]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=ENVIRON, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def client(home: Home) -> Iterator[openai.OpenAI]:
    endpoint = home.endpoint.read_text(encoding="utf-8")
    http = endpoint.partition('"http":"')[2].partition('"')[0]
    token = home.cookie.read_text(encoding="ascii").strip()
    with openai.OpenAI(base_url=f"http://{http}/v1", api_key=token, max_retries=0) as made:
        yield made


def test_models_vectors_and_text_over_the_network(
    home: Home, client: openai.OpenAI, tmp_path: Path
) -> None:
    assert {model.id for model in client.models.list()} == {"encoder@1.0.0", "decoder@1.0.0"}
    two: Any = {"prsm": {"opinions": 2}}
    given = ["one", "another text"]
    first = client.embeddings.create(model="encoder", input=given, extra_body=two)
    again = client.embeddings.create(model="encoder", input=given, extra_body=two)
    assert [row.embedding for row in first.data] == [row.embedding for row in again.data]
    assert len(first.data[0].embedding) == SMALL.width
    assert first.usage.prompt_tokens == len("one") + len("another text")
    assert again.model_extra is not None
    assert again.model_extra["prsm"]["cached"] == again.model_extra["prsm"]["batches"]

    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="encoder", messages=HI)
    assert caught.value.code == "no_chat_form"

    options: Any = {"prsm": {"form": "plain", "stages": 2}}
    asked: Any = {"model": "decoder", "messages": HI, "max_tokens": 12, "temperature": 0}
    whole = client.chat.completions.create(**asked, extra_body=options)
    stream = client.chat.completions.create(**asked, extra_body=options, stream=True)
    told = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    assert told == whole.choices[0].message.content
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 12
    own: Any = {"prsm": {"local": True}}
    both = client.chat.completions.create(**{**asked, "n": 2}, tools=TOOLS, extra_body=own)
    assert both.model_extra is not None
    assert both.model_extra["prsm"]["form"] == "template"
    assert [one.index for one in both.choices] == [0, 1]
    local = {"prsm": {"form": "plain", "local": True}}
    alone = client.chat.completions.create(**asked, extra_body=local)
    assert alone.choices[0].message.content == told
    assert alone.model_extra is not None
    assert alone.model_extra["prsm"]["proof"] is None
    assert whole.model_extra is not None
    document = receipt(client, whole.model_extra["prsm"]["proof"])
    path = tmp_path / "receipt.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    prsm_of(home, "proof", "verify", str(path))


def test_a_question_is_read_by_workers_and_answered_from_what_was_found(
    home: Home, tmp_path: Path
) -> None:
    notes, receipt_file = tmp_path / "notes.txt", tmp_path / "reading.json"
    notes.write_text("The freezer alarms at minus 70.\n\nOrder primers.\n", encoding="utf-8")
    words = ("ask", "How cold?", str(notes), "--reader", "encoder", "--budget", "5")
    more = ("--model", "decoder", "--max-tokens", "8", "--count", "1", "--json")
    told = json.loads(prsm_of(home, *words, *more))
    [passage] = told["passages"]
    assert passage["place"] in {f"{notes}:1", f"{notes}:3"}
    assert told["error"] is None
    assert told["answer"] is not None
    prsm_of(home, "proof", "show", told["job_id"], "--output", str(receipt_file))
    prsm_of(home, "proof", "verify", str(receipt_file))


def receipt(client: openai.OpenAI, path: str) -> dict[str, Any]:
    """The receipt of an answer, once it is settled."""
    deadline = time.monotonic() + 60
    while True:
        try:
            found: dict[str, Any] = client.get(path.removeprefix("/v1"), cast_to=dict[str, Any])
        except openai.APIStatusError:
            if time.monotonic() > deadline:
                raise
            launch.nap()
        else:
            return found


def test_tools_run_a_model_and_check_its_receipt(home: Home) -> None:
    async def main() -> None:
        words = ["-m", "prsm.node.cli.main", "--home", str(home.root), "mcp", "--budget", "1"]
        server = StdioServerParameters(command=sys.executable, args=words, env=dict(ENVIRON))
        with anyio.fail_after(150):
            async with Client(server) as tools:
                job = await ask(tools, "run_model", model="encoder", texts=["one", "two"])
                assert len(job["outputs"][0]["values"]) == 2
                checked = await ask(tools, "verify_receipt", job_id=job["job_id"])
                assert checked["valid"], checked
                asked = {"model": "decoder", "prompt": "Once", "max_tokens": 8}
                told = await ask(tools, "generate_text", **asked)
                assert told["tokens"] == 8
                assert int((await ask(tools, "spending"))["left"]) <= 1_000_000

    anyio.run(main)


def test_tools_with_a_token_spend_within_its_limit(home: Home, tmp_path: Path) -> None:
    def server(limit: str) -> StdioServerParameters:
        path = tmp_path / f"{limit}.token"
        made = ("--role", "user", "--ttl", "1h", "--spend-limit", limit, "--out", str(path))
        prsm_of(home, "token", "new", f"tools-{limit.replace('.', '-')}", *made)
        words = ["--home", str(home.root), "--token-file", str(path), "mcp"]
        command = ["-m", "prsm.node.cli.main", *words]
        return StdioServerParameters(command=sys.executable, args=command, env=dict(ENVIRON))

    async def main() -> None:
        with anyio.fail_after(150):
            async with Client(server("0.5")) as tools:
                assert (await ask(tools, "spending"))["left"] == "500000"
                job = await ask(tools, "run_model", model="encoder", texts=["one"])
                assert int(job["locked"]) > 0
                assert int((await ask(tools, "spending"))["left"]) < 500_000
            async with Client(server("0.000001")) as tools:
                arguments = {"model": "encoder", "texts": ["one"]}
                refused = await tools.call_tool("run_model", arguments)
                assert refused.is_error
                assert (await ask(tools, "spending"))["left"] == "1"

    anyio.run(main)


async def ask(tools: Client, name: str, **arguments: object) -> Any:  # noqa: ANN401 - any JSON
    result = await tools.call_tool(name, arguments)
    assert not result.is_error, result.content
    return result.structured_content
