"""Who computes inside a session: the CPU, or CUDA where this build of the runtime offers it.

Knows the runtime's names of providers, its build, and what a session on each is told. Pinning,
splitting and golden rows of a preparation are the CPU's always: only sessions may run elsewhere, as
a class of their own. A session on a device must open the device, which no sealed child can: it has
limits and no other layer of the sandbox, and the node says so.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import onnxruntime as ort

from prsm.node.worker import session
from prsm.protocol.errors import Unsupported

_BUILD: Final = re.compile(r"git-commit-id=(\w+)")
_CPU: Final = "CPUExecutionProvider"
# The choice of an algorithm by trying out would give other bits from one start to the next, and
# TF32 has ten bits where fp32 has 23.
_CUDA: Final = ("CUDAExecutionProvider", {"cudnn_conv_algo_search": "DEFAULT", "use_tf32": "0"})
_NAMES: Final = {"cpu": _CPU, "cuda": _CUDA[0]}


@dataclass(frozen=True, slots=True)
class Provider:
    """Where sessions run.

    Attributes:
        name: as in the configuration.
        options: of a session, in one canonical line: provider first, build of the runtime last.
        has_device: sessions open a device, so their children are not sealed.
    """

    name: str
    options: str
    has_device: bool

    def load(self, raw: bytes, *, beside: Mapping[str, memoryview] | None = None) -> session.Model:
        """Make a session on this provider; as `session.load`."""
        if not self.has_device:
            return session.load(raw, beside=beside)
        options = session.session_options()
        options.use_deterministic_compute = True
        return session.load(raw, options=options, beside=beside, providers=(_CUDA, _CPU))


def choose(name: str) -> Provider:
    """The provider of that name.

    Raises:
        Unsupported: no such provider, or this build of the runtime does not offer it.
    """
    offered = sorted(n for n, full in _NAMES.items() if full in ort.get_available_providers())
    if name not in offered:
        raise Unsupported(
            f"this onnxruntime offers {', '.join(offered)}, not {name[:32]!r}",
            hint='install the runtime for that device, or set executor.provider = "cpu"',
        )
    found = _BUILD.search(ort.get_build_info())
    build = found.group(1) if found else "unknown"
    has_device = name != "cpu"
    rest = session.OPTIONS.partition("; ")[2]
    deterministic = "; deterministic=1; tf32=0" if has_device else ""
    return Provider(name, f"{name}; {rest}{deterministic}; build={build}", has_device)


CPU: Final = choose("cpu")
