// What happened, by time: a bounded track a topic, and the cursor that looks back at it.
// Knows: time, order. Must not know: where events come from, how they are drawn.
import { computed, signal } from "@preact/signals";

export interface Mark<T> {
  t: number;
  value: T;
}

const KEPT = 4000;

/** Events of one kind in order of time; `version` changes with each new one. */
export class Track<T> {
  readonly version = signal(0);
  private marks: Mark<T>[] = [];

  push(t: number, value: T): void {
    const last = this.marks[this.marks.length - 1];
    if (!last || last.t <= t) this.marks.push({ t, value });
    else this.marks.splice(this.indexAfter(t), 0, { t, value });
    if (this.marks.length > KEPT * 1.25) this.marks.splice(0, this.marks.length - KEPT);
    this.version.value = this.version.peek() + 1;
  }

  /** Marks in (from, to]. */
  between(from: number, to: number): Mark<T>[] {
    this.version.value;
    return this.marks.slice(this.indexAfter(from), this.indexAfter(to));
  }

  /** The newest mark that is not after t. */
  at(t: number): Mark<T> | undefined {
    this.version.value;
    return this.marks[this.indexAfter(t) - 1];
  }

  get first(): number | undefined {
    this.version.value;
    return this.marks[0]?.t;
  }

  clear(): void {
    this.marks = [];
    this.version.value = this.version.peek() + 1;
  }

  private indexAfter(t: number): number {
    let low = 0;
    let high = this.marks.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.marks[middle] as Mark<T>).t <= t) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

export interface HeadRow {
  height: number;
  hash: string;
  time: string;
  proposer: number;
  view: number;
  transactions: number;
  state_root: string;
}
export interface RoundRow {
  height: number;
  view: number;
  proposer: number;
  phase: "proposal" | "prepared" | "committed" | "view_change";
  at_ms: number;
}
export interface VoteRow {
  height: number;
  view: number;
  kind: "proposal" | "prepare" | "commit" | "view_change";
  validator: number;
  at_ms: number;
}
export interface PeerRow {
  peer: string;
  event: "linked" | "lost" | "banned" | "discovered";
  address: string;
  direction: string;
}
export interface MetricRow {
  loop_lag_ms: number;
  rss_bytes: number;
  peers: number;
  height: number;
  view: number;
  mempool: number;
  jobs_running: number;
  rpc_in_flight: number;
}
export interface AlertRow {
  name: string;
  severity: string;
  state: "firing" | "over";
  since: string;
  text: string;
}
export interface LogRow {
  ts: string;
  level: string;
  room: string;
  event: string;
  fields: Record<string, unknown>;
}

/** The node's clock minus ours, in ms. */
export const skew = signal(0);
const ticked = signal(Date.now());
setInterval(() => {
  ticked.value = Date.now();
}, 1000);

/** Events come over the WebSocket: what they announce need not be asked for often. */
export const isPushed = signal(false);

/** null: now; else the moment all panels show, ms of the node's clock. */
export const cursor = signal<number | null>(null);
export const nodeNow = computed(() => ticked.value + skew.value);
export const moment = computed(() => cursor.value ?? nodeNow.value);

export function exactNow(): number {
  return Date.now() + skew.value;
}
