"""The node's worker as if sessions ran on a device: the CPU computes, children are not sealed."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass

from typing_extensions import override

from prsm.node.worker import session
from prsm.node.worker.__main__ import main
from prsm.node.worker.job import Program
from prsm.node.worker.provider import Provider


@dataclass(frozen=True, slots=True)
class FakeDevice(Provider):
    """Says it has a device."""

    @override
    def load(self, raw: bytes, *, beside: Mapping[str, memoryview] | None = None) -> session.Model:
        return session.load(raw, beside=beside)


if __name__ == "__main__":
    device = FakeDevice("cuda", "cuda; of a test", has_device=True)
    sys.exit(main(sys.argv[1:], Program(provider=device)))
