// What each part of a job took: phases of the whole, then unit by unit, stage by stage, peer by peer.
import { Sign, useWidth, reachable, type Tone } from "../parts/bits";
import { count, ftns, span } from "../parts/format";
import { block, useBlocks } from "../state/blocks";
import { useNames, type Names } from "../state/names";
import type { Job, JobWorker } from "../rpc/types";

const ROW = 21;
const VERDICTS: Record<JobWorker["verdict"], [Tone, string, string]> = {
  agreed: ["well", "agreed", "green"],
  outvoted: ["bad", "outvoted", "red"],
  lost: ["warn", "lost", "gold"],
  pending: ["busy", "under way", "blue"],
  unused: ["idle", "not needed", "grey"],
};

interface Lane {
  worker: JobWorker;
  from: number;
  to: number;
}

export function Waterfall({ job }: { job: Job }) {
  const [measure, width] = useWidth();
  const names = useNames();
  const heights = [job.lock_height, ...job.settled_heights].filter((height) => height > 0);
  useBlocks(Math.min(...heights, Infinity) === Infinity ? 0 : Math.min(...heights), Math.max(0, ...heights));
  const isTimed = job.workers.some((worker) => typeof worker.began_ms === "number");
  const last = Math.max(0, ...job.workers.map((worker) => worker.ended_ms ?? worker.began_ms ?? 0));
  const lanes: Lane[] = job.workers.map((worker) => {
    if (!isTimed) return { worker, from: 0, to: worker.compute_ms };
    return { worker, from: worker.began_ms ?? 0, to: typeof worker.began_ms === "number" ? (worker.ended_ms ?? last) : 0 };
  });
  const drawn = lanes.filter((lane) => lane.to > lane.from);
  const start = drawn.length > 0 ? Math.min(...drawn.map((lane) => lane.from)) : 0;
  const end = Math.max(start + 1, ...drawn.map((lane) => lane.to));
  return (
    <>
      <Phases job={job} />
      <p class="quiet small">{isTimed ? "Pale: from the first batch each peer was asked for to the last it answered; solid: its compute time." : "Compute time of each peer, side by side; an earlier version kept no times of this job."}</p>
      <div ref={reachable} class="scroll"><div ref={measure}>
        {width > 0 && <Lanes lanes={lanes} start={start} end={end} width={Math.max(width, 620)} names={names} isTimed={isTimed} />}
      </div></div>
      <ul class="legend">
        {Object.values(VERDICTS).map(([tone, word, colour]) => <li><i class={colour} /><Sign tone={tone}>{word}</Sign></li>)}
      </ul>
    </>
  );
}

function Phases({ job }: { job: Job }) {
  const created = Date.parse(job.created);
  const locked = block(job.lock_height) ? Math.max(created, Date.parse(block(job.lock_height)?.time ?? "")) : null;
  const ran = locked !== null && job.run_ms > 0 ? locked + job.run_ms : null;
  const last = job.settled_heights.at(-1);
  const settledAt = last ? block(last)?.time : undefined;
  const settled = settledAt && ran !== null ? Math.max(ran, Date.parse(settledAt)) : null;
  const steps = [
    { name: "plan and lock", tone: "purple", ms: locked === null ? null : locked - created },
    { name: "run", tone: "blue", ms: locked === null || ran === null ? null : ran - locked },
    { name: "settle", tone: "green", ms: ran === null || settled === null ? null : settled - ran },
  ];
  const sum = steps.reduce((all, step) => all + (step.ms ?? 0), 0);
  if (sum <= 0) return null;
  return (
    <>
      <div class="bar tall" role="img" aria-label={steps.map((step) => `${step.name} ${step.ms === null ? "not yet" : span(step.ms)}`).join(", ")}>
        {steps.map((step) => step.ms !== null && <i class={step.tone} style={{ width: `${Math.max(0.4, (100 * step.ms) / sum)}%` }} />)}
      </div>
      <ul class="legend">
        {steps.map((step) => <li><i class={step.tone} />{step.name} {step.ms === null ? "not yet" : span(step.ms)}</li>)}
      </ul>
    </>
  );
}

interface LanesProps {
  lanes: Lane[];
  start: number;
  end: number;
  width: number;
  names: Names;
  isTimed: boolean;
}
function Lanes({ lanes, start, end, width, names, isTimed }: LanesProps) {
  const left = 168;
  const right = 200;
  const scale = (width - left - right) / (end - start);
  const rows: preact.JSX.Element[] = [];
  let y = 4;
  let unit = -1;
  for (const { worker, from, to } of lanes) {
    if (worker.unit !== unit) {
      if (unit >= 0) y += 5;
      unit = worker.unit;
      rows.push(<text x="0" y={y + 14} class="unit">stage {worker.stage + 1}</text>, <text x="56" y={y + 14} class="quiet-text">part {worker.unit + 1}</text>);
    }
    const [tone, word, colour] = VERDICTS[worker.verdict];
    const x = left + (from - start) * scale;
    const long = Math.max(to > from ? 2 : 0, (to - from) * scale);
    const solid = isTimed ? Math.min(long, Math.max(long > 0 ? 2 : 0, worker.compute_ms * scale)) : long;
    rows.push(
      <g class={worker.verdict === "unused" ? "faint" : ""}>
        <text x={left - 10} y={y + 14} class="end">{names.peer(worker.peer_id)}</text>
        {isTimed && <rect x={x} y={y + 4} width={long} height={ROW - 9} class={`${colour}-fill seen`} rx="1" />}
        <rect x={isTimed ? x + long - solid : x} y={y + 4} width={solid} height={ROW - 9} class={`${colour}-fill`} rx="1" />
        {worker.verdict === "outvoted" && <path d={`M${x + 4} ${y + 7}l7 7M${x + 11} ${y + 7}l-7 7`} class="strike" />}
        <text x={x + long + 6} y={y + 14} class="quiet-text">{worker.compute_ms > 0 ? span(worker.compute_ms) : ""}</text>
        <text x={width - right + 68} y={y + 14} class={`is-${tone}-text`}>{word}</text>
        <text x={width} y={y + 14} class="end">{worker.paid === "0" ? "" : ftns(worker.paid, 4)}</text>
        <title>{`stage ${worker.stage + 1}, part ${worker.unit + 1}, ${worker.role}: ${count(worker.rows)} rows in ${worker.batches} batches, ${span(worker.compute_ms)} of compute, ${word}${worker.why ? `, ${worker.why}` : ""}, paid ${ftns(worker.paid)} FTNS`}</title>
      </g>,
    );
    y += ROW;
  }
  return (
    <svg class="waterfall" width={width} height={y + 20} role="img" aria-label={`${lanes.length} parts of work; ${isTimed ? "by time" : "compute times"}; the longest ${span(end - start)}`}>
      <line x1={left} x2={left} y1="0" y2={y} class="lane" />
      <line x1={left + (end - start) * scale} x2={left + (end - start) * scale} y1="0" y2={y} class="lane" />
      {rows}
      <text x={left} y={y + 15} class="quiet-text">0</text>
      <text x={left + (end - start) * scale} y={y + 15} class="quiet-text end">{span(end - start)}</text>
      <text x={width} y={y + 15} class="quiet-text end">paid, FTNS</text>
    </svg>
  );
}
