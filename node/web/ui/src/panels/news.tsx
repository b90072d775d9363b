// What happened last, in sentences, from the tape and from the blocks.
import { Panel } from "../parts/bits";
import { clock, short } from "../parts/format";
import { jobs, peerEvents, rounds, transfers } from "../state/live";
import { known } from "../state/blocks";
import { moment } from "../state/tape";

interface Item {
  t: number;
  text: string;
  href: string;
}

function items(to: number): Item[] {
  const found: Item[] = [];
  for (const one of known(Number.MAX_SAFE_INTEGER).slice(0, 60)) {
    const t = Date.parse(one.time);
    if (t > to || one.transactions.length === 0) continue;
    const kinds = new Map<string, number>();
    for (const tx of one.transactions) kinds.set(tx.kind, (kinds.get(tx.kind) ?? 0) + 1);
    const list = [...kinds].map(([kind, times]) => (times > 1 ? `${times} × ${kind}` : kind)).join(", ");
    found.push({ t, text: `Block ${one.height}: ${list}`, href: `#/ledger/${one.height}` });
  }
  for (const { t, value } of peerEvents.between(0, to)) {
    found.push({ t, text: `Peer ${short(value.peer)} ${value.event}`, href: "#/network" });
  }
  for (const { t, value } of rounds.between(0, to)) {
    if (value.phase === "view_change") found.push({ t, text: `View ${value.view} at height ${value.height}`, href: `#/consensus/${value.height}` });
  }
  const states = new Map<string, string>();
  for (const { t, value } of jobs.between(0, to)) {
    if (states.get(value.job_id) === value.state) continue;
    states.set(value.job_id, value.state);
    found.push({ t, text: `Job ${short(value.job_id)} ${value.state}`, href: `#/jobs/${value.job_id}` });
  }
  for (const { t, value } of transfers.between(0, to)) {
    if (value.state === "running") continue;
    found.push({ t, text: `${value.kind} of ${value.subject}: ${value.state}`, href: "#/models" });
  }
  return found.sort((a, b) => b.t - a.t).slice(0, 9);
}

export function News({ width }: { width: string }) {
  const rows = items(moment.value);
  return (
    <Panel title="What happened" width={width}>
      {rows.length === 0 ? (
        <p class="empty">
          Nothing yet. Add a model with <code>prsm model add FILE</code>, then <code>prsm run MODEL "a text"</code>.
        </p>
      ) : (
        <table>
          <tbody>
            {rows.map((row) => (
              <tr>
                <td class="quiet mono">{clock(row.t)}</td>
                <td class="wrap"><a href={row.href}>{row.text}</a></td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </Panel>
  );
}
