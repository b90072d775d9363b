// The strip at the foot: what happened on four lanes of time, and the cursor to look back with.
import { useRef } from "preact/hooks";
import { heads, jobs, peerEvents, rounds } from "../state/live";
import { known } from "../state/blocks";
import { cursor, nodeNow } from "../state/tape";
import { useWidth } from "./bits";
import { ago, clock, span } from "./format";
import { signal } from "@preact/signals";

const RANGES = [
  ["2 min", 120_000],
  ["15 min", 900_000],
  ["2 h", 7_200_000],
] as const;
const range = signal<number>(900_000);

interface Tick {
  t: number;
  size: number;
}

function blockTicks(from: number, to: number): Tick[] {
  const found = new Map<number, Tick>();
  for (const one of known(Number.MAX_SAFE_INTEGER)) {
    const t = Date.parse(one.time);
    if (t >= from && t <= to) found.set(one.height, { t, size: one.transactions.length });
  }
  for (const { t, value } of heads.between(from, to)) found.set(value.height, { t, size: value.transactions });
  return [...found.values()];
}

export function step(direction: number): void {
  const now = cursor.value ?? nodeNow.value;
  const ticks = blockTicks(now - 7_200_000, now + 7_200_000).map((one) => one.t).sort((a, b) => a - b);
  const next = direction < 0 ? ticks.filter((t) => t < now - 1).at(-1) : ticks.find((t) => t > now + 1);
  if (next !== undefined) cursor.value = next;
  else if (direction > 0) cursor.value = null;
}

export function Tape() {
  const [measure, width] = useWidth();
  const strip = useRef<SVGSVGElement>(null);
  const to = nodeNow.value;
  const from = to - range.value;
  const x = (t: number) => ((t - from) / (to - from)) * width;
  const at = cursor.value;
  const pull = (event: PointerEvent) => {
    const box = strip.current?.getBoundingClientRect();
    if (!box) return;
    const part = Math.max(0, Math.min(1, (event.clientX - box.left) / box.width));
    cursor.value = part > 0.995 ? null : from + part * (to - from);
  };
  const down = (event: PointerEvent) => {
    strip.current?.setPointerCapture(event.pointerId);
    pull(event);
  };
  const key = (event: KeyboardEvent) => {
    if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
      event.preventDefault();
      step(event.key === "ArrowLeft" ? -1 : 1);
    } else if (event.key === "End" || event.key === "Escape") cursor.value = null;
    else if (event.key === "Home") cursor.value = from;
  };
  const ticks = blockTicks(from, to);
  const changes = rounds.between(from, to).filter((mark) => mark.value.phase === "view_change");
  const links = peerEvents.between(from, to);
  const work = jobs.between(from, to);
  return (
    <footer class={`tape ${at === null ? "" : "past"}`}>
      <div class="tape-side">
        <button type="button" aria-pressed={at === null} onClick={() => (cursor.value = at === null ? to : null)} title="space">
          {at === null ? "Live" : "Back to now"}
        </button>
        <span class="small quiet">{at === null ? clock(to) : `${clock(at)}, ${ago(to - at)}`}</span>
      </div>
      <div class="tape-strip" ref={measure}>
        {width > 0 && (
          <svg
            ref={strip} width={width} height="44" role="slider" tabIndex={0}
            aria-label="Time: arrow keys go from block to block, End back to now" aria-valuemin={Math.round(from / 1000)} aria-valuemax={Math.round(to / 1000)}
            aria-valuenow={Math.round((at ?? to) / 1000)} aria-valuetext={at === null ? "now" : `${clock(at)}, ${span(to - at)} ago`}
            onPointerDown={down} onPointerMove={(event) => event.buttons > 0 && pull(event)} onKeyDown={key}
          >
            <line x1="0" x2={width} y1="30.5" y2="30.5" class="lane" />
            {ticks.map((one) => <path d={`M${x(one.t)} 30V${30 - 5 - Math.min(20, 5 * one.size)}`} class={one.size > 0 ? "t-block full" : "t-block"} />)}
            {changes.map((mark) => <path d={`M${x(mark.t)} 2l4 7h-8z`} class="m-change" />)}
            {work.map((mark) => <rect x={x(mark.t) - 1} y="33" width="2" height="4" class={mark.value.state === "failed" ? "red-fill" : "green-fill"} />)}
            {links.map((mark) => <circle cx={x(mark.t)} cy="41" r="2" class={mark.value.event === "linked" ? "blue-fill" : "gold-fill"} />)}
            {at !== null && <line x1={x(at)} x2={x(at)} y1="0" y2="44" class="cursor" />}
          </svg>
        )}
      </div>
      <div class="tape-side right" role="group" aria-label="How far back">
        {RANGES.map(([word, ms]) => <button type="button" class="bare" aria-pressed={range.value === ms} onClick={() => (range.value = ms)}>{word}</button>)}
      </div>
    </footer>
  );
}
