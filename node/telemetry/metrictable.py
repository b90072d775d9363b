"""Every metric of a node: its name, kind, labels and meaning. Pure.

Names are for ever once released; labels come from closed sets, never from peers or jobs, so that
nobody outside can make a series. Reference, Grafana board and alert rules are checked against
this table. Knows: words. Must not know: who counts.
"""

from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Final


class Kind(Enum):
    """How a metric behaves; the word of the Prometheus text format."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of the table.

    Attributes:
        name: as scraped; counters end in `_total`.
        kind: of metric.
        help: one sentence.
        labels: their names, in the order in which values are given.
        buckets: upper bounds of a histogram, ascending, without infinity.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def series(self) -> tuple[str, ...]:
        """The names under which a query finds it."""
        if self.kind is Kind.HISTOGRAM:
            return tuple(self.name + tail for tail in ("_bucket", "_sum", "_count"))
        return (self.name,)


# A call answered from memory takes 0.4 ms; a view ends after 400 ms; a job may take an hour.
_CALL_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_LAG_S: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
_LONG_S: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
_SIZES: Final = (1, 10, 50, 100, 250, 500, 1000, 2500, 5000)

_COUNTER, _GAUGE, _HISTOGRAM = Kind.COUNTER, Kind.GAUGE, Kind.HISTOGRAM

METRICS: Final[tuple[Metric, ...]] = (
    # the node
    Metric("prsm_build_info", _GAUGE, "Always 1; its labels say what runs.", ("version", "commit")),
    Metric("prsm_node_up", _GAUGE, "1 while the node votes or follows, 0 once it was stopped."),
    Metric("prsm_node_syncing", _GAUGE, "1 while blocks of others are fetched."),
    Metric("prsm_alerts_firing", _GAUGE, "The node's own alerts that fire.", ("severity",)),
    Metric("prsm_loop_lag_seconds", _HISTOGRAM, "How late a timer of the loop fires.", (), _LAG_S),
    Metric("prsm_loop_tasks", _GAUGE, "Tasks of the loop that have not ended."),
    Metric("prsm_thread_pool_busy", _GAUGE, "Threads of the pool that work now."),
    Metric("prsm_part_restarts_total", _COUNTER, "Parts of the node that crashed.", ("part",)),
    Metric("prsm_log_lines_total", _COUNTER, "Log lines written.", ("level",)),
    # peers
    Metric("prsm_peers", _GAUGE, "Peers that are linked.", ("direction",)),
    Metric("prsm_peers_expected", _GAUGE, "1 where the network has other members."),
    Metric(
        "prsm_peer_messages_total",
        _COUNTER,
        "Messages to and from peers, by what they are about.",
        ("topic", "direction"),
    ),
    Metric(
        "prsm_peer_bytes_total",
        _COUNTER,
        "Bytes of messages to and from peers, before encryption.",
        ("protocol", "direction"),
    ),
    Metric(
        "prsm_gossip_duplicates_total",
        _COUNTER,
        "Announcements that were known already.",
        ("topic",),
    ),
    # agreement
    Metric("prsm_consensus_height", _GAUGE, "Height of the last durable block."),
    Metric("prsm_consensus_view", _GAUGE, "View of the height that is agreed on now."),
    Metric(
        "prsm_consensus_round_duration_seconds",
        _HISTOGRAM,
        "How long a phase of a height took here.",
        ("phase",),
        _CALL_S,
    ),
    Metric(
        "prsm_consensus_view_changes_total",
        _COUNTER,
        "Views that ended without a block, by what was missing.",
        ("reason",),
    ),
    Metric("prsm_consensus_votes_total", _COUNTER, "Votes taken from others.", ("type",)),
    Metric("prsm_consensus_equivocations_total", _COUNTER, "New evidence of double signing."),
    Metric(
        "prsm_consensus_missed_proposals_total",
        _COUNTER,
        "Turns to propose that were passed over before a block was found.",
    ),
    Metric("prsm_block_transactions", _HISTOGRAM, "Transactions of a block.", (), _SIZES),
    # transactions
    Metric("prsm_tx_total", _COUNTER, "Transactions in blocks.", ("type", "result")),
    Metric("prsm_mempool_size", _GAUGE, "Transactions that wait."),
    Metric("prsm_mempool_bytes", _GAUGE, "Bytes of the transactions that wait."),
    Metric(
        "prsm_tx_commit_duration_seconds",
        _HISTOGRAM,
        "From the mempool of this node into a durable block.",
        (),
        _CALL_S,
    ),
    Metric(
        "prsm_state_bucket_entries",
        _GAUGE,
        "Entries of the state's largest bucket, when a snapshot was last made; 0 before one.",
    ),
    Metric("prsm_ledger_supply_base_units", _GAUGE, "Micro-FTNS that exist: minted less burnt."),
    # work
    Metric("prsm_jobs_total", _COUNTER, "Jobs of this node that ended.", ("state",)),
    Metric("prsm_jobs_running", _GAUGE, "Jobs of this node at work."),
    Metric(
        "prsm_job_duration_seconds",
        _HISTOGRAM,
        "Time of a job of this node in each of its stages.",
        ("stage",),
        _LONG_S,
    ),
    Metric(
        "prsm_shard_compute_seconds",
        _HISTOGRAM,
        "Processor time of a micro-batch computed here for somebody.",
        ("provider",),
        _CALL_S,
    ),
    Metric("prsm_inference_tokens_total", _COUNTER, "Tokens of texts generated for this node."),
    Metric(
        "prsm_time_to_first_token_seconds",
        _HISTOGRAM,
        "From open sessions to the first token of a text.",
        (),
        _CALL_S,
    ),
    Metric(
        "prsm_verification_total",
        _COUNTER,
        "Units of jobs of this node by what comparing their answers showed.",
        ("result",),
    ),
    Metric(
        "prsm_slashed_base_units_total",
        _COUNTER,
        "Micro-FTNS taken from bonds, pledges and collaterals in blocks seen here.",
    ),
    # storage
    Metric("prsm_storage_bytes", _GAUGE, "Bytes of the block store.", ("kind",)),
    Metric("prsm_storage_quota_bytes", _GAUGE, "Bytes that the block store may take."),
    Metric("prsm_disk_free_bytes", _GAUGE, "Bytes free where the data folder is."),
    Metric(
        "prsm_storage_fetch_duration_seconds",
        _HISTOGRAM,
        "Time to bring a file or block here, by who sent most of it.",
        ("source",),
        _LONG_S,
    ),
    Metric(
        "prsm_storage_integrity_failures_total",
        _COUNTER,
        "Blocks that a source sent and whose hash was another.",
    ),
    # clients
    Metric(
        "prsm_rpc_requests_total",
        _COUNTER,
        "Calls that were let in, by method and error code; code 0: answered.",
        ("method", "code"),
    ),
    Metric("prsm_rpc_duration_seconds", _HISTOGRAM, "Time of a call.", ("method",), _CALL_S),
    Metric("prsm_rpc_in_flight", _GAUGE, "Calls at work now."),
    Metric(
        "prsm_rpc_certificate_left_seconds",
        _GAUGE,
        "Time until the certificate of the door, or one that vouches for it, ends; with TLS only.",
    ),
    Metric("prsm_rpc_bad_tokens_total", _COUNTER, "Tokens shown that are not ours."),
    Metric("prsm_ws_subscriptions", _GAUGE, "Open subscriptions.", ("topic",)),
    Metric("prsm_ws_dropped_total", _COUNTER, "Subscribers closed because they did not read."),
)

BY_NAME: Final = MappingProxyType({metric.name: metric for metric in METRICS})
assert len(BY_NAME) == len(METRICS), "a metric stands twice in the table"

# What prometheus-client counts of the process itself (Linux).
PROCESS: Final = (
    "process_cpu_seconds_total",
    "process_max_fds",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_virtual_memory_bytes",
)
