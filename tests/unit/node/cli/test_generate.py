"""`prsm generate` against a served fake node: text as it comes, one document with `--json`."""

import json

import msgspec

from prsm.node.rpc.methods.generation import GenerationInfo
from tests.tools.rpc_node import sample
from tests.tools.served import Served


def test_generate_writes_text_as_it_comes_and_what_moves_a_terminal_not_at_all(
    served: Served,
) -> None:
    begun = sample(GenerationInfo)
    served.node.answers["infer_generate"] = msgspec.structs.replace(begun, is_over=False, text="")
    served.node.answers["infer_readTokens"] = msgspec.structs.replace(
        begun, text="h\u00e9llo\n\x1b[2J", finish="stop", tokens=3, tokens_ms=10
    )
    result = served.run("generate", "m", "-", "--temperature", "0.8", "--stages", "2", input="hi")
    assert result.exit_code == 0
    assert result.stdout == "h\u00e9llo\n\ufffd[2J\n"
    assert "3 tokens (stop)" in result.stderr
    [(_, asked), _] = served.node.calls
    assert (asked.prompt, asked.temperature, asked.stages, asked.spare) == ("hi", 800, 2, True)
    assert served.run("generate", "m", "-", input="").exit_code == 2


def test_generate_gives_one_document_with_all_of_the_text(served: Served) -> None:
    begun = sample(GenerationInfo)
    served.node.answers["infer_generate"] = msgspec.structs.replace(begun, is_over=False, text="")
    served.node.answers["infer_readTokens"] = msgspec.structs.replace(begun, text="all of it")
    result = served.run("generate", "m", "hi", "--json", "--max-price", "2")
    assert json.loads(result.stdout)["text"] == "all of it"
    assert served.node.calls[0][1].max_price == "2000000"
