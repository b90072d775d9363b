"""What a hostile peer can say below streams: on a socket, under Noise, to the muxer."""

from contextlib import suppress

import trio
from libp2p.crypto.secp256k1 import create_new_key_pair as create_other_key_pair
from libp2p.security.noise import patterns
from libp2p.utils.varint import encode_uvarint

from prsm.protocol.limits import MIB
from prsm.testnet.hostile import (
    ACK,
    DATA,
    FIN,
    GO_AWAY,
    PING,
    RST,
    SYN,
    WINDOW,
    Gone,
    Hostile,
    knock,
    line,
)
from tests.tools.insults import Attack, Fate, Table, until_gone

TABLE = Table()
PING_PROTOCOL = "/ipfs/ping/1.0.0"


# -- sockets and the encryption


@TABLE.row(Fate.STRANGER)
async def http_request(attack: Attack) -> None:
    with trio.fail_after(6):
        await knock(attack.port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 20)


@TABLE.row(Fate.STRANGER)
async def name_of_a_protocol_without_end(attack: Attack) -> None:
    """Stock code reads as much as it is told to."""
    with trio.fail_after(2):
        await knock(attack.port, encode_uvarint(2**28) + bytes(8 * MIB))


@TABLE.row(Fate.STRANGER)
async def protocol_that_is_no_text(attack: Attack) -> None:
    with trio.fail_after(2):
        await knock(attack.port, line("/multistream/1.0.0") + b"\x05\xff\xfe\xfd\xfc\n")


@TABLE.row(Fate.STRANGER)
async def noise_that_is_none(attack: Attack) -> None:
    opening = line("/multistream/1.0.0") + line("/noise")
    with trio.fail_after(6):
        await knock(attack.port, opening + b"\x00\x40" + b"\xff" * 64 + b"\xff\xff" + bytes(70_000))


@TABLE.row(Fate.STRANGER)
async def plaintext_instead_of_noise(attack: Attack) -> None:
    opening = line("/multistream/1.0.0") + line("/plaintext/2.0.0") + line("/tls/1.0.0")
    stream = await trio.open_tcp_stream("127.0.0.1", attack.port)
    async with stream:
        await stream.send_all(opening)
        got, answer = b"", line("/multistream/1.0.0") + line("na") + line("na")
        with trio.fail_after(6):
            while len(got) < len(answer):
                got += await stream.receive_some(4096)
        assert got == answer


@TABLE.row(Fate.STRANGER)
async def forty_who_say_nothing(attack: Attack) -> None:
    """Slow-loris: more silent sockets than handshakes at once; the next honest one gets in."""
    silent = [await trio.open_tcp_stream("127.0.0.1", attack.port) for _ in range(40)]
    await trio.sleep(1.6)
    async with Hostile.dial(attack.seed, attack.port, attack.victim) as honest:
        await honest.shake_hands(attack.chain)
    for stream in silent:
        await stream.aclose()


@TABLE.row(Fate.STRANGER)
async def key_that_is_no_ed25519(attack: Attack) -> None:
    """Every key of this network is an Ed25519 one; its PeerId shows it."""
    hidden = Hostile(attack.seed, attack.port, attack.victim)
    hidden.keys = create_other_key_pair(attack.seed)
    let_in = False
    with suppress(Exception):  # of whatever kind the refusal is
        await hidden._connect()
        let_in = True
    assert not let_in
    await hidden.close()


@TABLE.row(Fate.STRANGER)
async def identity_that_is_not_proved(attack: Attack) -> None:
    """The handshake names a key and signs with nothing: whoever it names must not be harmed."""
    right = vars(patterns)["make_handshake_payload_sig"]
    claimed = Hostile(attack.seed, attack.port, attack.victim)
    setattr(patterns, "make_handshake_payload_sig", lambda *_: bytes(64))  # noqa: B010 - a lie
    let_in = False
    try:
        with suppress(Exception):  # of whatever kind the refusal is
            await claimed._connect()
            let_in = True
    finally:
        setattr(patterns, "make_handshake_payload_sig", right)  # noqa: B010 - the truth again
    assert not let_in
    await claimed.close()


@TABLE.row(Fate.STRANGER)
async def thirty_rapid_reconnects(attack: Attack) -> None:
    """Stock code counts connections and forgets to count some down."""
    for _ in range(3):
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(come_and_go, attack)


async def come_and_go(attack: Attack) -> None:
    """Connect as far as Yamux, and leave without a word."""
    async with Hostile.dial(attack.seed, attack.port, attack.victim):
        await trio.lowlevel.checkpoint()


@TABLE.row(Fate.CLOSED)
async def ciphertext_that_is_none(attack: Attack) -> None:
    await attack.peer.below(b"\x00\x40" + b"\xee" * 64)


@TABLE.row(Fate.CLOSED)
async def packet_of_no_bytes_at_all(attack: Attack) -> None:
    await attack.peer.below(b"\x00\x00" * 10)


@TABLE.row(Fate.BANNED, why="carry nothing")
async def empty_packets(attack: Attack) -> None:
    session = attack.peer._session
    assert session is not None
    conn = session.conn

    async def empty() -> None:
        data = b"".join(
            len(packet).to_bytes(2, "big") + packet
            for packet in (conn.encrypt(b"") for _ in range(500))
        )
        await attack.peer.below(data)

    await until_gone(empty, 6)


# -- muxer frames


@TABLE.row(Fate.BORNE)
async def every_kind_and_flag(attack: Attack) -> None:
    """Of streams that are not there; nothing is opened under a number of the victim's."""
    for kind in (DATA, WINDOW, PING):
        for flags in range(16):
            for stream in (0, 2, 7, 2**31):
                if not (flags & SYN and kind != PING):
                    await attack.peer.frame(kind, flags, stream)
    await attack.peer.frame(WINDOW, ACK, 9, 2**32 - 1)
    await attack.peer.frame(DATA, FIN | RST, 11, body=bytes(1000))


@TABLE.row(Fate.BORNE)
async def stream_opened_ended_and_reset_at_once(attack: Attack) -> None:
    for flags in (SYN | FIN, SYN | RST, SYN | FIN | RST, SYN | ACK, SYN | ACK | FIN | RST):
        attack.peer._last += 2
        await attack.peer.frame(DATA, flags, attack.peer._last, body=line("/multistream/1.0.0"))
        attack.peer._last += 2
        await attack.peer.frame(WINDOW, flags, attack.peer._last, 2**32 - 1)


@TABLE.row(Fate.BORNE)
async def stream_opened_twice(attack: Attack) -> None:
    for _ in range(5):
        await attack.peer.open(PING_PROTOCOL, stream=77)


@TABLE.row(Fate.BORNE, greets=True)
async def window_of_four_gigabytes(attack: Attack) -> None:
    for _ in range(20):
        await attack.peer.frame(WINDOW, 0, attack.ctl, 2**32 - 1)


@TABLE.row(Fate.BANNED, why="version 0, type 9")
async def frame_of_unknown_kind(attack: Attack) -> None:
    await attack.peer.frame(9, 0xFFFF, 7)


@TABLE.row(Fate.BANNED, why="version 1")
async def frame_of_another_version(attack: Attack) -> None:
    await attack.peer.raw(b"\x01" + bytes(11))


@TABLE.row(Fate.BANNED, why="4294967295 bytes")
async def frame_of_four_gigabytes(attack: Attack) -> None:
    await attack.peer.frame(DATA, SYN, 1, length=2**32 - 1)


@TABLE.row(Fate.BANNED, why="which is ours")
async def stream_under_a_number_of_the_victim(attack: Attack) -> None:
    await attack.peer.frame(WINDOW, SYN, 2)


@TABLE.row(Fate.BANNED, why="carry nothing")
async def pings_without_end(attack: Attack) -> None:
    frames = b"".join(b"\x00\x02\x00\x01" + bytes(8) for _ in range(500))
    await until_gone(lambda: attack.peer.raw(frames), 10)


@TABLE.row(Fate.BANNED, why="streams opened")
async def streams_opened_and_reset_without_end(attack: Attack) -> None:
    async def reset() -> None:
        attack.peer._last += 2
        await attack.peer.frame(WINDOW, SYN | RST, attack.peer._last)

    await until_gone(reset, 500)


@TABLE.row(Fate.BANNED, greets=True, why="never sent")
async def window_updates_without_end(attack: Attack) -> None:
    one = b"\x00\x01\x00\x00" + attack.ctl.to_bytes(4, "big") + (1).to_bytes(4, "big")
    await until_gone(lambda: attack.peer.raw(one * 5000), 10)


@TABLE.row(Fate.BANNED, greets=True, why="carry nothing")
async def data_of_no_bytes_without_end(attack: Attack) -> None:
    one = b"\x00\x00\x00\x00" + attack.ctl.to_bytes(4, "big") + bytes(4)
    await until_gone(lambda: attack.peer.raw(one * 500), 10)


@TABLE.row(Fate.BANNED, why="nobody asked for")
async def data_nobody_reads(attack: Attack) -> None:
    """Two megabytes before the hello, into a stream whose protocol was never named."""
    await attack.peer.frame(WINDOW, SYN, 1)
    with suppress(Gone):
        await attack.peer.say(1, bytes(2 * MIB))


@TABLE.row(Fate.BANNED, greets=True, why="nobody asked for")
async def data_nobody_reads_after_the_hello(attack: Attack) -> None:
    """Twelve megabytes past the window: an honest peer may have more on the way than a stranger."""
    await attack.peer.frame(WINDOW, SYN, 3)
    with suppress(Gone):
        await attack.peer.say(3, bytes(12 * MIB))


@TABLE.row(Fate.CLOSED)
async def farewell_of_a_strange_kind(attack: Attack) -> None:
    await attack.peer.frame(GO_AWAY, 0xFFFF, 9, 77)
