"""libp2p without its unused libraries, in a process of its own: what is absent, and what works."""

import subprocess
import sys
from typing import Final

import pytest

from prsm.node.net.thin import UNUSED

TALK: Final = """
from prsm.node.net.thin import UNUSED, import_libp2p
import_libp2p()
import sys
assert not [name for name in sys.modules if name.partition(".")[0] in UNUSED]

import trio
from prsm.node.net.handshake import ChainIdentity
from prsm.node.net.host import libp2p_network
from prsm.node.net.interface import Channel
from prsm.protocol.messages.net import Heartbeat

async def main():
    chain, listen = ChainIdentity(b"testnet1", b"g" * 32), ["/ip4/127.0.0.1/tcp/0"]
    one, two = (libp2p_network(bytes([n]) * 32, chain, listen=listen) for n in (1, 2))
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            await nursery.start(one.run)
            await nursery.start(two.run)
            peer = await one.connect(two.addresses[0])
            answer, _ = await one.call(peer, Heartbeat(count=3), channel=Channel.CTL)
            print(answer)
            nursery.cancel_scope.cancel()

trio.run(main)
assert not [name for name in sys.modules if name.partition(".")[0] in UNUSED]

import requests, zeroconf
print(requests.get.__module__, zeroconf.Zeroconf.__module__)
"""
REFUSED: Final = """
from prsm.node.net.thin import import_libp2p
import_libp2p()
from multiaddr.resolvers import DNSResolver
DNSResolver()._resolver("example.org")
"""


def said(program: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.slow
def test_two_nodes_talk_without_the_unused_libraries_which_load_later_as_ever() -> None:
    done = said(TALK)
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["Heartbeat(count=3)", "requests.api zeroconf._core"]


@pytest.mark.slow
def test_what_is_absent_fails_by_its_name() -> None:
    done = said(REFUSED)
    assert "NotImplementedError: dns.asyncresolver.Resolver is not loaded in a node" in done.stderr


@pytest.mark.slow
def test_daemon_loads_none_of_them() -> None:
    done = said("import sys, prsm.node.process\nprint(*sys.modules, sep='\\n')")
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "libp2p" in loaded
    assert not loaded & UNUSED
