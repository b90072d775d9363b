"""`PYTHONPATH=src:. python -m tests.contracts.record FOLDER`: what a version asks and answers.

Run once for each minor, when it is released; a recording is never written again. The values are
the least ones the types allow: what is kept are names, types and spellings.
"""

import json
import sys
from pathlib import Path
from typing import Any

import msgspec

from prsm.node.rpc.methods.subscriptions import TOPICS
from prsm.node.rpc.methods.table import METHODS
from prsm.node.rpc.reasons import REGISTRY
from prsm.node.rpc.spec import Method
from tests.tools.rpc_node import sample


def recorded(method: Method) -> dict[str, Any]:
    """Requests and the answer of a method."""
    example = {} if method.example is None else msgspec.to_builtins(method.example)
    full = msgspec.to_builtins(sample(method.params))
    full.pop("cursor", None)  # a node takes its own only
    answer = json.loads(msgspec.json.encode(sample(method.result)))
    requests = [example] if example == full else [example, full]
    return {"scope": str(method.scope), "requests": requests, "answer": answer}


def errors() -> dict[str, Any]:
    """Every reason with its numbers."""
    return {
        entry.reason: {
            "code": entry.code,
            "prsm_code": entry.prsm_code,
            "exit": int(entry.exit_code),
            "retryable": entry.retryable,
        }
        for entry in REGISTRY.values()
    }


def main(folder: Path) -> None:
    """Write a file for each namespace, one of errors and one of topics."""
    folder.mkdir(parents=True, exist_ok=True)
    spaces: dict[str, dict[str, Any]] = {}
    for name in sorted(METHODS):
        spaces.setdefault(name.partition("_")[0], {})[name] = recorded(METHODS[name])
    spaces["errors"] = errors()
    spaces["topics"] = {
        name: json.loads(msgspec.json.encode(sample(topic.row)))
        for name, topic in sorted(TOPICS.items())
    }
    for name, document in spaces.items():
        text = json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False)
        (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
