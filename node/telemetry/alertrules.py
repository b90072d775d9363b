"""When a node calls for a person: each rule for the node itself and, in PromQL, for Prometheus.

Pure. `scripts/deploy/alerts.yaml` is written from this table, each rule has a page in
`docs/runbooks/`, and both are compared with it by tests. Knows: metrics by name. Must not know:
who is told, clocks.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, Protocol

Severity = Literal["info", "warning", "critical"]

_MINUTE: Final = 60
_HOUR: Final = 3_600
CERTIFICATE_S_MIN: Final = 3 * 86_400  # who renews those of six days in time has more
DISK_FREE_BYTES_MIN: Final = 2 * 1024**3
LAG_S_MAX: Final = 0.5  # a view ends after 400 ms of silence
BUCKET_ENTRIES_MAX: Final = 256  # spread by a hash: no honest state comes near it
THREADS_MAX: Final = 40  # trio's own bound


class Sight(Protocol):
    """What a rule looks at: the node's own numbers, now and some minutes back."""

    @property
    def worst_lag_s(self) -> float:
        """How late the loop was at worst, of the last seconds."""
        ...

    def now(self, name: str, **labels: str) -> float:
        """A metric summed over all label sets that have these values."""
        ...

    def grown(self, name: str, seconds: float, **labels: str) -> float:
        """By how much a counter grew in the last seconds."""
        ...


@dataclass(frozen=True, slots=True)
class Rule:
    """One alert.

    Attributes:
        name: CamelCase, as Prometheus spells alerts; also the name of its page.
        severity: `critical`: money, votes or data are at stake now.
        for_s: so long it must hold before anybody is called.
        expr: for Prometheus.
        holds: for the node itself; None: only others can see it.
        text: one sentence for a person.
    """

    name: str
    severity: Severity
    for_s: int
    expr: str
    holds: Callable[[Sight], bool] | None
    text: str

    @property
    def runbook(self) -> str:
        """The page that says what to do."""
        return f"docs/runbooks/{self.name}.md"


RULES: Final[tuple[Rule, ...]] = (
    Rule(
        *("NodeDown", "critical", 2 * _MINUTE, 'up{job="prsm"} == 0', None),
        text="Nobody answers at the node's /metrics.",
    ),
    Rule(
        *("NodeHalted", "critical", 0, "prsm_node_up == 0"),
        holds=lambda see: see.now("prsm_node_up") == 0,
        text="The node takes no more blocks: its disk or its state failed it.",
    ),
    Rule(
        *("NoPeers", "critical", 2 * _MINUTE),
        expr="sum by (instance) (prsm_peers) == 0 and prsm_peers_expected == 1",
        holds=lambda see: not see.now("prsm_peers") and see.now("prsm_peers_expected") == 1,
        text="No peer is linked, and the network has other members.",
    ),
    Rule(
        *("HeightStuck", "critical", 2 * _MINUTE),
        expr="delta(prsm_consensus_height[5m]) == 0 and prsm_mempool_size > 0",
        holds=lambda see: (
            see.grown("prsm_consensus_height", 2 * _MINUTE) == 0
            and see.now("prsm_mempool_size") > 0
        ),
        text="Transactions wait and no block comes.",
    ),
    Rule(
        *("ViewChanges", "warning", 5 * _MINUTE),
        expr="sum by (instance) (rate(prsm_consensus_view_changes_total[5m])) * 60 > 6",
        holds=lambda see: see.grown("prsm_consensus_view_changes_total", 5 * _MINUTE) > 30,
        text="More than six views a minute end without a block.",
    ),
    Rule(
        *("SyncingLong", "warning", 10 * _MINUTE, "prsm_node_syncing == 1"),
        holds=lambda see: see.now("prsm_node_syncing") == 1,
        text="The node has been fetching blocks for ten minutes.",
    ),
    Rule(
        *("Equivocation", "critical", 0, "increase(prsm_consensus_equivocations_total[1h]) > 0"),
        holds=lambda see: see.grown("prsm_consensus_equivocations_total", _HOUR) > 0,
        text="A validator signed two different votes of one kind.",
    ),
    Rule(
        *("Slashed", "warning", 0, "increase(prsm_slashed_base_units_total[1h]) > 0"),
        holds=lambda see: see.grown("prsm_slashed_base_units_total", _HOUR) > 0,
        text="Somebody's bond, pledge or collateral was cut.",
    ),
    Rule(
        *("BucketCrowded", "warning", 0),
        expr=f"prsm_state_bucket_entries >= {BUCKET_ENTRIES_MAX}",
        holds=lambda see: see.now("prsm_state_bucket_entries") >= BUCKET_ENTRIES_MAX,
        text="Somebody grinds keys into one bucket of the state.",
    ),
    Rule(
        *("LoopLag", "warning", 5 * _MINUTE),
        expr=(
            "histogram_quantile(0.99, sum by (instance, le) "
            f"(rate(prsm_loop_lag_seconds_bucket[5m]))) > {LAG_S_MAX}"
        ),
        holds=lambda see: see.worst_lag_s > LAG_S_MAX,
        text="The node's loop is held for more than half a second at a time.",
    ),
    Rule(
        *("DiskLow", "critical", _MINUTE, f"prsm_disk_free_bytes < {DISK_FREE_BYTES_MIN}"),
        holds=lambda see: see.now("prsm_disk_free_bytes") < DISK_FREE_BYTES_MIN,
        text="Less than 2 GiB are free where the ledger is.",
    ),
    Rule(
        *("StorageFull", "warning", 10 * _MINUTE),
        expr=(
            'sum by (instance) (prsm_storage_bytes{kind=~"files|partial|blocks"}) > '
            "0.9 * sum by (instance) (prsm_storage_quota_bytes)"
        ),
        holds=lambda see: (
            sum(see.now("prsm_storage_bytes", kind=kind) for kind in ("files", "partial", "blocks"))
            > 0.9 * see.now("prsm_storage_quota_bytes")
            > 0
        ),
        text="Nine tenths of the storage quota are used.",
    ),
    Rule(
        *("IntegrityFailures", "warning", 0),
        expr="increase(prsm_storage_integrity_failures_total[15m]) > 0",
        holds=lambda see: see.grown("prsm_storage_integrity_failures_total", 15 * _MINUTE) > 0,
        text="A source sent blocks whose hash is another.",
    ),
    Rule(
        *("JobsFail", "warning", _MINUTE),
        expr=(
            'sum by (instance) (increase(prsm_jobs_total{state="failed"}[15m])) > 3 and '
            'sum by (instance) (increase(prsm_jobs_total{state="failed"}[15m])) > '
            'sum by (instance) (increase(prsm_jobs_total{state="done"}[15m]))'
        ),
        holds=lambda see: (
            see.grown("prsm_jobs_total", 15 * _MINUTE, state="failed")
            > max(3, see.grown("prsm_jobs_total", 15 * _MINUTE, state="done"))
        ),
        text="More jobs of this node fail than end well.",
    ),
    Rule(
        *("WrongAnswers", "warning", 0),
        expr='increase(prsm_verification_total{result=~"wrong|outvoted"}[15m]) > 0',
        holds=lambda see: (
            see.grown("prsm_verification_total", 15 * _MINUTE, result="wrong")
            + see.grown("prsm_verification_total", 15 * _MINUTE, result="outvoted")
            > 0
        ),
        text="A worker answered a job of this node wrongly.",
    ),
    Rule(
        *("InternalErrors", "warning", 0),
        expr='sum by (instance) (increase(prsm_rpc_requests_total{code="-32603"}[15m])) > 0',
        holds=lambda see: see.grown("prsm_rpc_requests_total", 15 * _MINUTE, code="-32603") > 0,
        text="A call ended in a fault of the node.",
    ),
    Rule(
        *("RpcSlow", "warning", 5 * _MINUTE),
        expr=(
            "histogram_quantile(0.99, sum by (instance, le) "
            '(rate(prsm_rpc_duration_seconds_bucket{method=~"node_getStatus|rpc_ping"}[5m])))'
            " > 0.05"
        ),
        holds=None,
        text="Answers from memory take longer than 50 ms.",
    ),
    Rule(
        *("SubscribersDropped", "info", 0, "increase(prsm_ws_dropped_total[15m]) > 0"),
        holds=lambda see: see.grown("prsm_ws_dropped_total", 15 * _MINUTE) > 0,
        text="A subscriber did not read what it had asked for and was closed.",
    ),
    Rule(
        *("BadTokens", "warning", 0, "increase(prsm_rpc_bad_tokens_total[5m]) > 10"),
        holds=lambda see: see.grown("prsm_rpc_bad_tokens_total", 5 * _MINUTE) > 10,
        text="Somebody tries tokens that are not ours.",
    ),
    Rule(
        *("CertificateEnds", "warning", _MINUTE),
        expr=f"prsm_rpc_certificate_left_seconds < {CERTIFICATE_S_MIN}",
        # A number that was never told reads 0: a door without TLS.
        holds=lambda see: 0 != see.now("prsm_rpc_certificate_left_seconds") < CERTIFICATE_S_MIN,
        text="The certificate of the door ends within three days, or has ended.",
    ),
    Rule(
        *("PartRestarts", "warning", 0),
        expr="sum by (instance, part) (increase(prsm_part_restarts_total[10m])) > 3",
        holds=lambda see: see.grown("prsm_part_restarts_total", 10 * _MINUTE) > 3,
        text="A part of the node crashes again and again.",
    ),
    Rule(
        *("ThreadsExhausted", "warning", _MINUTE, f"prsm_thread_pool_busy >= {THREADS_MAX}"),
        holds=lambda see: see.now("prsm_thread_pool_busy") >= THREADS_MAX,
        text="Every thread of the pool works: disks and checks wait.",
    ),
    Rule(
        *("DescriptorsShort", "warning", 5 * _MINUTE, "process_open_fds > 0.8 * process_max_fds"),
        holds=None,
        text="Four fifths of the allowed file descriptors are open.",
    ),
)
