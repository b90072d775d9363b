// PBFT as it went: lanes of height x validator, one height by time, its certificate.
import { Age, Bar, Facts, Figure, Id, Panel, Shown, Sign, useWidth, reachable } from "../parts/bits";
import { clock, count, share, span } from "../parts/format";
import { block, useBlocks, useTop } from "../state/blocks";
import { rounds, votes } from "../state/live";
import { useNames, type Names } from "../state/names";
import { use } from "../state/poll";
import { cursor, moment, type VoteRow } from "../state/tape";
import { go, place } from "../state/view";
import type { BlockInfo, RoundMember } from "../rpc/types";

const CELL = 24;
const LANE = 26;

export function Consensus() {
  const round = use("consensus_getRound", {}, { every: 2000, isKept: true });
  const names = useNames();
  const top = useTop();
  const wanted = Number(place.value.pick);
  const height = wanted >= 1 && wanted <= top ? wanted : top;
  const state = round.data;
  return (
    <div class="sheet">
      <Panel title="The next block" meta={state && <Sign tone={state.view > 0 ? "warn" : "well"}>{state.view > 0 ? "view changed" : state.phase}</Sign>}>
        <Shown view={round}>
          {(now) => (
            <>
              <div class="figures">
                <Figure value={count(cursor.value === null ? now.height : top + 1)} of="height" />
                <Figure value={now.view} of="view" />
                <Figure value={`v${now.proposer}`} of={`proposes: ${names.peer(now.members.find((one) => one.index === now.proposer)?.peer_id ?? "")}`} />
                <Figure value={now.epoch} of={`epoch, since height ${now.epoch_first}`} />
                <Figure value={now.members.filter((one) => one.silent_ms !== null && one.silent_ms < 30_000).length} unit={`of ${now.members.length}`} of="validators heard lately" />
              </div>
              {now.silent_because && <p class="is-warn">This node signs nothing: {now.silent_because}</p>}
            </>
          )}
        </Shown>
      </Panel>
      <Panel title="Lanes" meta="a column is a height, a row a validator; pick one">
        <Shown view={round} empty={(now) => now.members.length === 0 && "The set of validators is empty."}>
          {(now) => <Lanes members={now.members} top={top} picked={height} names={names} />}
        </Shown>
        <Key />
      </Panel>
      <OneHeight height={height} members={state?.members ?? []} names={names} />
      <Certificate height={height} members={state?.members ?? []} quorum={state?.quorum ?? "0"} names={names} />
      <Panel title="Validators" meta={state && `quorum ${share(state.quorum, total(state.members)).toLocaleString(undefined, { style: "percent", maximumFractionDigits: 1 })} of the stake`}>
        <Shown view={round}>
          {(now) => (
            <div class="scroll" ref={reachable}>
              <table>
                <thead><tr><th>validator</th><th>peer</th><th>operator</th><th class="n">stake, FTNS</th><th>heard</th><th class="n">next epoch</th></tr></thead>
                <tbody>
                  {now.members.map((one) => {
                    const next = now.following.items.find((other) => other.operator === one.operator);
                    return (
                      <tr>
                        <td><b>v{one.index}</b>{one.index === now.proposer && <span class="quiet"> proposes</span>}</td>
                        <td><Id of={one.peer_id} name={names.peer(one.peer_id)} /></td>
                        <td><Id of={one.operator} /></td>
                        <td class="n">{count(Number(BigInt(one.stake) / 1_000_000n))}</td>
                        <td>{one.silent_ms === null ? <Sign tone="bad">never</Sign> : <Sign tone={one.silent_ms < 30_000 ? "well" : "warn"}>{one.silent_ms === 0 ? "this node" : `${span(one.silent_ms)} ago`}</Sign>}</td>
                        <td class="n">{next ? count(Number(BigInt(next.stake) / 1_000_000n)) : "leaves"}</td>
                      </tr>
                    );
                  })}
                </tbody>
              </table>
            </div>
          )}
        </Shown>
      </Panel>
    </div>
  );
}

const total = (members: RoundMember[]): bigint => members.reduce((sum, one) => sum + BigInt(one.stake), 0n);

function Key() {
  return (
    <ul class="legend">
      <li><svg width="12" height="12" aria-hidden="true"><path d="M6 0l6 6-6 6-6-6z" class="m-proposal" /></svg>proposal</li>
      <li><svg width="12" height="12" aria-hidden="true"><rect x="3" y="1" width="5" height="10" class="m-prepare" /></svg>prepare</li>
      <li><svg width="12" height="12" aria-hidden="true"><circle cx="6" cy="6" r="4.5" class="m-commit" /></svg>commit</li>
      <li><svg width="12" height="12" aria-hidden="true"><circle cx="6" cy="6" r="4" class="m-late" /></svg>after the decision</li>
      <li><svg width="12" height="12" aria-hidden="true"><path d="M6 1l5 10H1z" class="m-change" /></svg>asks for another view</li>
      <li><svg width="12" height="12" aria-hidden="true"><path d="M2 6h8" class="m-none" /></svg>not in the certificate</li>
    </ul>
  );
}

interface Seen {
  proposal: boolean;
  prepare: boolean;
  commit: boolean;
  late: boolean;
  change: boolean;
}

function heard(to: number, from: number): Map<string, Seen> {
  const found = new Map<string, Seen>();
  const decided = new Map<number, number>();
  for (const { value } of rounds.between(from, to)) if (value.phase === "committed") decided.set(value.height, value.at_ms);
  for (const { value } of votes.between(from, to)) {
    const key = `${value.height} ${value.validator}`;
    const seen = found.get(key) ?? { proposal: false, prepare: false, commit: false, late: false, change: false };
    if (value.kind === "view_change") seen.change = true;
    else {
      seen[value.kind] = true;
      if (value.kind === "commit" && value.at_ms > (decided.get(value.height) ?? Infinity)) seen.late = true;
    }
    found.set(key, seen);
  }
  return found;
}

function Lanes({ members, top, picked, names }: { members: RoundMember[]; top: number; picked: number; names: Names }) {
  const [measure, width] = useWidth();
  const left = 92;
  const shown = Math.max(4, Math.min(60, Math.floor((width - left) / CELL)));
  const last = cursor.value === null ? top + 1 : top;
  const first = Math.max(1, last - shown + 1);
  useBlocks(first, top);
  const to = cursor.value ?? moment.value + 60_000;
  const seen = heard(to, (votes.first ?? to) - 1);
  const height = members.length * LANE + 22;
  const columns: number[] = [];
  for (let at = first; at <= last; at++) columns.push(at);
  const move = (event: KeyboardEvent) => {
    const step = event.key === "ArrowLeft" ? -1 : event.key === "ArrowRight" ? 1 : 0;
    if (!step) return;
    event.preventDefault();
    go("consensus", String(Math.max(1, Math.min(top, picked + step))));
  };
  return (
    <div ref={measure}>
      {width > 0 && (
        <svg class="lanes" width={width} height={height} role="slider" tabIndex={0} aria-label="Heights; arrow keys step" aria-valuemin={1} aria-valuemax={top} aria-valuenow={picked} onKeyDown={move}>
          {members.map((one, row) => (
            <g>
              <line x1={left} x2={width} y1={row * LANE + LANE / 2} y2={row * LANE + LANE / 2} class="lane" />
              <text x="0" y={row * LANE + LANE / 2 + 4}>v{one.index} <tspan class="quiet-text">{names.peer(one.peer_id)}</tspan></text>
            </g>
          ))}
          {columns.map((at, column) => (
            <Column at={at} x={left + column * CELL} members={members} one={block(at)} seen={seen} isPicked={at === picked} height={height} isLast={at > top} every={CELL * 5 < 40 ? 10 : 5} />
          ))}
        </svg>
      )}
    </div>
  );
}

interface ColumnProps {
  at: number;
  x: number;
  members: RoundMember[];
  one: BlockInfo | undefined;
  seen: Map<string, Seen>;
  isPicked: boolean;
  isLast: boolean;
  height: number;
  every: number;
}
function Column({ at, x, members, one, seen, isPicked, isLast, height, every }: ColumnProps) {
  const middle = x + CELL / 2;
  return (
    <g class={`column ${isPicked ? "picked" : ""}`} onClick={() => !isLast && go("consensus", String(at))}>
      <rect x={x} y="0" width={CELL} height={height - 18} class="ground" />
      <title>{isLast ? `height ${at}, under way` : `height ${at}${one ? `, view ${one.view}, ${one.transactions.length} transactions` : ""}`}</title>
      {members.map((member, row) => {
        const y = row * LANE + LANE / 2;
        const vote = seen.get(`${at} ${member.index}`);
        const isSigner = one?.certificate?.signers.includes(member.index);
        const isProposer = one?.proposer === member.index || vote?.proposal;
        return (
          <>
            {isProposer && <path d={`M${middle} ${y - 9}l9 9-9 9-9-9z`} class="m-proposal" />}
            {vote?.prepare && <rect x={middle - 7} y={y - 4} width="3" height="8" class="m-prepare" />}
            {vote?.change && <path d={`M${middle} ${y - 5}l5 10h-10z`} class="m-change" />}
            {vote?.late ? (
              <circle cx={middle} cy={y} r="3.6" class="m-late" />
            ) : isSigner || vote?.commit ? (
              <circle cx={middle} cy={y} r="4" class="m-commit" />
            ) : (
              one && <path d={`M${middle - 4} ${y}h8`} class="m-none" />
            )}
          </>
        );
      })}
      {one && one.view > 0 && <text x={middle} y={height - 14} class="view">v{one.view}</text>}
      {(at % every === 0 || isPicked) && <text x={middle} y={height - 3} class={`tick ${isPicked ? "now" : ""}`}>{at}</text>}
    </g>
  );
}

/** One height on a scale of milliseconds, from the first word of it to the last. */
function OneHeight({ height, members, names }: { height: number; members: RoundMember[]; names: Names }) {
  const [measure, width] = useWidth();
  const all = votes.between(0, Number.MAX_SAFE_INTEGER).filter((mark) => mark.value.height === height).map((mark) => mark.value);
  const phases = rounds.between(0, Number.MAX_SAFE_INTEGER).filter((mark) => mark.value.height === height).map((mark) => mark.value);
  const times = [...all, ...phases].map((one) => one.at_ms);
  const began = Math.min(...times);
  const ended = Math.max(...times, began + 1);
  const left = 92;
  const x = (at: number) => left + 6 + ((at - began) / (ended - began)) * (width - left - 26);
  const tall = members.length * LANE + 24;
  return (
    <Panel title={`Height ${height} by time`} width="w7" meta={times.length > 0 ? `${span(ended - began)} from first to last word` : undefined}>
      {times.length === 0 ? (
        <p class="empty">No votes of this height were seen: they come over the WebSocket, the last thousand of them. The certificate beside it tells who signed.</p>
      ) : (
        <div ref={measure}>
          <svg class="lanes" width={width} height={tall} role="img" aria-label={`Votes of height ${height} by time`}>
            {phases.filter((one) => one.phase !== "proposal").map((one) => (
              <g class={`phase ${one.phase}`}>
                <line x1={x(one.at_ms)} x2={x(one.at_ms)} y1="0" y2={tall - 18} />
                <title>{`${one.phase} ${span(one.at_ms - began)}`}</title>
              </g>
            ))}
            {members.map((one, row) => (
              <g>
                <line x1={left} x2={width} y1={row * LANE + LANE / 2} y2={row * LANE + LANE / 2} class="lane" />
                <text x="0" y={row * LANE + LANE / 2 + 4}>v{one.index} <tspan class="quiet-text">{names.peer(one.peer_id)}</tspan></text>
                {all.filter((vote) => vote.validator === one.index).map((vote) => <Vote vote={vote} x={x(vote.at_ms)} y={row * LANE + LANE / 2} late={late(vote, phases)} began={began} />)}
              </g>
            ))}
            <text x={left + 6} y={tall - 4} class="tick start">0</text>
            <text x={width - 2} y={tall - 4} class="tick end">{span(ended - began)}</text>
          </svg>
        </div>
      )}
    </Panel>
  );
}

const late = (vote: VoteRow, phases: Array<{ phase: string; at_ms: number }>): boolean =>
  vote.kind === "commit" && phases.some((one) => one.phase === "committed" && vote.at_ms > one.at_ms);

function Vote({ vote, x, y, late: isLate, began }: { vote: VoteRow; x: number; y: number; late: boolean; began: number }) {
  const title = <title>{`v${vote.validator} ${vote.kind} after ${span(vote.at_ms - began)}, view ${vote.view}`}</title>;
  switch (vote.kind) {
    case "proposal":
      return <path d={`M${x} ${y - 8}l8 8-8 8-8-8z`} class="m-proposal">{title}</path>;
    case "prepare":
      return <rect x={x - 2.5} y={y - 6} width="5" height="12" class="m-prepare">{title}</rect>;
    case "commit":
      return <circle cx={x} cy={y} r="5" class={isLate ? "m-late" : "m-commit"}>{title}</circle>;
    default:
      return <path d={`M${x} ${y - 6}l6 12h-12z`} class="m-change">{title}</path>;
  }
}

function Certificate({ height, members, quorum, names }: { height: number; members: RoundMember[]; quorum: string; names: Names }) {
  useBlocks(height, height);
  const one = block(height);
  const proof = one?.certificate;
  const all = total(members);
  return (
    <Panel title="Certificate" width="w5" meta={one && `height ${one.height}, ${clock(Date.parse(one.time))}`}>
      {!one ? (
        <p class="empty">{height > 0 ? "Fetching the block." : "No block is committed yet."}</p>
      ) : !proof ? (
        <p class="empty">The newest block's certificate comes with the block after it.</p>
      ) : (
        <>
          <p>{proof.signers.length} of {members.length} validators signed; a quorum needs {share(quorum, all).toLocaleString(undefined, { style: "percent", maximumFractionDigits: 1 })}.</p>
          <Bar
            label={`${proof.signers.length} signatures; the line is the quorum`}
            mark={share(quorum, all)}
            parts={proof.signers.map((index) => {
              const member = members.find((who) => who.index === index);
              return { size: share(member?.stake ?? "0", all), tone: "green", name: member ? `v${index} ${names.peer(member.peer_id)}` : `v${index}` };
            })}
          />
          <Facts
            rows={[
              ["signed by", proof.signers.map((index) => `v${index}`).join(", ")],
              ["proposer, view", `v${one.proposer}, view ${proof.view}`],
              ["block", <Id of={one.hash} />],
              ["state after it", <Id of={one.state_root} />],
              ["digest signed", <Id of={proof.digest} />],
              ["bytes", <><Id of={proof.raw} name="copy the certificate" />{" · "}<Id of={one.header} name="copy the header" /></>],
              ["committed", <Age at={one.time} />],
            ]}
          />
          <p><a href={`#/ledger/${one.height}`}>Its {one.transactions.length} transactions</a></p>
        </>
      )}
    </Panel>
  );
}
