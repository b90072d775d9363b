// The configuration the node runs with, each value with where it came from.
import { useState } from "preact/hooks";
import { Panel, Shown, Sign, reachable } from "../parts/bits";
import { use } from "../state/poll";

export function Settings() {
  const view = use("node_getConfig", {}, { every: 60_000 });
  const [isAll, setAll] = useState(false);
  return (
    <Panel title="Settings" meta="and where each came from" acts={<button type="button" aria-pressed={isAll} onClick={() => setAll(!isAll)}>Defaults too</button>}>
      <Shown view={view} freshFor={180_000}>
        {(all) => {
          const rows = all.items.filter((row) => isAll || row.origin !== "default");
          return rows.length === 0 ? <p class="empty">Everything is as it is by default.</p> : (
            <div class="scroll tall" ref={reachable}>
              <table>
                <thead><tr><th>name</th><th>value</th><th>from</th></tr></thead>
                <tbody>
                  {rows.map((row) => (
                    <tr title={row.about}>
                      <td class="mono">{row.key}</td>
                      <td class="mono wrap">{typeof row.value === "string" ? row.value : JSON.stringify(row.value)}{row.pending && <Sign tone="warn">another at the next start</Sign>}</td>
                      <td class="quiet">{row.origin}</td>
                    </tr>
                  ))}
                </tbody>
              </table>
            </div>
          );
        }}
      </Shown>
    </Panel>
  );
}
