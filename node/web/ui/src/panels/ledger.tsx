// Blocks, a transaction, an account; who paid whom; all money counted.
import { Age, Bar, Facts, Ftns, Id, Legend, Panel, Shown, Sign, reachable } from "../parts/bits";
import { bytes, clock, count, ftns, share, short } from "../parts/format";
import { block, known, useBlocks, useTop } from "../state/blocks";
import { useNames } from "../state/names";
import { use } from "../state/poll";
import { go, place } from "../state/view";
import type { BlockInfo, TransactionInfo } from "../rpc/types";
import { Money } from "./money";

const SHOWN = 40;

export function Ledger() {
  const chain = use("chain_getStatus", {}, { every: 3000, isKept: true });
  const top = useTop();
  const pick = place.value.pick;
  const isHeight = /^[0-9]+$/.test(pick);
  const last = isHeight ? Math.min(top, Number(pick) + 8) : top;
  useBlocks(last - SHOWN, last);
  const rows = known(last).slice(0, SHOWN);
  return (
    <div class="sheet">
      <Supply />
      <Panel title="Blocks" width="w5" meta={top > 0 && `newest ${count(top)}`} acts={isHeight && <button type="button" onClick={() => go("ledger")}>Newest</button>}>
        <Shown view={chain} empty={(now) => now.height === 0 && "No block is committed yet; the first comes with the first transaction."}>
          {() => (
            <div class="scroll tall" ref={reachable}>
              <table>
                <thead><tr><th>height</th><th>time</th><th>proposer</th><th class="n">tx</th><th class="n">size</th></tr></thead>
                <tbody>
                  {rows.map((one) => (
                    <tr class="pick" aria-selected={pick === String(one.height)} onClick={() => go("ledger", String(one.height))}>
                      <td><button type="button" class="rowlink">{one.height}</button></td>
                      <td>{clock(Date.parse(one.time))}</td>
                      <td>v{one.proposer}{one.view > 0 && <span class="is-warn small"> view {one.view}</span>}</td>
                      <td class="n">{one.transactions.length || <span class="quiet">–</span>}</td>
                      <td class="n quiet">{bytes(one.size_bytes)}</td>
                    </tr>
                  ))}
                </tbody>
              </table>
            </div>
          )}
        </Shown>
      </Panel>
      <Picked pick={pick} top={top} />
      <Money top={last} />
    </div>
  );
}

function Supply() {
  const supply = use("chain_getSupply", {}, { every: 10_000, isKept: true });
  return (
    <Panel title="All money, counted" meta={supply.data && `at height ${supply.data.height}`}>
      <Shown view={supply}>
        {(all) => {
          const sum = BigInt(all.accounts) + BigInt(all.locked) + BigInt(all.bonded) + BigInt(all.burnt);
          const isEven = sum === BigInt(all.minted);
          const part = (name: string, value: string, tone: string) => ({ size: share(value, all.minted), tone, name: `${name} ${ftns(value)}` });
          return (
            <>
              <Bar label="Where the money is" parts={[part("accounts", all.accounts, "blue"), part("bonded", all.bonded, "green"), part("locked", all.locked, "orange"), part("burnt", all.burnt, "grey")]} />
              <div class="row">
                <Legend items={[["blue", `accounts ${ftns(all.accounts)}`], ["green", `bonded ${ftns(all.bonded)}`], ["orange", `locked ${ftns(all.locked)}`], ["grey", `burnt ${ftns(all.burnt)}`]]} />
                <Sign tone={isEven ? "well" : "bad"}>
                  {isEven ? `adds up to the ${ftns(all.minted)} FTNS minted` : `${ftns(sum - BigInt(all.minted))} FTNS too much`}
                </Sign>
              </div>
            </>
          );
        }}
      </Shown>
    </Panel>
  );
}

function Picked({ pick, top }: { pick: string; top: number }) {
  if (/^[0-9]+$/.test(pick)) return <OneBlock height={Number(pick)} top={top} />;
  if (pick.startsWith("tx:")) return <Transaction id={pick.slice(3)} />;
  if (/^0x[0-9a-f]{64}$/.test(pick)) return <Account address={pick} />;
  return <OneBlock height={latestBusy(top)} top={top} />;
}

function latestBusy(top: number): number {
  return known(top).find((one) => one.transactions.length > 0)?.height ?? top;
}

function OneBlock({ height, top }: { height: number; top: number }) {
  useBlocks(height, height);
  const one: BlockInfo | undefined = block(height);
  return (
    <Panel title={`Block ${height}`} width="w7" meta={one && <Age at={one.time} />} acts={
      <>
        <button type="button" disabled={height <= 1} onClick={() => go("ledger", String(height - 1))}>Before</button>
        <button type="button" disabled={height >= top} onClick={() => go("ledger", String(height + 1))}>After</button>
      </>
    }>
      {!one ? (
        <p class="empty">{height > top ? `The newest block is ${top}.` : "Fetching the block."}</p>
      ) : (
        <>
          <Facts
            rows={[
              ["hash", <Id of={one.hash} />],
              ["before it", <Id of={one.prev_hash} />],
              ["state after it", <Id of={one.state_root} />],
              ["agreed", <a href={`#/consensus/${one.height}`}>proposed by v{one.proposer} in view {one.view}, {one.certificate?.signers.length ?? 0} signatures</a>],
            ]}
          />
          <h3>{one.transactions.length === 0 ? "No transactions: a heartbeat" : `${one.transactions.length} transactions`}</h3>
          {one.transactions.length > 0 && <Transactions rows={one.transactions} />}
        </>
      )}
    </Panel>
  );
}

function Transactions({ rows }: { rows: TransactionInfo[] }) {
  const names = useNames();
  return (
    <div class="scroll" ref={reachable}>
      <table>
        <thead><tr><th>kind</th><th>from</th><th class="n">fee, FTNS</th><th>outcome</th><th>id</th></tr></thead>
        <tbody>
          {rows.map((tx) => (
            <tr>
              <td><a href={`#/ledger/${encodeURIComponent(`tx:${tx.tx_id}`)}`}>{tx.kind}</a></td>
              <td><a href={`#/ledger/${tx.sender}`}>{names.account(tx.sender)}</a></td>
              <td class="n">{ftns(tx.fee)}</td>
              <td><Outcome tx={tx} /></td>
              <td><Id of={tx.tx_id} /></td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Outcome({ tx }: { tx: TransactionInfo }) {
  if (tx.status === "pending") return <Sign tone="busy">waits for a block</Sign>;
  return tx.ok === false ? <Sign tone="bad">failed: {tx.why}</Sign> : <Sign tone="well">done</Sign>;
}

function Transaction({ id }: { id: string }) {
  const view = use("chain_getTransaction", { tx_id: id }, { every: 5000 });
  const names = useNames();
  return (
    <Panel title="Transaction" width="w7" meta={<Id of={id} />}>
      <Shown view={view} freshFor={Infinity}>
        {(tx) => (
          <>
            <Facts
              rows={[
                ["kind", tx.kind],
                ["outcome", <Outcome tx={tx} />],
                ["from", <a href={`#/ledger/${tx.sender}`}>{names.account(tx.sender)}</a>],
                ["fee", <Ftns of={tx.fee} />],
                ["nonce", tx.nonce],
                tx.height !== null && ["in block", <a href={`#/ledger/${tx.height}`}>{tx.height}, place {tx.index}</a>],
                ["bytes", <Id of={tx.raw} name="copy the signed bytes" />],
              ]}
            />
            <h3>What it says</h3>
            <pre tabIndex={0}>{JSON.stringify(tx.body, clipped, 2)}</pre>
          </>
        )}
      </Shown>
    </Panel>
  );
}

/** Long hex is of no use to a reader; its length is. */
function clipped(_key: string, value: unknown): unknown {
  if (typeof value === "string" && value.length > 140) return `${value.slice(0, 66)}… (${(value.length - 2) / 2} bytes)`;
  return value;
}

function Account({ address }: { address: string }) {
  const balance = use("account_getBalance", { address }, { every: 5000 });
  const standing = use("account_getStanding", { address }, { every: 15_000 });
  const names = useNames();
  const mine = known(Number.MAX_SAFE_INTEGER).flatMap((one) => one.transactions.filter((tx) => tx.sender === address || JSON.stringify(tx.body).includes(address)));
  return (
    <Panel title={`Account ${names.account(address)}`} width="w7" meta={<Id of={address} />}>
      <Shown view={balance}>
        {(now) => (
          <Facts
            rows={[
              ["balance", <Ftns of={now.balance} />],
              ["bonded", <Ftns of={now.bonded} />],
              ["transactions sent", now.nonce],
              standing.data && ["units of work settled", `${standing.data.settled}, ${standing.data.faults} at fault`],
              standing.data && ["pledged", <Ftns of={standing.data.pledged} />],
            ]}
          />
        )}
      </Shown>
      <h3>In the blocks this page has read</h3>
      {mine.length === 0 ? <p class="empty">None names {short(address)}.</p> : <Transactions rows={mine.slice(0, 30)} />}
    </Panel>
  );
}
