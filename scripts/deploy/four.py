"""`python four.py FOLDER`: genesis, keys and configuration of the four nodes of `compose.yaml`.

Makes a network of `prsm.testnet` once and moves its addresses from loopback to those of the
compose file. Knows: the configuration files. Must not know: containers.
"""

import sys
from pathlib import Path
from typing import Final

from prsm.testnet import launch

COUNT: Final = 4
PORT: Final = 4410
RPC_PORT: Final = 8480
FIRST: Final = "172.30.57.1"  # node 1 is .11


def make(folder: Path) -> bool:
    """Write the four homes; False if they are there."""
    if (folder / "node1" / "config.toml").exists():
        return False
    network = launch.create(folder, COUNT)
    homes = {node.home.root: node.port for node in network.nodes}
    for number, home in enumerate(homes, start=1):
        path = home / "config.toml"
        path.write_text(moved(path.read_text(), number, list(homes.values())))
    return True


def moved(text: str, number: int, ports: list[int]) -> str:
    """A configuration with addresses of the compose file in place of those of loopback.

    Args:
        text: of config.toml.
        number: of the node, from 1.
        ports: where the nodes listen on loopback, in their order.
    """
    own = f'listen = ["/ip4/127.0.0.1/tcp/{ports[number - 1]}"]'
    assert own in text, text
    text = text.replace(own, f'listen = ["/ip4/0.0.0.0/tcp/{PORT}"]')
    for other, port in enumerate(ports, start=1):
        text = text.replace(f"/ip4/127.0.0.1/tcp/{port}/", f"/ip4/{FIRST}{other}/tcp/{PORT}/")
    lines = text.splitlines()
    at = lines.index("[rpc]") + 1
    assert lines[at].startswith("listen = "), lines[at]
    lines[at] = f'listen = "127.0.0.1:{RPC_PORT}"'
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print("written" if make(Path(sys.argv[1])) else "it is there")
