// Answers that keep themselves fresh while somebody looks at them.
// One batch at a time asks all that is due; what is slow is asked beside it.
// Knows: methods by name, the session, the cursor of time. Must not know: what is shown.
import { signal, type Signal } from "@preact/signals";
import { useEffect, useMemo } from "preact/hooks";
import { askAll, Refusal, Unreachable, type Fault, type Name, type Params, type Result } from "../rpc/client";
import { isLost, lastAnswer, leave, phase, readToken } from "./session";
import { cursor, exactNow, isPushed, Track } from "./tape";

export interface View<R> {
  data?: R;
  at: number; // of the answer, node's clock; 0: none yet
  fault?: Fault;
  isPast?: boolean; // it is what was seen then
}
export interface How {
  every?: number;
  isSlow?: boolean;
  isKept?: boolean; // answers stay on the tape, for looking back
  isOff?: boolean;
}
interface Entry {
  method: Name;
  params: unknown;
  every: number;
  isSlow: boolean;
  view: Signal<View<unknown>>;
  past: Track<unknown> | null;
  watchers: number;
  due: number;
  isAsked: boolean;
}

const entries = new Map<string, Entry>();
const KEPT_MAX = 400;
// An event of /ws says when one of these changed; without it they are asked for four times as often.
const TOLD = new Set<Name>(["node_getStatus", "chain_getStatus", "consensus_getRound", "net_getPeers", "job_list", "task_list", "model_list"]);
let isBusy = false;
let failures = 0;
let pausedUntil = 0;

function entryOf(method: Name, params: unknown, how: How): Entry {
  const key = `${method} ${JSON.stringify(params)}`;
  let entry = entries.get(key);
  if (!entry) {
    if (entries.size > KEPT_MAX) for (const [old, one] of entries) if (one.watchers === 0) entries.delete(old);
    entry = {
      method,
      params,
      every: how.every ?? 3000,
      isSlow: how.isSlow ?? false,
      view: signal<View<unknown>>({ at: 0 }),
      past: how.isKept ? new Track<unknown>() : null,
      watchers: 0,
      due: 0,
      isAsked: false,
    };
    entries.set(key, entry);
  }
  return entry;
}

/** The freshest answer of a method, asked again every few seconds while this component is there. */
export function use<M extends Name>(method: M, params: Params<M>, how: How = {}): View<Result<M>> {
  const key = JSON.stringify(params);
  const entry = useMemo(() => entryOf(method, params, how), [method, key]);
  const isOff = how.isOff ?? false;
  useEffect(() => {
    if (isOff) return;
    entry.watchers++;
    queueMicrotask(turn);
    return () => {
      entry.watchers--;
    };
  }, [entry, isOff]);
  const when = cursor.value;
  const live = entry.view.value;
  if (when === null || !entry.past) return live as View<Result<M>>;
  const found = entry.past.at(when);
  return { data: found?.value as Result<M> | undefined, at: found?.t ?? 0, isPast: true };
}

/** Ask these methods again as soon as possible, because something changed. */
export function refresh(...methods: Name[]): void {
  for (const entry of entries.values()) if (methods.includes(entry.method)) entry.due = 0;
}

export function forget(): void {
  entries.clear();
}

export function retryNow(): void {
  pausedUntil = 0;
  failures = 0;
  for (const entry of entries.values()) entry.due = 0;
  turn();
}

function turn(): void {
  const now = Date.now();
  if (phase.value !== "in" || document.hidden || now < pausedUntil) return;
  const due = [...entries.values()].filter((one) => one.watchers > 0 && !one.isAsked && one.due <= now);
  for (const entry of due.filter((one) => one.isSlow)) void askThese([entry]);
  const quick = due.filter((one) => !one.isSlow).slice(0, 40);
  if (quick.length === 0 || isBusy) return;
  isBusy = true;
  void askThese(quick).finally(() => {
    isBusy = false;
  });
}

async function askThese(asked: Entry[]): Promise<void> {
  for (const entry of asked) entry.isAsked = true;
  const session = readToken();
  try {
    const found = await askAll(asked, session);
    failures = 0;
    isLost.value = false;
    lastAnswer.value = Date.now();
    asked.forEach((entry, index) => settle(entry, found[index]));
  } catch (error) {
    if (readToken() !== session) return;
    if (error instanceof Refusal && error.reason === "unauthorised") {
      leave("The token is no longer good: it ended, was revoked, or the node was started again.");
      return;
    }
    failures++;
    pausedUntil = Date.now() + Math.min(8000, 500 * 2 ** failures);
    isLost.value = error instanceof Unreachable || isLost.value;
  } finally {
    for (const entry of asked) entry.isAsked = false;
  }
}

function settle(entry: Entry, found: unknown): void {
  const at = exactNow();
  entry.due = Date.now() + entry.every * (isPushed.value && TOLD.has(entry.method) ? 4 : 1);
  if (found instanceof Error) {
    const fault = found as Fault;
    if (fault instanceof Refusal) entry.due += Math.max(fault.retryMs, entry.every);
    entry.view.value = { ...entry.view.peek(), fault };
    return;
  }
  entry.view.value = { data: found, at };
  entry.past?.push(at, found);
}

setInterval(turn, 250);
document.addEventListener("visibilitychange", turn);
