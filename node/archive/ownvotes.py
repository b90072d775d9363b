"""Votes of a home's own keys that an import shows, and that its consensus log lacks.

The blocks of a file take the place of those of peers, whose certificates would have told the
running node. Knows: keys, log and guard of a stopped home. Must not know: files of blocks.
Source: docs/spec/pbft.md, "Start"; docs/spec/storage.md, "Chain file".
"""

from collections.abc import Iterator
from contextlib import contextmanager

from prsm.consensus.pbft import replica
from prsm.consensus.pbft.config import Config
from prsm.consensus.pbft.forgotten import shown_by
from prsm.consensus.pbft.state import State
from prsm.consensus.pbft.tip import Tip
from prsm.node.chain.signfiles import Place, SignFiles, open_signfiles
from prsm.node.home import Home
from prsm.node.keys import voting_seeds
from prsm.protocol.certificates import Certificate
from prsm.protocol.ed25519 import Ed25519Signer, Ed25519Verifier
from prsm.protocol.genesis import Genesis
from prsm.protocol.validators import ValidatorSet
from prsm.storage.disk import PosixDisk


class OwnVotes:
    """Puts the guard aside before a block is stored that shows a loss; once is enough."""

    def __init__(self, files: SignFiles, state: State) -> None:
        """Wrap open files, and a replica that remembers what they hold."""
        self._files = files
        self._state = state

    def check(self, certificate: Certificate, validators: ValidatorSet) -> None:
        """Make the next start an observer's if the log lacks a past, or a vote in here.

        Args:
            certificate: that holds, of a block that is about to be stored.
            validators: who signed it.

        Raises:
            StoreUnavailable, Full: the disk refused; nothing of this home may sign.
        """
        if self._files.is_observer or self._files.forbid_if_blank():
            return
        if reason := shown_by(self._state, certificate, validators):
            self._files.forbid(reason)


@contextmanager
def own_votes(home: Home, genesis: Genesis, tip: Tip) -> Iterator[OwnVotes | None]:
    """Open what a stopped home remembers of its votes; None if it has no key or no log.

    Without a log under a ledger that has blocks the next start finds an observer in any case.

    Raises:
        Conflict, StoreUnavailable, Full: log or guard do not open.
    """
    seeds = voting_seeds(home, is_voting=bool(home.consensus_keys))
    disk = PosixDisk()
    if not seeds or not disk.exists(Place(disk, home.data).log):
        yield None
        return
    config = Config.of(genesis, signers=map(Ed25519Signer, seeds), verifier=Ed25519Verifier())
    opened = open_signfiles(disk, home.data, ledger_height=tip.height)
    try:
        state = replica.start(config, tip, opened.records, opened.observer)
        yield OwnVotes(opened.files, state)
    finally:
        opened.files.close()
