"""Measure generation over four real daemons on loopback: whole at home, then over two stages.

A decoder of 8 layers and width 512 (29.9 M parameters, seeded weights). The same prompt goes
through one child of the asking node, then through two stages: both at other daemons, or the first
at home.
Then a daemon that holds a stage is killed in the middle of an answer, again and again; each answer
must have the tokens of the undisturbed one. Times per token are the daemon's own.

Run: python scripts/benchmarks/generation.py [--trials 50]
"""

import argparse
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from prsm.node.rpc.client import Client
from prsm.node.rpc.methods.generation import GenerationInfo, ReadTokensParams
from prsm.node.rpc.methods.models import AddParams, ModelInfo, RefParams
from prsm.node.rpc.methods.node import NodeStatus
from prsm.node.worker.recipes.decoder import Config, build_decoder, build_tokenizer
from prsm.testnet.launch import Network, create, wait_peers
from prsm.testnet.processes import Node

CONFIG: Final = Config(layers=8, width=512, heads=8, positions=256)
TRIALS: Final = 4  # a daemon is started for each; `--trials 50` by its own command
PROMPT: Final = "Labs that do not fully trust one another pool machines"
TOKENS: Final = 96
REPEATS: Final = 3
NODES: Final = 4
START_SECONDS: Final = 60.0
LOCAL: Final = "whole at home, each token"
FIRST_LOCAL: Final = "whole at home, first token"
TWO: Final = "2 stages at 2 peers, each token"
HOME: Final = "first stage at home, second at a peer, each token"
FIRST_TWO: Final = "2 stages at 2 peers, first token"
FIRST_HOME: Final = "first stage at home, second at a peer, first token"
LIMITS: Final[Mapping[str, str]] = {
    TWO: LOCAL,
    HOME: LOCAL,
    FIRST_TWO: FIRST_LOCAL,
    FIRST_HOME: FIRST_LOCAL,
}
Row = tuple[str, float, str]
Said = tuple[str, GenerationInfo]


class Asker:
    """Node 1, which asks."""

    def __init__(self, client: Client, model: str) -> None:
        self._client, self._model = client, model

    def say(
        self,
        *,
        stages: int = 2,
        home: int = 0,
        replay: str = "steps",
        at_tokens: int = -1,
        then: Callable[[GenerationInfo], None] = lambda _info: None,
    ) -> Said:
        """Generate; `then` is called once, when so many tokens have come."""
        info = self._client.call(
            "infer_generate",
            {
                "model": self._model,
                "prompt": PROMPT,
                "max_tokens": TOKENS,
                "stages": stages,
                "home": home,
                "replay": replay,
            },
            result=GenerationInfo,
        )
        text = ""
        while not info.is_over:
            info = self._client.call(
                "infer_readTokens",
                ReadTokensParams(info.generation_id, wait_ms=2_000),
                result=GenerationInfo,
            )
            text += info.text
            if 0 <= at_tokens <= info.tokens:
                at_tokens = -1
                then(info)
        return text, info


def each_token_ms(info: GenerationInfo) -> float:
    """Milliseconds of a token after the first."""
    return info.tokens_ms / (info.tokens - 1)


def prepare(folder: Path, network: Network) -> str:
    """Add the model at node 1 and bring it to the others; its CID."""
    source, tokenizer = folder / "model.onnx", folder / "tokenizer.json"
    source.write_bytes(build_decoder(CONFIG).SerializeToString(deterministic=True))
    tokenizer.write_text(build_tokenizer().to_str(), encoding="utf-8")
    with network.nodes[0].client(timeout_s=300.0) as client:
        add = AddParams(str(source), "decoder", stages=(2,), tokenizer=str(tokenizer))
        model = client.call("model_add", add, result=ModelInfo)
    for node in network.nodes[1:]:
        with node.client(timeout_s=300.0) as client:
            client.call("model_pull", RefParams(model.cid), result=ModelInfo)
    return model.cid


def measure_ways(asker: Asker, rows: list[Row]) -> str:
    """Local, two peers, one peer, in turns; the text all of them gave."""
    ways: dict[str, tuple[int, int]] = {LOCAL: (1, 1), TWO: (2, 0), HOME: (2, 1)}
    each: dict[str, list[float]] = {name: [] for name in ways}
    first: dict[str, list[float]] = {name: [] for name in ways}
    opened: dict[str, list[float]] = {name: [] for name in ways}
    texts: set[str] = set()
    for stages, home in ways.values():
        asker.say(stages=stages, home=home)  # loads what is not loaded
    for _ in range(REPEATS):
        for name, (stages, home) in ways.items():
            text, info = asker.say(stages=stages, home=home)
            texts.add(text)
            each[name].append(each_token_ms(info))
            first[name].append(float(info.first_token_ms))
            opened[name].append(float(info.opened_ms))
    rows += [(name, statistics.median(each[name]), "ms") for name in ways]
    for name, told in ((LOCAL, FIRST_LOCAL), (TWO, FIRST_TWO), (HOME, FIRST_HOME)):
        rows.append((told, statistics.median(first[name]), "ms"))
    for name in (TWO, HOME):
        above = [there - here for there, here in zip(each[name], each[LOCAL], strict=True)]
        rows.append((f"{name}: above home (bar 2)", statistics.median(above), "ms"))
        above = [there - here for there, here in zip(first[name], first[LOCAL], strict=True)]
        rows.append((f"{name}: first token above home (bar 20)", statistics.median(above), "ms"))
    for name, times in opened.items():
        way = name.removesuffix(", each token")
        rows.append((f"{way}, request to open sessions", statistics.median(times), "ms"))
    rows.append(("different texts of all ways (bar 1)", float(len(texts)), ""))
    return texts.pop()


def measure_kills(asker: Asker, network: Network, text: str, trials: int, rows: list[Row]) -> None:
    """Kill the daemon of a stage in mid-answer, and start it again before the next answer."""
    nodes = {peer_of(node): node for node in network.nodes}
    same, ratios = 0, list[float]()
    needed: dict[str, list[float]] = {"steps": [], "prefill": []}
    taken: dict[str, list[float]] = {"steps": [], "prefill": []}
    for trial in range(trials):
        replay, stage = ("steps", "prefill")[trial % 2], trial // 2 % 2
        victims: list[Node] = []

        def kill(info: GenerationInfo, stage: int = stage, victims: list[Node] = victims) -> None:
            victims.append(nodes[info.stages[stage]])
            victims[0].signal(signal.SIGKILL)

        said, info = asker.say(replay=replay, at_tokens=20 + 7 * trial % 60, then=kill)
        same += said == text and len(info.recoveries) == 1
        for recovery in info.recoveries:
            least = float(recovery.load_ms + recovery.replay_ms)
            ratios.append(recovery.lost_ms / max(1.0, least))
            needed[replay].append(least)
            taken[replay].append(float(recovery.lost_ms))
        for victim in victims:
            again(network, victim)
    rows.append((f"stage killed in mid-answer, {trials} trials: same tokens", float(same), ""))
    rows.append(("recovery against replay + load, median (bar 2)", statistics.median(ratios), "x"))
    rows.append(("recovery against replay + load, worst", max(ratios), "x"))
    for way, due in needed.items():
        rows.append((f"replay + load, {way}", statistics.median(due), "ms"))
        rows.append((f"recovery, {way}", statistics.median(taken[way]), "ms"))


def work_for_nothing(node: Node) -> None:
    """Only free work may be replayed in one pass; paid work would need a pledge."""
    config = node.home.config.read_text(encoding="utf-8")
    node.home.config.write_text(config.replace('price = "1000"', 'price = "0"'), encoding="utf-8")


def peer_of(node: Node) -> str:
    """Its peer id."""
    with node.client() as client:
        return client.call("node_getStatus", result=NodeStatus).peer_id


def again(network: Network, victim: Node) -> None:
    """Start a killed daemon, and wait until all are linked."""
    victim.start()
    deadline = time.monotonic() + START_SECONDS
    victim.wait_ready(deadline)
    wait_peers(network.nodes[0], NODES - 1, deadline)


def measure_all(trials: int = TRIALS) -> list[Row]:
    """Run everything, for a caller without a folder."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        network = create(Path(folder) / "net", NODES)
        try:
            for node in network.nodes:
                work_for_nothing(node)
            network.start()
            cid = prepare(Path(folder), network)
            with network.nodes[0].client(timeout_s=120.0) as client:
                asker = Asker(client, cid)
                text = measure_ways(asker, rows)
                if trials:
                    measure_kills(asker, network, text, trials, rows)
        finally:
            network.stop()
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=50, help="daemons killed")
    options = parser.parse_args(arguments)
    for name, value, unit in measure_all(options.trials):
        print(f"  {name:<66} {value:>9.2f} {unit}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
