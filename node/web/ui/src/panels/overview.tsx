// How the node is, in one look: figures, blocks as they came, load, alarms, parts.
import { Age, Figure, Panel, Shown, Sign, type Tone } from "../parts/bits";
import { bytes, clock, count, ftns, span } from "../parts/format";
import { Plot } from "../parts/plot";
import { use } from "../state/poll";
import { alerts, metrics } from "../state/live";
import { block, useBlocks, useTop } from "../state/blocks";
import { moment } from "../state/tape";
import type { NodeStatus } from "../rpc/types";
import { News } from "./news";

const STATES: Record<NodeStatus["state"], Tone> = { ready: "well", syncing: "busy", starting: "busy", stopping: "warn" };
const SHOWN = 60;

export function Overview() {
  const status = use("node_getStatus", {}, { every: 3000, isKept: true });
  const chain = use("chain_getStatus", {}, { every: 3000, isKept: true });
  const balance = use("account_getBalance", {}, { every: 8000, isKept: true });
  const at = moment.value;
  const top = useTop();
  const load = metrics.at(at)?.value;
  return (
    <div class="sheet">
      <Panel title="This node" meta={status.data && <Sign tone={STATES[status.data.state]}>{status.data.state}</Sign>}>
        <Shown view={status}>
          {(now) => (
            <div class="figures">
              <Figure value={count(top || now.height)} of="height" />
              <Figure value={now.peers} of={now.peers === 1 ? "peer" : "peers"} />
              <Figure value={now.jobs_running} of="jobs running" />
              <Figure value={chain.data ? count(chain.data.mempool) : "–"} of="waiting transactions" />
              <Figure value={balance.data ? ftns(balance.data.balance, 2) : "–"} unit="FTNS" of="balance" />
              <Figure value={load ? span(load.loop_lag_ms) : bytes(now.rss_bytes)} of={load ? "loop lag" : "memory"} />
              <Figure value={span(now.uptime_ms)} of="since its start" />
            </div>
          )}
        </Shown>
      </Panel>
      <Pulse height={top} />
      <Load />
      <Alarms />
      <Panel title="Parts of the node" width="w4">
        <Shown view={status}>
          {(now) => (
            <ul>
              {now.parts.map((part) => (
                <li class="row">
                  <Sign tone={part.state === "running" ? "well" : part.state === "failed" ? "bad" : "warn"}>{part.name}</Sign>
                  {part.state !== "running" && <span>{part.state}</span>}
                  {part.restarts > 0 && <span class="is-warn small">{part.restarts} restarts</span>}
                  {part.why && <span class="quiet small wrap">{part.why}</span>}
                </li>
              ))}
            </ul>
          )}
        </Shown>
      </Panel>
      <News width="w4" />
    </div>
  );
}

/** The last blocks: how long each took, how full it was. */
function Pulse({ height }: { height: number }) {
  useBlocks(height - SHOWN, height);
  const rows = [];
  for (let at = Math.max(2, height - SHOWN + 1); at <= height; at++) {
    const one = block(at);
    const before = block(at - 1);
    if (one && before) rows.push({ height: at, ms: Date.parse(one.time) - Date.parse(before.time), tx: one.transactions.length });
  }
  const x = rows.map((row) => row.height);
  return (
    <Panel title="Blocks" width="w6" meta={height > 0 ? `heights ${Math.max(1, height - SHOWN + 1)} to ${height}` : undefined}>
      {rows.length < 2 ? (
        <p class="empty">Two blocks are needed to draw a line. On a quiet network one comes every ten seconds.</p>
      ) : (
        <>
          <p class="legend"><span><i class="blue" />time since the block before</span></p>
          <Plot label="Time between blocks" x={x} form={(ms) => span(ms)} isLog height={96}
            lines={[{ name: "block time", tone: "blue", values: rows.map((row) => Math.max(1, row.ms)), isStep: true, isFilled: true }]} />
          <p class="legend"><span><i class="orange" />transactions in it</span></p>
          <Plot label="Transactions in a block" x={x} height={84}
            lines={[{ name: "transactions", tone: "orange", values: rows.map((row) => row.tx), isStep: true, isFilled: true }]} />
        </>
      )}
    </Panel>
  );
}

function Load() {
  const to = moment.value;
  const marks = metrics.between(to - 600_000, to);
  const x = marks.map((mark) => mark.t / 1000);
  const time = (value: number) => clock(value * 1000);
  return (
    <Panel title="Load" width="w6" meta="last ten minutes">
      {marks.length < 2 ? (
        <p class="empty">Waiting for the node's figures of each second, which come over its WebSocket.</p>
      ) : (
        <>
          <p class="legend"><span><i class="purple" />loop lag: how late the node's own tasks run</span></p>
          <Plot label="Loop lag" x={x} xForm={time} form={(ms) => span(ms)} height={96}
            lines={[{ name: "lag", tone: "purple", values: marks.map((mark) => mark.value.loop_lag_ms), isFilled: true }]} />
          <p class="legend"><span><i class="green" />memory</span></p>
          <Plot label="Memory" x={x} xForm={time} form={(size) => bytes(size)} height={84}
            lines={[{ name: "memory", tone: "green", values: marks.map((mark) => mark.value.rss_bytes), isFilled: true }]} />
        </>
      )}
    </Panel>
  );
}

function Alarms() {
  const to = moment.value;
  const newest = new Map<string, { name: string; severity: string; state: string; since: string; text: string }>();
  for (const mark of alerts.between(0, to)) newest.set(mark.value.name, mark.value);
  const rows = [...newest.values()].sort((a, b) => (a.state === b.state ? 0 : a.state === "firing" ? -1 : 1)).slice(0, 8);
  return (
    <Panel title="Alarms" width="w4">
      {rows.length === 0 ? (
        <p class="empty">None. The node raises one when it falls behind, loses its peers, runs out of disk, or is slow.</p>
      ) : (
        <ul>
          {rows.map((row) => (
            <li>
              <Sign tone={row.state === "over" ? "idle" : row.severity === "critical" ? "bad" : "warn"}>{row.name}</Sign>{" "}
              <span class="quiet small">{row.state === "over" ? "over, began" : "since"} <Age at={row.since} /></span>
              <p class="quiet wrap">{row.text}</p>
            </li>
          ))}
        </ul>
      )}
    </Panel>
  );
}
