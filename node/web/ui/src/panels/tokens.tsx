// Who else is let in and what was done: tokens, tenants, the audit log; all with the scope admin.
import { Age, Bar, Do, Panel, reachable, Shown, Sign } from "../parts/bits";
import { bytes } from "../parts/format";
import { use } from "../state/poll";
import { caller, scopes } from "../state/session";

export function Tokens() {
  const isAdmin = scopes.value === null || scopes.value.includes("admin");
  const view = use("token_list", { limit: 100 }, { every: 20_000, isOff: !isAdmin });
  return (
    <Panel title="Tokens" width="w6" meta={caller.value && `you are ${caller.value}${scopes.value ? `: ${scopes.value.join(", ")}` : ""}`}>
      {!isAdmin ? (
        <p class="empty">Your token does not let you see the others. In a terminal: <code>prsm token ls</code>.</p>
      ) : (
        <Shown view={view} freshFor={60_000} empty={(all) => all.items.length === 0 && <>None was made. <code>prsm token new NAME --role observer</code> makes one.</>}>
          {(all) => (
            <div class="scroll" ref={reachable}>
              <table>
                <thead><tr><th>name</th><th>may</th><th>tenant</th><th>ends</th><th></th></tr></thead>
                <tbody>
                  {all.items.map((row) => (
                    <tr>
                      <td>{row.name}</td>
                      <td>{row.role || row.scopes.join(", ")}</td>
                      <td>{row.tenant || <span class="quiet">operator</span>}</td>
                      <td>{row.state !== "live" ? <Sign tone="bad">{row.state}</Sign> : row.expires ? <time dateTime={row.expires}>{row.expires.slice(0, 10)}</time> : "never"}</td>
                      <td class="n">{row.state === "live" && <Do method="token_revoke" params={{ id: row.id }} ask={`Revoke the token ${row.name}?`}>Revoke</Do>}</td>
                    </tr>
                  ))}
                </tbody>
              </table>
            </div>
          )}
        </Shown>
      )}
    </Panel>
  );
}

const isAdmin = (): boolean => scopes.value === null || scopes.value.includes("admin");

export function Audit() {
  const lines = use("audit_list", { limit: 40 }, { every: 10_000, isOff: !isAdmin() });
  const verdict = use("audit_verify", {}, { every: 60_000, isSlow: true, isOff: !isAdmin() });
  const held = verdict.data;
  return (
    <Panel title="Audit log" width="w6" meta={held && <Sign tone={held.ok ? "well" : "bad"}>{held.ok ? `${held.last} lines, the chain holds; ${held.anchored} vouched for by the ledger` : `broken at line ${held.broken_at}: ${held.why}`}</Sign>}>
      {!isAdmin() ? (
        <p class="empty">Calls that administer or sign, each chained to the one before. Your token does not let you read it.</p>
      ) : (
        <Shown view={lines} freshFor={60_000} empty={(all) => all.items.length === 0 && "Nobody administered or signed anything yet."}>
          {(all) => (
            <div class="scroll tall" ref={reachable}>
              <table>
                <thead><tr><th>line</th><th>when</th><th>what</th><th>who</th><th>tenant</th></tr></thead>
                <tbody>
                  {all.items.map((row) => (
                    <tr title={Object.entries(row.fields).map(([name, value]) => `${name}: ${value}`).join("\n")}>
                      <td>{row.seq}</td>
                      <td><Age at={row.ts} /></td>
                      <td>{row.event} <span class="mono">{row.subject}</span></td>
                      <td>{row.who}</td>
                      <td>{row.tenant || <span class="quiet">operator</span>}</td>
                    </tr>
                  ))}
                </tbody>
              </table>
            </div>
          )}
        </Shown>
      )}
    </Panel>
  );
}

export function Tenants() {
  const view = use("tenant_list", {}, { every: 20_000, isOff: !isAdmin() });
  return (
    <Panel title="Tenants" width="w6">
      {!isAdmin() ? (
        <p class="empty">Who shares this node, and their quotas. Your token does not let you see them.</p>
      ) : (
        <Shown view={view} freshFor={60_000} empty={(all) => all.items.length === 0 && <>Nobody shares this node. <code>prsm tenant new NAME</code> gives somebody quotas and jobs of their own.</>}>
          {(all) => (
            <div class="scroll" ref={reachable}>
              <table>
                <thead><tr><th>tenant</th><th class="n">running</th><th>storage</th><th class="n">calls a second</th></tr></thead>
                <tbody>
                  {all.items.map((row) => (
                    <tr>
                      <td>{row.name}</td>
                      <td class="n">{row.running} of {row.running_max}</td>
                      <td><Bar label={`${bytes(row.storage_bytes)} of ${bytes(row.storage_bytes_max)}`} parts={[{ size: row.storage_bytes / Math.max(1, row.storage_bytes_max), tone: "blue", name: "used" }]} /></td>
                      <td class="n">{row.calls_per_s}</td>
                    </tr>
                  ))}
                </tbody>
              </table>
            </div>
          )}
        </Shown>
      )}
    </Panel>
  );
}
