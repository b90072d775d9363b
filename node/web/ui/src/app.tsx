// The page around the panels: head, rail, notices, tape, keys.
import { useEffect, useRef, useState } from "preact/hooks";
import { Confirm, Sign } from "./parts/bits";
import { ago, clock, count, span } from "./parts/format";
import { step, Tape } from "./parts/tape";
import { Login, Stronger } from "./login";
import { Consensus } from "./panels/consensus";
import { Governance } from "./panels/governance";
import { Jobs } from "./panels/jobs";
import { Ledger } from "./panels/ledger";
import { Models } from "./panels/models";
import { Network } from "./panels/network";
import { Node } from "./panels/node";
import { Overview } from "./panels/overview";
import { Playground } from "./panels/playground";
import { Worker } from "./panels/worker";
import { ask } from "./rpc/client";
import { useTop } from "./state/blocks";
import { alerts } from "./state/live";
import { retryNow, use } from "./state/poll";
import { isLost, lastAnswer, leave, phase, readToken } from "./state/session";
import { cursor, exactNow, isPushed, nodeNow, skew } from "./state/tape";
import { go, place, turnTheme } from "./state/view";

const PANELS = [
  ["overview", "Overview", Overview],
  ["network", "Network", Network],
  ["consensus", "Consensus", Consensus],
  ["ledger", "Ledger", Ledger],
  ["models", "Models", Models],
  ["jobs", "Jobs", Jobs],
  ["playground", "Playground", Playground],
  ["worker", "Worker", Worker],
  ["governance", "Governance", Governance],
  ["node", "Node", Node],
] as const;

export function App() {
  if (phase.value !== "in") return <Login />;
  return <Inside />;
}

function Inside() {
  const [isOpen, setOpen] = useState(false);
  const help = useRef<HTMLDialogElement>(null);
  const main = useRef<HTMLElement>(null);
  const here = place.value.panel;
  const found = PANELS.find(([path]) => path === here) ?? PANELS[0];
  const Shown = found[2];
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => press(event, help.current);
    window.addEventListener("keydown", onKey);
    return () => window.removeEventListener("keydown", onKey);
  }, []);
  useEffect(() => {
    document.title = `${found[1]} · PRSM`;
    setOpen(false);
    main.current?.scrollTo(0, 0);
  }, [found[0]]);
  return (
    <div class="frame">
      <a class="skip" href="#content" onClick={(event) => { event.preventDefault(); main.current?.focus(); }}>To the content</a>
      <Head onMenu={() => setOpen(!isOpen)} isOpen={isOpen} title={found[1]} onHelp={() => help.current?.showModal()} />
      <Rail here={found[0]} isOpen={isOpen} />
      <main class="main" id="content" tabIndex={-1} ref={main}>
        <h1 class="unseen">{found[1]}</h1>
        <Notices />
        <Shown />
      </main>
      <Tape />
      <Stronger />
      <Confirm />
      <Help box={help} />
    </div>
  );
}

function Head({ onMenu, isOpen, title, onHelp }: { onMenu: () => void; isOpen: boolean; title: string; onHelp: () => void }) {
  const status = use("node_getStatus", {}, { every: 3000, isKept: true }).data;
  const round = use("consensus_getRound", {}, { every: 3000, isKept: true }).data;
  const top = useTop();
  return (
    <header class="head">
      <button type="button" class="menu" aria-expanded={isOpen} aria-controls="rail" onClick={onMenu}>{title} ▾</button>
      <div class="who">
        <img src="/favicon.svg" alt="" width="22" height="22" />
        <b>{status?.name ?? "PRSM node"}</b>
      </div>
      <div class="vitals">
        {status && <span>height <b>{count(top || status.height)}</b></span>}
        {round && <span>view <b>{round.view}</b></span>}
        {status && <span><b>{status.peers}</b> {status.peers === 1 ? "peer" : "peers"}</span>}
        {status && <span class="chain" title={status.chain_id}>{status.network} <b class="mono">{status.chain_id.slice(0, 8)}</b></span>}
        {status?.development && <span class="dev">development</span>}
      </div>
      <span class="fill" />
      <Search />
      <div class="tools">
        <Freshness />
        <button type="button" class="bare" onClick={turnTheme} aria-label="Light or dark" title="light or dark (t)">
          <svg width="14" height="14" viewBox="0 0 14 14" aria-hidden="true"><circle cx="7" cy="7" r="5.5" fill="none" stroke="currentColor" stroke-width="1.5" /><path d="M7 1.5a5.5 5.5 0 010 11z" fill="currentColor" /></svg>
        </button>
        <button type="button" class="bare" onClick={onHelp} aria-label="Keys and help" title="keys (?)">?</button>
        <button type="button" class="bare leave" onClick={() => leave()}>Leave</button>
      </div>
    </header>
  );
}

function Freshness() {
  if (isLost.value) return <Sign tone="bad">no answer</Sign>;
  if (cursor.value !== null) return <Sign tone="warn">looking back</Sign>;
  const age = nodeNow.value - skew.value - lastAnswer.value;
  if (age > 15_000) return <Sign tone="warn">{ago(age)}</Sign>;
  return <Sign tone="well" title={isPushed.value ? "events come over the WebSocket" : "asked again every few seconds"}>{isPushed.value ? "live" : "polling"}</Sign>;
}

function Search() {
  const [words, setWords] = useState("");
  const submit = (event: Event) => {
    event.preventDefault();
    const what = words.trim();
    if (!what) return;
    if (/^[0-9]+$/.test(what)) go("ledger", what);
    else if (/^0x[0-9a-f]{64}$/i.test(what)) void look(what.toLowerCase());
    else if (what.startsWith("12D3")) go("network", what);
    else go("models", what);
    setWords("");
  };
  return (
    <form role="search" onSubmit={submit}>
      <label>
        <span class="unseen">Search</span>
        <input id="search" type="search" placeholder="height, id, account, peer, model  /" value={words} onInput={(event) => setWords(event.currentTarget.value)} />
      </label>
    </form>
  );
}

/** 32 bytes name a job, a transaction or an account: ask which. */
async function look(id: string): Promise<void> {
  try {
    await ask("job_get", { job_id: id }, readToken());
    go("jobs", id);
    return;
  } catch {
    // no job of ours
  }
  try {
    await ask("chain_getTransaction", { tx_id: id }, readToken());
    go("ledger", `tx:${id}`);
  } catch {
    go("ledger", id);
  }
}

function Rail({ here, isOpen }: { here: string; isOpen: boolean }) {
  const jobs = use("job_list", { limit: 40 }, { every: 5000, isKept: true }).data;
  const running = jobs?.items.filter((job) => !job.is_over).length ?? 0;
  const firing = new Map<string, string>();
  for (const mark of alerts.between(0, exactNow())) firing.set(mark.value.name, mark.value.state);
  const loud = [...firing.values()].filter((state) => state === "firing").length;
  const counts: Record<string, [number, string]> = { jobs: [running, "running"], overview: [loud, loud === 1 ? "alarm" : "alarms"] };
  return (
    <nav class={`rail ${isOpen ? "open" : ""}`} id="rail" aria-label="Panels">
      {PANELS.map(([path, word]) => {
        const [number, unit] = counts[path] ?? [0, ""];
        return (
          <a href={`#/${path}`} aria-current={path === here ? "page" : undefined}>
            {word}
            {number > 0 && <span class={`count ${unit.startsWith("alarm") ? "bad" : ""}`}>{number} {unit}</span>}
          </a>
        );
      })}
    </nav>
  );
}

function Notices() {
  const status = use("node_getStatus", {}, { every: 3000, isKept: true }).data;
  if (isLost.value) {
    return (
      <div class="notice bad" role="alert">
        <span>The node has not answered since {clock(lastAnswer.value + skew.value)}. What you see is from then; the page goes on asking.</span>
        <button type="button" onClick={retryNow}>Ask now</button>
      </div>
    );
  }
  if (cursor.value !== null) {
    return (
      <div class="notice" role="status">
        <span>You see {clock(cursor.value)}, {span(nodeNow.value - cursor.value)} ago.</span>
        <button type="button" onClick={() => (cursor.value = null)}>Back to now</button>
      </div>
    );
  }
  if (status?.stale) {
    return <div class="notice" role="status">The network may know more than this node's ledger: it is offline, alone or behind.</div>;
  }
  return null;
}

function press(event: KeyboardEvent, help: HTMLDialogElement | null): void {
  const target = event.target as HTMLElement;
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (/^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName)) {
    if (event.key === "Escape") target.blur();
    return;
  }
  const panel = PANELS["1234567890".indexOf(event.key)];
  if (panel && event.key.length === 1) go(panel[0]);
  else if (event.key === "/") {
    event.preventDefault();
    document.getElementById("search")?.focus();
  } else if (event.key === "t") turnTheme();
  else if (event.key === "?") help?.showModal();
  else if (event.key === "[") step(-1);
  else if (event.key === "]") step(1);
  else if (event.key === " " && target.tagName !== "BUTTON" && target.tagName !== "A" && target.getAttribute("role") !== "button") {
    event.preventDefault();
    cursor.value = cursor.value === null ? nodeNow.value : null;
  }
}

function Help({ box }: { box: { current: HTMLDialogElement | null } }) {
  const rows: Array<[string, string]> = [
    ["1 … 9, 0", "a panel, in the order of the list"],
    ["/", "search: a height, an id, an account, a peer, a model"],
    ["[  ]", "one block back, one forward"],
    ["space", "stop the time, go back to now"],
    ["t", "light or dark"],
    ["?", "this"],
  ];
  return (
    <dialog ref={box} aria-labelledby="keys">
      <h2 id="keys">Keys</h2>
      <dl class="facts">{rows.map(([keys, what]) => [<dt>{keys.split(/\s+/).map((one) => <><kbd>{one}</kbd> </>)}</dt>, <dd>{what}</dd>])}</dl>
      <p class="quiet small">All here comes from this node's own RPC; nothing is loaded from anywhere else and nothing is sent anywhere. <a href="/licences.txt">Licences of the code in this page</a></p>
      <form method="dialog" class="row"><button type="submit" class="main-act">Close</button><button type="button" onClick={() => leave()}>Leave this node</button></form>
    </dialog>
  );
}
