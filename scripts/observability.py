"""Alert rules and the Grafana board of `scripts/deploy`, written from the tables of the node.

Knows: `metrictable` and `alertrules` of the node. Must not know: where numbers are made.
Queries are checked by a parser in `tests/unit/scripts/test_observability.py`.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from prsm.node.telemetry.alertrules import RULES

_HEAD: Final = (
    "# Alert rules of PRSM for Prometheus; written by scripts/reference.py from\n"
    "# node/telemetry/alertrules.py. Each has a page in docs/runbooks.\n"
)
_WIDTH: Final = 24  # of Grafana's grid


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture of the board.

    Attributes:
        title: for people.
        queries: (PromQL, legend) pairs.
        unit: as Grafana names units.
        width: of 24.
        is_number: one figure instead of lines.
    """

    title: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"
    width: int = 8
    is_number: bool = False


def _rate(name: str, by: str) -> str:
    return f'sum by ({by}) (rate({name}{{instance=~"$node"}}[$__rate_interval]))'


def _gauge(name: str, *by: str) -> str:
    return f'sum by ({", ".join(by) or "instance"}) ({name}{{instance=~"$node"}})'


def _quantile(share: float, name: str, by: str = "instance") -> str:
    return (
        f"histogram_quantile({share}, sum by (le, {by}) "
        f'(rate({name}_bucket{{instance=~"$node"}}[$__rate_interval])))'
    )


_NODE: Final = "{{instance}}"
_REFUSED: Final = (
    'sum by (code) (rate(prsm_rpc_requests_total{instance=~"$node",code!="0"}[$__rate_interval]))'
)
_BLOCKS: Final = 'deriv(prsm_consensus_height{instance=~"$node"}[$__rate_interval])'
ROWS: Final[tuple[tuple[str, tuple[Panel, ...]], ...]] = (
    (
        "Node",
        (
            Panel("Up", ((_gauge("prsm_node_up"), _NODE),), width=4, is_number=True),
            Panel("Height", ((_gauge("prsm_consensus_height"), _NODE),), width=4, is_number=True),
            Panel("Peers", ((_gauge("prsm_peers"), _NODE),), width=4, is_number=True),
            Panel("Jobs running", ((_gauge("prsm_jobs_running"), _NODE),), width=4, is_number=True),
            Panel(
                *(
                    "Alerts of the node",
                    ((_gauge("prsm_alerts_firing", "severity"), "{{severity}}"),),
                ),
                width=4,
                is_number=True,
            ),
            Panel(
                *("Version", (('prsm_build_info{instance=~"$node"}', "{{version}} {{commit}}"),)),
                width=4,
                is_number=True,
            ),
            Panel(
                "Loop lag",
                (
                    (_quantile(0.5, "prsm_loop_lag_seconds"), "p50 " + _NODE),
                    (_quantile(0.99, "prsm_loop_lag_seconds"), "p99 " + _NODE),
                ),
                unit="s",
            ),
            Panel("Memory", ((_gauge("process_resident_memory_bytes"), _NODE),), unit="bytes"),
            Panel("Processor", ((_rate("process_cpu_seconds_total", "instance"), _NODE),)),
            Panel(
                "Threads at work, tasks",
                (
                    (_gauge("prsm_thread_pool_busy"), "threads " + _NODE),
                    (_gauge("prsm_loop_tasks"), "tasks " + _NODE),
                ),
            ),
            Panel(
                "Log lines", ((_rate("prsm_log_lines_total", "level"), "{{level}}"),), unit="cps"
            ),
            Panel("Crashed parts", ((_rate("prsm_part_restarts_total", "part"), "{{part}}"),)),
        ),
    ),
    (
        "Agreement",
        (
            Panel("Blocks", ((_BLOCKS, _NODE),), unit="cps"),
            Panel(
                "Time of a phase, p99",
                ((_quantile(0.99, "prsm_consensus_round_duration_seconds", "phase"), "{{phase}}"),),
                unit="s",
            ),
            Panel(
                "Views without a block",
                ((_rate("prsm_consensus_view_changes_total", "reason"), "{{reason}}"),),
                unit="cps",
            ),
            Panel(
                "Votes", ((_rate("prsm_consensus_votes_total", "type"), "{{type}}"),), unit="cps"
            ),
            Panel(
                "Turns passed over, double signing",
                (
                    (_rate("prsm_consensus_missed_proposals_total", "instance"), "passed " + _NODE),
                    (_rate("prsm_consensus_equivocations_total", "instance"), "double " + _NODE),
                ),
            ),
            Panel("Slashed", ((_rate("prsm_slashed_base_units_total", "instance"), _NODE),)),
        ),
    ),
    (
        "Transactions",
        (
            Panel("Into blocks", ((_rate("prsm_tx_total", "type"), "{{type}}"),), unit="cps"),
            Panel("By result", ((_rate("prsm_tx_total", "result"), "{{result}}"),), unit="cps"),
            Panel("Waiting", ((_gauge("prsm_mempool_size"), _NODE),)),
            Panel(
                "From the mempool into a block",
                (
                    (_quantile(0.5, "prsm_tx_commit_duration_seconds"), "p50 " + _NODE),
                    (_quantile(0.99, "prsm_tx_commit_duration_seconds"), "p99 " + _NODE),
                ),
                unit="s",
            ),
            Panel(
                *("Transactions of a block", ((_quantile(0.5, "prsm_block_transactions"), _NODE),)),
            ),
            Panel("Supply", ((_gauge("prsm_ledger_supply_base_units"), _NODE),)),
            Panel("Largest bucket of the state", ((_gauge("prsm_state_bucket_entries"), _NODE),)),
        ),
    ),
    (
        "Work",
        (
            Panel("Jobs ended", ((_rate("prsm_jobs_total", "state"), "{{state}}"),), unit="cps"),
            Panel(
                "Time of a job's stage, p99",
                ((_quantile(0.99, "prsm_job_duration_seconds", "stage"), "{{stage}}"),),
                unit="s",
            ),
            Panel("Answers", ((_rate("prsm_verification_total", "result"), "{{result}}"),)),
            Panel(
                "Computed for others, p99",
                ((_quantile(0.99, "prsm_shard_compute_seconds", "provider"), "{{provider}}"),),
                unit="s",
            ),
            Panel(
                "Tokens", ((_rate("prsm_inference_tokens_total", "instance"), _NODE),), unit="cps"
            ),
            Panel(
                "First token, p99",
                ((_quantile(0.99, "prsm_time_to_first_token_seconds"), _NODE),),
                unit="s",
            ),
        ),
    ),
    (
        "Storage and peers",
        (
            Panel("Store", ((_gauge("prsm_storage_bytes", "kind"), "{{kind}}"),), unit="bytes"),
            Panel(
                "Room",
                (
                    (_gauge("prsm_storage_quota_bytes"), "quota " + _NODE),
                    (_gauge("prsm_disk_free_bytes"), "disk free " + _NODE),
                ),
                unit="bytes",
            ),
            Panel(
                "Fetches, p99",
                ((_quantile(0.99, "prsm_storage_fetch_duration_seconds", "source"), "{{source}}"),),
                unit="s",
            ),
            Panel(
                "Bytes of peers",
                (
                    (
                        _rate("prsm_peer_bytes_total", "protocol, direction"),
                        "{{protocol}} {{direction}}",
                    ),
                ),
                unit="Bps",
            ),
            Panel(
                "Messages of peers",
                (
                    (
                        _rate("prsm_peer_messages_total", "topic, direction"),
                        "{{topic}} {{direction}}",
                    ),
                ),
                unit="cps",
            ),
            Panel(
                "Announcements known already",
                ((_rate("prsm_gossip_duplicates_total", "topic"), "{{topic}}"),),
                unit="cps",
            ),
            Panel(
                "Wrong hashes",
                ((_rate("prsm_storage_integrity_failures_total", "instance"), _NODE),),
            ),
        ),
    ),
    (
        "Clients",
        (
            Panel(
                "Calls", ((_rate("prsm_rpc_requests_total", "method"), "{{method}}"),), unit="cps"
            ),
            Panel(
                "Refused, by code",
                (
                    (
                        _REFUSED,
                        "{{code}}",
                    ),
                ),
                unit="cps",
            ),
            Panel(
                "Time of a call, p99",
                ((_quantile(0.99, "prsm_rpc_duration_seconds", "method"), "{{method}}"),),
                unit="s",
            ),
            Panel("At work", ((_gauge("prsm_rpc_in_flight"), _NODE),)),
            Panel("Subscriptions", ((_gauge("prsm_ws_subscriptions", "topic"), "{{topic}}"),)),
            Panel(
                "Until the certificate ends",
                ((_gauge("prsm_rpc_certificate_left_seconds"), _NODE),),
                unit="s",
            ),
            Panel(
                "Dropped subscribers, bad tokens",
                (
                    (_rate("prsm_ws_dropped_total", "instance"), "dropped " + _NODE),
                    (_rate("prsm_rpc_bad_tokens_total", "instance"), "bad tokens " + _NODE),
                ),
            ),
        ),
    ),
)


def alerts_yaml() -> str:
    """The rules as a file of Prometheus."""
    lines = [_HEAD + "groups:", "  - name: prsm", "    rules:"]
    for rule in RULES:
        lines += [
            f"      - alert: {rule.name}",
            f"        expr: {json.dumps(rule.expr)}",
            f"        for: {rule.for_s}s",
            f"        labels: {{severity: {rule.severity}}}",
            "        annotations:",
            f"          summary: {json.dumps(rule.text)}",
            f"          runbook_url: {rule.runbook}",
        ]
    return "\n".join(lines) + "\n"


def grafana_json() -> str:
    """The board, to be imported into Grafana."""
    board = {
        "title": "PRSM",
        "uid": "prsm",
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "tags": ["prsm"],
        "templating": {"list": list(_variables())},
        "panels": list(_panels()),
    }
    return json.dumps(board, indent=1) + "\n"


def _variables() -> Iterator[dict[str, object]]:
    yield {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}
    yield {
        "name": "node",
        "label": "Node",
        "type": "query",
        "datasource": {"type": "prometheus", "uid": "${source}"},
        "query": "label_values(prsm_build_info, instance)",
        "includeAll": True,
        "multi": True,
        "refresh": 2,
    }


def _panels() -> Iterator[dict[str, object]]:
    number, y = 0, 0
    for title, panels in ROWS:
        number += 1
        yield {
            "id": number,
            "type": "row",
            "title": title,
            "collapsed": False,
            "panels": [],
            "gridPos": {"x": 0, "y": y, "w": _WIDTH, "h": 1},
        }
        x, y, height = 0, y + 1, 0
        for panel in panels:
            if x + panel.width > _WIDTH:
                x, y = 0, y + height
            number += 1
            height = 4 if panel.is_number else 8
            yield _panel(number, panel, {"x": x, "y": y, "w": panel.width, "h": height})
            x += panel.width
        y += height


def _panel(number: int, panel: Panel, place: dict[str, int]) -> dict[str, object]:
    return {
        "id": number,
        "type": "stat" if panel.is_number else "timeseries",
        "title": panel.title,
        "datasource": {"type": "prometheus", "uid": "${source}"},
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + at), "expr": query, "legendFormat": legend}
            for at, (query, legend) in enumerate(panel.queries)
        ],
    }
