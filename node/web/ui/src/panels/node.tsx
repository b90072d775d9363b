// The node itself: identity, storage, who it asks for blocks, what it turned away, logs, settings.
import { useState } from "preact/hooks";
import { Age, Bar, Do, Facts, Id, Panel, Shown, Sign, reachable, type Tone } from "../parts/bits";
import { bytes, count, span } from "../parts/format";
import { logs } from "../state/live";
import { use } from "../state/poll";
import { scopes } from "../state/session";
import { moment } from "../state/tape";
import { Settings } from "./settings";
import { Audit, Tenants, Tokens } from "./tokens";

export function Node() {
  const status = use("node_getStatus", {}, { every: 3000, isKept: true });
  const info = use("rpc_getInfo", {}, { every: 60_000 });
  return (
    <div class="sheet">
      <Panel title="Identity" width="w6" acts={<Do method="node_stop" params={{}} ask="Stop this node?">Stop the node</Do>}>
        <Shown view={status}>
          {(now) => (
            <Facts
              rows={[
                ["name", <b>{now.name}</b>],
                ["version", `${now.version}, protocol ${info.data?.protocol_version ?? "–"}`],
                ["profile", `${now.profile}${now.validator ? ", validator" : ""}`],
                ["network", <>{now.network} <Id of={now.chain_id} name={now.chain_id} />{now.development && <span class="is-warn"> development: its money has no worth</span>}</>],
                ["peer id", <Id of={now.peer_id} />],
                ["wallet", now.wallet ? <><Id of={now.wallet} /> <span class="quiet">{now.wallet_unlocked ? "unlocked" : "locked"}</span></> : "none"],
                ["home", <span class="mono">{now.home}</span>],
                ["addresses", <span class="mono">{now.addresses.map((one) => one.replace(/\/p2p\/.*/, "")).join(" ")}</span>],
                ["process", `${now.pid}, ${bytes(now.rss_bytes)}, ${span(now.uptime_ms)}`],
              ]}
            />
          )}
        </Shown>
      </Panel>
      <Disk />
      <Sources />
      <Traffic />
      <Doctor />
      <Tokens />
      <Audit />
      <Tenants />
      <Settings />
      <Logs />
    </div>
  );
}

function Disk() {
  const view = use("storage_getStats", {}, { every: 8000, isKept: true });
  return (
    <Panel title="Storage" width="w6" acts={<><Do method="storage_startScrub" params={{}}>Check all blocks</Do><Do method="storage_gc" params={{}} ask="Remove cached files that are used least?">Make room</Do></>}>
      <Shown view={view}>
        {(now) => (
          <>
            <Bar
              label={`${bytes(now.used_bytes)} of ${bytes(now.quota_bytes)} used`}
              parts={[
                { size: now.pinned_bytes / now.quota_bytes, tone: "blue", name: "pinned" },
                { size: Math.max(0, now.files_bytes - now.pinned_bytes) / now.quota_bytes, tone: "green", name: "cached" },
                { size: now.partial_bytes / now.quota_bytes, tone: "orange", name: "on its way" },
                { size: now.damaged_bytes / now.quota_bytes, tone: "red", name: "damaged" },
              ]}
            />
            <ul class="legend">
              <li><i class="blue" />pinned {bytes(now.pinned_bytes)}</li>
              <li><i class="green" />cached {bytes(Math.max(0, now.files_bytes - now.pinned_bytes))}</li>
              <li><i class="orange" />on its way {bytes(now.partial_bytes)}</li>
              <li><i class="red" />damaged {bytes(now.damaged_bytes)}</li>
            </ul>
            <Facts
              rows={[
                ["quota", bytes(now.quota_bytes)],
                ["files", `${count(now.files)} of ${now.models} models`],
                now.disk && ["disk", <><Sign tone={now.disk.state === "ok" ? "well" : now.disk.state === "low" ? "warn" : "bad"}>{now.disk.state.replace("_", " ")}</Sign> {bytes(now.disk.free_bytes)} free of {bytes(now.disk.total_bytes)}</>],
                now.offline && ["offline", "blocks are asked of nobody"],
              ]}
            />
          </>
        )}
      </Shown>
    </Panel>
  );
}

function Sources() {
  const view = use("storage_listSources", {}, { every: 8000 });
  return (
    <Panel title="Where blocks come from" width="w6">
      <Shown view={view} empty={(all) => all.items.length === 0 && (all.offline ? "This node is offline: it asks nobody." : "Nobody can be asked now.")}>
        {(all) => (
          <div class="scroll" ref={reachable}>
            <table>
              <thead><tr><th>source</th><th>kind</th><th>state</th><th class="n">rate</th><th class="n">got</th><th class="n">faults</th></tr></thead>
              <tbody>
                {all.items.map((row) => (
                  <tr title={row.last_error}>
                    <td><Id of={row.name} /></td>
                    <td>{row.kind}</td>
                    <td><Sign tone={row.state === "ok" ? "well" : "warn"}>{row.state}{row.next_try_ms > 0 && `, again in ${span(row.next_try_ms)}`}</Sign></td>
                    <td class="n">{row.rate_bytes_per_s > 0 ? `${bytes(row.rate_bytes_per_s)}/s` : "–"}</td>
                    <td class="n">{bytes(row.bytes)}</td>
                    <td class="n">{row.faults}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        )}
      </Shown>
    </Panel>
  );
}

function Traffic() {
  const load = use("net_getLoad", {}, { every: 6000 });
  const bans = use("net_getBans", {}, { every: 15_000 });
  return (
    <Panel title="What the network side holds and turned away" width="w6">
      <Shown view={load}>
        {(now) => (
          <>
            <Bar label={`${bytes(now.rss_bytes)} of ${bytes(now.memory_bytes)} memory`} parts={[{ size: now.rss_bytes / now.memory_bytes, tone: "purple", name: "memory" }]} />
            <p class="quiet small">memory {bytes(now.rss_bytes)} of {bytes(now.memory_bytes)}; {bytes(now.held_bytes)} held for peers</p>
            <Facts rows={Object.entries(now.counts).filter(([, times]) => times > 0).slice(0, 10).map(([name, times]) => [name.replace(/_/g, " "), count(times)])} />
          </>
        )}
      </Shown>
      <Shown view={bans} empty={() => false}>
        {(all) => (
          <>
            <h3>Kept out</h3>
            {all.items.length === 0 ? <p class="empty">Nobody.</p> : (
              <ul>{all.items.map((ban) => <li class="row"><Id of={ban.peer_id} /><span class="quiet">{ban.why}, until <time>{ban.until.slice(0, 16).replace("T", " ")}</time></span><Do method="net_unban" params={{ peer_id: ban.peer_id }}>Let in</Do></li>)}</ul>
            )}
          </>
        )}
      </Shown>
    </Panel>
  );
}

const LEVELS: Record<string, Tone> = { ok: "well", note: "idle", warning: "warn", fault: "bad" };

function Doctor() {
  const [isAsked, setAsked] = useState(false);
  const isAdmin = scopes.value?.includes("admin") ?? true;
  const view = use("node_runDoctor", {}, { every: 120_000, isSlow: true, isOff: !isAsked });
  return (
    <Panel title="Doctor" width="w6" meta={view.data && `${view.data.faults} faults, ${view.data.warnings} warnings`} acts={<button type="button" onClick={() => setAsked(true)} disabled={isAsked && !view.fault}>Examine</button>}>
      {!isAsked ? (
        <p class="empty">Looks at disk, clock, ports, limits, keys, versions, sandbox, peers and wallet, and says how to mend what it finds.{!isAdmin && " It needs a token with the scope admin."} In a terminal: <code>prsm doctor</code>.</p>
      ) : (
        <Shown view={view} freshFor={300_000}>
          {(all) => (
            <>
              {all.items.every((one) => one.level === "ok") && <p><Sign tone="well">Nothing is wrong</Sign></p>}
              <Findings rows={all.items.filter((one) => one.level !== "ok")} />
              <details>
                <summary>{all.items.filter((one) => one.level === "ok").length} checks are well</summary>
                <Findings rows={all.items.filter((one) => one.level === "ok")} />
              </details>
            </>
          )}
        </Shown>
      )}
    </Panel>
  );
}

interface Found {
  number: string;
  name: string;
  level: string;
  what: string;
  fix: string;
}
function Findings({ rows }: { rows: Found[] }) {
  return (
    <ul class="stack">
      {rows.map((one) => (
        <li>
          <Sign tone={LEVELS[one.level] ?? "idle"}>{one.name}</Sign> <span class="quiet small">{one.number}</span>
          <p class="wrap quiet">{one.what}</p>
          {one.fix && <p class="wrap">{one.fix}</p>}
        </li>
      ))}
    </ul>
  );
}

const TONES: Record<string, Tone> = { debug: "idle", info: "well", warning: "warn", error: "bad", critical: "bad" };

function Logs() {
  const [only, setOnly] = useState("");
  const [words, setWords] = useState("");
  const to = moment.value;
  const rows = logs
    .between(0, to + 1000)
    .filter(({ value }) => (!only || value.level === only) && (!words || `${value.room} ${value.event} ${JSON.stringify(value.fields)}`.includes(words)))
    .slice(-200)
    .reverse();
  return (
    <Panel title="Log" meta={rows.length > 0 ? `${rows.length} lines, the newest first` : undefined} acts={
      <>
        <label><span class="unseen">Level</span><select value={only} onChange={(event) => setOnly(event.currentTarget.value)}><option value="">every level</option>{["debug", "info", "warning", "error"].map((level) => <option value={level}>{level}</option>)}</select></label>
        <label><span class="unseen">Words</span><input type="search" placeholder="words" value={words} onInput={(event) => setWords(event.currentTarget.value)} /></label>
      </>
    }>
      {rows.length === 0 ? (
        <p class="empty">{words || only ? "No line has that." : <>Lines come over the WebSocket to tokens with the scope admin. In a terminal: <code>prsm logs -f</code>.</>}</p>
      ) : (
        <div class="scroll tall log" ref={reachable}>
          <table>
            <tbody>
              {rows.map(({ value }) => (
                <tr>
                  <td class="quiet mono"><Age at={value.ts} /></td>
                  <td><Sign tone={TONES[value.level] ?? "idle"}>{value.level}</Sign></td>
                  <td class="quiet">{value.room}</td>
                  <td class="wrap">{value.event} <span class="quiet mono">{Object.entries(value.fields ?? {}).map(([name, what]) => `${name}=${typeof what === "string" ? what : JSON.stringify(what)}`).join(" ")}</span></td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </Panel>
  );
}
