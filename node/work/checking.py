"""Checking joined to a node: what it keeps for others' checks, and the checks it is drawn for.

Knows: which part of the node stands behind which port of checking. Must not know: how a check is
done, nor who is drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import trio

from prsm.node.chain.driver import Driver
from prsm.node.config.schema import Config
from prsm.node.home import Home
from prsm.node.inference.audits import Auditor
from prsm.node.inference.evidence import Evidence
from prsm.node.inference.inquiry import Inquiry, Witness
from prsm.node.inference.interface import Chain, Models
from prsm.node.inference.recheck import Recheck
from prsm.node.inference.shards import ShardCache
from prsm.node.keys import voting_seeds
from prsm.node.net.interface import Network
from prsm.node.supervise import Supervisor
from prsm.node.work.court import Bonding, LedgerCourt
from prsm.protocol.ed25519 import Ed25519Signer, Ed25519Verifier, Verifier
from prsm.storage.evidence import EvidenceFiles


def open_checking(home: Home, config: Config, driver: Driver, chain: Chain) -> "Checking":
    """The checking of a daemon, over its network that does not run yet.

    Raises:
        Full, StoreUnavailable: the disk refused.
    """
    bond, verifier = config.worker.bond_microftns, Ed25519Verifier()
    seeds = voting_seeds(home, is_voting=config.consensus.validator)
    standing = Standing(driver.network, driver, chain, verifier, seeds, bond)
    return Checking(standing, home.data / "evidence")


@dataclass(frozen=True, slots=True)
class Standing:
    """What a node brings to checks.

    Attributes:
        network: not running yet.
        driver: of the chain.
        chain: its account.
        verifier: of signatures.
        seeds: of the consensus keys it votes with.
        bond: micro-FTNS it keeps pledged.
    """

    network: Network
    driver: Driver
    chain: Chain
    verifier: Verifier
    seeds: Sequence[bytes]
    bond: int


class Checking:
    """A node's part in checks: evidence for others, and its own duties once it has shards."""

    def __init__(self, standing: Standing, folder: Path) -> None:
        """Open what is kept, and answer those the ledger drew.

        Args:
            standing: of the node.
            folder: of the evidence, this node's alone.

        Raises:
            Full, StoreUnavailable: the disk refused.
        """
        self._with = standing
        chain = standing.chain
        self.evidence = Evidence(EvidenceFiles(folder), chain)
        keys = [Ed25519Signer(seed) for seed in standing.seeds]
        self._court = LedgerCourt(standing.driver, chain, keys)
        ledger = standing.driver.ledger
        self._bonding = Bonding(chain, lambda: ledger.view, standing.bond)
        self._auditor: Auditor | None = None
        Witness(
            standing.network,
            chain,
            self.evidence,
            standing.verifier,
            may_see=self._court.may_see,
        )

    def work_with(self, models: Models, shards: ShardCache) -> Evidence:
        """This node runs models, so it can do the checks it is drawn for.

        Returns:
            Where it keeps what its own work is checked by.
        """
        node = self._with
        inquiry = Inquiry(node.network, node.chain, node.verifier)
        recheck = Recheck(inquiry, models, shards)
        self._auditor = Auditor(node.chain, self._court, recheck)
        return self.evidence

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep, check and pledge until cancelled; each part is started again if it crashes."""
        async with trio.open_nursery() as nursery:
            await nursery.start(Supervisor("evidence").run, self.evidence.run)
            await nursery.start(Supervisor("bond").run, self._bonding.run)
            if self._auditor is not None:
                await nursery.start(Supervisor("audits").run, self._auditor.run)
            task_status.started()
