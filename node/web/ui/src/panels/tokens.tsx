// Tokens that open this node to clients; to be seen and revoked with the scope admin.
import { Do, Panel, Shown, Sign, reachable } from "../parts/bits";
import { use } from "../state/poll";
import { caller, scopes } from "../state/session";

export function Tokens() {
  const isAdmin = scopes.value === null || scopes.value.includes("admin");
  const view = use("token_list", {}, { every: 20_000, isOff: !isAdmin });
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
