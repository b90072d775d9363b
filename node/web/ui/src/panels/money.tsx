// Who paid whom, as ribbons between accounts: transfers, our jobs' pay, fees.
import { Panel, useWidth } from "../parts/bits";
import { ftns } from "../parts/format";
import { known } from "../state/blocks";
import { useNames, type Names } from "../state/names";
import { use } from "../state/poll";
import type { BlockInfo, Job } from "../rpc/types";

interface Flow {
  from: string;
  to: string;
  amount: bigint;
  kind: "pay" | "transfer" | "fee";
}
interface Band {
  name: string;
  size: bigint;
  y: number;
  used: number;
}

const TONES: Record<Flow["kind"], string> = { pay: "green", transfer: "blue", fee: "orange" };
const ROWS_MAX = 9;
const LABEL = 26; // two lines of text

function gather(blocks: BlockInfo[], jobs: Job[], names: Names): Flow[] {
  const sums = new Map<string, Flow>();
  const add = (from: string, to: string, amount: bigint, kind: Flow["kind"]) => {
    if (amount <= 0n) return;
    const key = `${from}>${to}>${kind}`;
    const flow = sums.get(key);
    if (flow) flow.amount += amount;
    else sums.set(key, { from, to, amount, kind });
  };
  for (const one of blocks) {
    for (const tx of one.transactions) {
      const from = names.account(tx.sender);
      add(from, "fees", BigInt(tx.fee), "fee");
      const body = tx.body as { to?: unknown; amount?: unknown };
      if (tx.kind === "Transfer" && tx.ok !== false && typeof body.to === "string") add(from, names.account(body.to), BigInt(String(body.amount ?? 0)), "transfer");
    }
  }
  const shown = new Set(blocks.map((one) => one.height));
  for (const job of jobs) {
    if (!job.settled_heights.some((height) => shown.has(height))) continue;
    for (const worker of job.workers) add("this node", names.account(worker.account), BigInt(worker.paid), "pay");
  }
  return [...sums.values()].sort((a, b) => (a.amount < b.amount ? 1 : -1)).slice(0, 24);
}

function bands(flows: Flow[], side: "from" | "to", height: number, gap: number): Map<string, Band> {
  const sizes = new Map<string, bigint>();
  for (const flow of flows) sizes.set(flow[side], (sizes.get(flow[side]) ?? 0n) + flow.amount);
  const rows = [...sizes].sort((a, b) => (a[1] < b[1] ? 1 : -1)).slice(0, ROWS_MAX);
  const scale = scaleOf(flows, height, gap);
  let y = 0;
  const found = new Map<string, Band>();
  for (const [name, size] of rows) {
    found.set(name, { name, size, y, used: 0 });
    y += Math.max(LABEL, Number(size) * scale) + gap;
  }
  return found;
}

function scaleOf(flows: Flow[], height: number, gap: number): number {
  const sum = flows.reduce((all, flow) => all + flow.amount, 0n);
  return sum === 0n ? 0 : (height - gap) / Number(sum);
}

export function Money({ top }: { top: number }) {
  const [measure, width] = useWidth();
  const names = useNames();
  const jobs = use("job_list", { limit: 40 }, { every: 8000, isKept: true });
  const blocks = known(top).slice(0, 200);
  const flows = gather(blocks, jobs.data?.items ?? [], names);
  const heights = blocks.map((one) => one.height);
  return (
    <Panel title="Who paid whom" meta={blocks.length > 0 && `heights ${Math.min(...heights)} to ${Math.max(...heights)}`}>
      {flows.length === 0 ? (
        <p class="empty">No money moved in the blocks on this page.</p>
      ) : (
        <>
          <div ref={measure}>{width > 0 && <Ribbons flows={flows} width={width} />}</div>
          <ul class="legend">
            <li><i class="green" />pay for the work of this node's jobs</li>
            <li><i class="blue" />transfers</li>
            <li><i class="orange" />fees</li>
          </ul>
        </>
      )}
    </Panel>
  );
}

function Ribbons({ flows, width }: { flows: Flow[]; width: number }) {
  const height = 110;
  const gap = 8;
  const label = Math.min(150, width * 0.3);
  const left = bands(flows, "from", height, gap);
  const right = bands(flows, "to", height, gap);
  const scale = scaleOf(flows, height, gap);
  const bottom = Math.max(...[...left.values(), ...right.values()].map((band) => band.y + Math.max(LABEL, Number(band.size) * scale))) + gap;
  const bend = width / 2;
  return (
    <svg class="ribbons" width={width} height={bottom} role="img" aria-label={flows.map((flow) => `${flow.from} to ${flow.to} ${ftns(flow.amount)} FTNS`).join("; ")}>
      {flows.map((flow) => {
        const a = left.get(flow.from);
        const b = right.get(flow.to);
        if (!a || !b) return null;
        const thick = Math.max(1, Number(flow.amount) * scale);
        const y1 = a.y + a.used + thick / 2;
        const y2 = b.y + b.used + thick / 2;
        a.used += thick;
        b.used += thick;
        return (
          <path class={`ribbon ${TONES[flow.kind]}-line`} d={`M${label + 8} ${y1}C${bend} ${y1} ${bend} ${y2} ${width - label - 8} ${y2}`} stroke-width={thick}>
            <title>{`${flow.from} → ${flow.to}: ${ftns(flow.amount)} FTNS (${flow.kind})`}</title>
          </path>
        );
      })}
      {[...left.values()].map((band) => <Side band={band} x={label} scale={scale} isLeft />)}
      {[...right.values()].map((band) => <Side band={band} x={width - label - 4} scale={scale} />)}
    </svg>
  );
}

function Side({ band, x, scale, isLeft }: { band: Band; x: number; scale: number; isLeft?: boolean }) {
  const thick = Math.max(2, Number(band.size) * scale);
  return (
    <g>
      <rect x={x} y={band.y} width="4" height={thick} class="side" />
      <text x={isLeft ? x - 8 : x + 12} y={band.y + 4} class={isLeft ? "end" : ""} dy="0.5em">{band.name}</text>
      <text x={isLeft ? x - 8 : x + 12} y={band.y + 17} class={`quiet-text ${isLeft ? "end" : ""}`} dy="0.5em">{ftns(band.size, 3)}</text>
    </g>
  );
}
