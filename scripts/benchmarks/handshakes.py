"""Measure what a TLS handshake costs the node, by the kind of its certificate's key.

Both sides in memory, TLS 1.3, no resumption; the server's processor time alone is counted. Knows
OpenSSL. Must not know the door. Run: python scripts/benchmarks/handshakes.py
"""

import ssl
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Final

ROUNDS: Final = 200
KINDS: Final = {
    "EC P-256": ("ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
    "RSA 2048": ("rsa:2048",),
    "RSA 4096": ("rsa:4096",),
}


def measure(kind: str) -> float:
    """Milliseconds of processor time that the server spends on one handshake; the median."""
    with tempfile.TemporaryDirectory() as folder:
        pem, key = Path(folder, "tls.pem"), Path(folder, "tls.key")
        made = ("openssl", "req", "-x509", "-nodes", "-subj", "/CN=node.example", "-newkey")
        files = ("-keyout", str(key), "-out", str(pem))
        subprocess.run((*made, *KINDS[kind], *files), check=True, capture_output=True)
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(pem, key)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    return statistics.median(_shake(server, client) for _ in range(ROUNDS)) * 1_000


def _shake(server: ssl.SSLContext, client: ssl.SSLContext) -> float:
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    theirs = client.wrap_bio(down, up)
    ours = server.wrap_bio(up, down, server_side=True)
    spent = 0.0
    _go_on(theirs)
    for _ in range(2):  # their hello; their last word
        began = time.process_time()
        _go_on(ours)
        spent += time.process_time() - began
        _go_on(theirs)
    assert ours.version() == "TLSv1.3"
    return spent


def _go_on(side: ssl.SSLObject) -> None:
    try:
        side.do_handshake()
    except ssl.SSLWantReadError:
        return


def main() -> None:
    """Print a line for each kind."""
    print(ssl.OPENSSL_VERSION)
    took_ms = {kind: measure(kind) for kind in KINDS}
    for kind, ms in took_ms.items():
        print(f"{kind}: {ms:.2f} ms, {ms / min(took_ms.values()):.1f} times the least")


if __name__ == "__main__":
    main()
