// Small parts every panel is made of; one look for states, ids, amounts and faults.
import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { Refusal, Unreachable, type Fault } from "../rpc/client";
import type { View } from "../state/poll";
import { retryNow } from "../state/poll";
import { act, isLost, said } from "../state/session";
import { moment, nodeNow } from "../state/tape";
import type { Name, Params, Result } from "../rpc/client";
import { ago, clock, ftns, short } from "./format";

export type Kids = ComponentChildren;
export type Tone = "well" | "busy" | "warn" | "bad" | "idle";

const SHAPES: Record<Tone, preact.JSX.Element> = {
  well: <circle cx="5" cy="5" r="4" fill="currentColor" />,
  busy: <path d="M1 1l8 4-8 4z" fill="currentColor" />,
  warn: <path d="M5 .5L9.8 9.5H.2z" fill="currentColor" />,
  bad: <path d="M1 1l8 8M9 1l-8 8" stroke="currentColor" stroke-width="2.4" />,
  idle: <circle cx="5" cy="5" r="3.4" fill="none" stroke="currentColor" stroke-width="1.4" />,
};

/** A state in shape, colour and word, so that no one of them is needed. */
export function Sign({ tone, children, title }: { tone: Tone; children?: Kids; title?: string }) {
  return (
    <span class={`sign is-${tone}`} title={title}>
      <svg width="10" height="10" viewBox="0 0 10 10" aria-hidden="true">
        {SHAPES[tone]}
      </svg>
      <span>{children}</span>
    </span>
  );
}

/** An id, short; a press copies the whole. */
export function Id({ of, name, plain }: { of: string; name?: string; plain?: boolean }) {
  const [isCopied, setCopied] = useState(false);
  useEffect(() => {
    if (!isCopied) return;
    const timer = setTimeout(() => setCopied(false), 1200);
    return () => clearTimeout(timer);
  }, [isCopied]);
  if (plain) return <span class="mono" title={of}>{name ?? short(of)}</span>;
  const copy = (event: Event) => {
    event.stopPropagation();
    void navigator.clipboard?.writeText(of).then(() => setCopied(true));
  };
  return (
    <button type="button" class="id" title={`${of}\npress to copy`} onClick={copy}>
      {isCopied ? "copied" : (name ?? short(of))}
    </button>
  );
}

export function Ftns({ of }: { of: string | bigint }) {
  return (
    <span title={`${of} micro-FTNS`}>
      {ftns(of)}
      <span class="quiet small"> FTNS</span>
    </span>
  );
}

export function Age({ at }: { at: string | number | null | undefined }) {
  if (at === null || at === undefined || at === "") return <span class="quiet">never</span>;
  const ms = typeof at === "number" ? at : Date.parse(at);
  return <time dateTime={new Date(ms).toISOString()} title={new Date(ms).toISOString()}>{ago(moment.value - ms)}</time>;
}

export function Facts({ rows }: { rows: Array<[Kids, Kids] | false | null | undefined> }) {
  return (
    <dl class="facts">
      {rows.map((row) => row && [<dt>{row[0]}</dt>, <dd>{row[1]}</dd>])}
    </dl>
  );
}

export function Figure({ value, unit, of, title }: { value: Kids; unit?: Kids; of: Kids; title?: string }) {
  return (
    <div class="figure" title={title}>
      <b>
        {value}
        {unit !== undefined && <small>{unit}</small>}
      </b>
      <span>{of}</span>
    </div>
  );
}

export interface Part {
  size: number;
  tone: string;
  name: string;
}
/** Parts of a whole, each a share of 1; `mark` is a line such as a quorum. */
export function Bar({ parts, mark, label }: { parts: Part[]; mark?: number; label: string }) {
  return (
    <div class="bar" role="img" aria-label={label} title={label}>
      {parts.map((part) => (
        <i class={part.tone} style={{ width: `${Math.min(100, part.size * 100)}%` }} title={part.name} />
      ))}
      {mark !== undefined && <u style={{ left: `calc(${Math.min(100, mark * 100)}% - 1px)` }} />}
    </div>
  );
}

export function Legend({ items }: { items: Array<[string, string]> }) {
  return (
    <ul class="legend">
      {items.map(([tone, word]) => (
        <li>
          <i class={tone} />
          {word}
        </li>
      ))}
    </ul>
  );
}

export function Trouble({ fault }: { fault: Fault }) {
  if (fault instanceof Unreachable) {
    return (
      <div class="fault" role="alert">
        <b>The node does not answer.</b>
        <span>It may be stopped, or the way to it is cut. The page goes on asking.</span>{" "}
        <button type="button" onClick={retryNow}>Ask now</button>
      </div>
    );
  }
  const refusal = fault as Refusal;
  return (
    <div class="fault" role="alert">
      <b>{refusal.message}</b>
      {refusal.why && <p>{refusal.why}</p>}
      {refusal.hint && <p>{refusal.hint}</p>}
      <span class="small">
        {refusal.prsm && <>{refusal.prsm}, see <code>prsm explain {refusal.prsm}</code></>}
        {refusal.trace && <> · trace <Id of={refusal.trace} /></>}
      </span>
    </div>
  );
}

interface PanelProps {
  title: Kids;
  meta?: Kids;
  acts?: Kids;
  width?: string;
  children: Kids;
  id?: string;
}
export function Panel({ title, meta, acts, width = "", children, id }: PanelProps) {
  return (
    <section class={`panel ${width}`} id={id}>
      <header>
        <h2>{title}</h2>
        {meta !== undefined && <span class="meta">{meta}</span>}
        {acts !== undefined && <span class="acts">{acts}</span>}
      </header>
      {children}
    </section>
  );
}

interface ShownProps<R> {
  view: View<R>;
  empty?: (data: R) => Kids | false;
  children: (data: R) => Kids;
  freshFor?: number;
}
/** An answer in whichever state it is: waiting, refused, empty, old, or good. */
export function Shown<R>({ view, empty, children, freshFor = 20_000 }: ShownProps<R>) {
  if (view.data === undefined) {
    if (view.fault) return <Trouble fault={view.fault} />;
    if (view.isPast) return <p class="empty">This page was not open then, and the node keeps no record of this part.</p>;
    if (isLost.value) return <Trouble fault={new Unreachable("")} />;
    return (
      <div class="waiting" role="status">
        <span class="unseen">Asking the node</span>
        <i />
        <i />
        <i />
      </div>
    );
  }
  const isOld = !view.isPast && (isLost.value || nodeNow.value - view.at > freshFor);
  const nothing = empty?.(view.data);
  return (
    <>
      {isOld && <p class="asof">As of {clock(view.at)}; no newer answer yet</p>}
      {view.fault && !isLost.value && <Trouble fault={view.fault} />}
      <div class={isOld ? "stale" : undefined}>{nothing ? <p class="empty">{nothing}</p> : children(view.data)}</div>
    </>
  );
}

interface DoProps<M extends Name> {
  method: M;
  params: Params<M>;
  children: Kids;
  main?: boolean;
  ask?: string;
  onDone?: (result: Result<M>) => void;
  disabled?: boolean;
}
/** A button that makes one call and says what came of it. */
export function Do<M extends Name>({ method, params, children, main, ask, onDone, disabled }: DoProps<M>) {
  const [state, setState] = useState<"" | "busy" | "done">("");
  const [why, setWhy] = useState("");
  const run = async () => {
    if (ask && !(await confirmed(ask))) return;
    setState("busy");
    setWhy("");
    try {
      const result = await act(method, params); // not in the call: without onDone nothing of it is evaluated
      onDone?.(result);
      setState("done");
      setTimeout(() => setState(""), 1500);
    } catch (error) {
      setState("");
      setWhy(said(error));
    }
  };
  return (
    <>
      <button type="button" class={main ? "main-act" : ""} disabled={disabled || state === "busy"} onClick={() => void run()}>
        {state === "busy" ? "…" : state === "done" ? "done" : children}
      </button>
      {why && <span class="is-bad small wrap" role="alert">{why}</span>}
    </>
  );
}

let settleConfirm: ((yes: boolean) => void) | null = null;
let openConfirm: ((text: string) => void) | null = null;
export function confirmed(text: string): Promise<boolean> {
  return new Promise((done) => {
    settleConfirm = done;
    openConfirm?.(text);
  });
}
/** The one dialogue that asks before something that cannot be taken back. */
export function Confirm() {
  const [text, setText] = useState("");
  const ref = useRef<HTMLDialogElement>(null);
  openConfirm = (what) => {
    setText(what);
    ref.current?.showModal();
  };
  const end = (yes: boolean) => {
    ref.current?.close();
    settleConfirm?.(yes);
    settleConfirm = null;
  };
  return (
    <dialog ref={ref} aria-label="Please confirm" onCancel={() => end(false)}>
      <h2>{text}</h2>
      <div class="row">
        <button type="button" class="main-act" onClick={() => end(true)}>Yes</button>
        <button type="button" onClick={() => end(false)}>No</button>
      </div>
    </dialog>
  );
}

/** What scrolls can be reached by the keyboard; what does not is no stop on the way. */
export function reachable(node: HTMLElement | null): void {
  if (!node || watched.has(node)) return;
  watched.add(node);
  const look = () => {
    if (node.scrollWidth > node.clientWidth + 1 || node.scrollHeight > node.clientHeight + 1) node.tabIndex = 0;
    else node.removeAttribute("tabindex");
  };
  new ResizeObserver(look).observe(node);
  if (node.firstElementChild) new ResizeObserver(look).observe(node.firstElementChild);
}
const watched = new WeakSet<HTMLElement>();

/** The width of an element, for drawings that fill it. */
export function useWidth(): [(node: HTMLElement | null) => void, number] {
  const [width, setWidth] = useState(0);
  const watch = useRef<ResizeObserver | null>(null);
  const set = useRef((node: HTMLElement | null) => {
    watch.current?.disconnect();
    if (!node) return;
    watch.current = new ResizeObserver(([entry]) => entry && setWidth(Math.floor(entry.contentRect.width)));
    watch.current.observe(node);
  });
  return [set.current, width];
}
