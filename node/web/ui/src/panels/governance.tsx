// Decisions of the network: proposals, votes with their quorum, parameters, what must not run.
import { Age, Bar, Do, Facts, Ftns, Id, Panel, Shown, Sign, reachable, type Tone } from "../parts/bits";
import { ftns, share, short, span } from "../parts/format";
import { use } from "../state/poll";
import { moment } from "../state/tape";
import { go, place } from "../state/view";
import type { ProposalInfo } from "../rpc/types";

const STATES: Record<ProposalInfo["status"], Tone> = { open: "busy", enacted: "well", rejected: "bad", no_quorum: "idle", lapsed: "idle" };

export function Governance() {
  const list = use("governance_getProposals", {}, { every: 8000, isKept: true });
  const items = list.data?.items ?? [];
  const one = items.find((row) => row.proposal === place.value.pick) ?? items[0];
  const halts = items.filter((row) => row.halt !== null && row.status === "enacted");
  return (
    <div class="sheet">
      <Panel title="Proposals" width="w6" meta={list.data && `${items.filter((row) => row.status === "open").length} open`}>
        <Shown view={list} empty={(all) => all.items.length === 0 && <>Nothing was ever put to the vote. <code>prsm governance propose CATEGORY "what and why"</code> opens one, with a deposit.</>}>
          {(all) => (
            <div class="scroll tall" ref={reachable}>
              <table>
                <thead><tr><th>what</th><th>category</th><th>state</th><th>votes</th></tr></thead>
                <tbody>
                  {all.items.map((row) => (
                    <tr class="pick" aria-selected={row.proposal === one?.proposal} onClick={() => go("governance", row.proposal)}>
                      <td><button type="button" class="rowlink">{row.text.length > 60 ? `${row.text.slice(0, 58)}…` : row.text}</button></td>
                      <td>{row.category}</td>
                      <td><Sign tone={STATES[row.status]}>{row.status.replace("_", " ")}</Sign></td>
                      <td><Votes of={row} /></td>
                    </tr>
                  ))}
                </tbody>
              </table>
            </div>
          )}
        </Shown>
      </Panel>
      {one ? <One row={one} /> : <Panel title="A proposal" width="w6"><p class="empty">Its text, its electors and their votes show here.</p></Panel>}
      <Panel title="Halted" width="w6" meta="what no node may execute">
        {halts.length === 0 ? (
          <p class="empty">Nothing is halted. Validators can halt a model by a vote of the category safety or emergency.</p>
        ) : (
          <ul>{halts.map((row) => <li><Sign tone={row.lift ? "well" : "bad"}>{row.lift ? "allowed again" : "halted"}</Sign> <Id of={row.halt ?? ""} /> <span class="quiet">{row.text}</span></li>)}</ul>
        )}
      </Panel>
      <Parameters />
    </div>
  );
}

function Votes({ of }: { of: ProposalInfo }) {
  const { yes, no, abstain, total } = of.votes;
  return (
    <Bar
      label={`yes ${ftns(yes)}, no ${ftns(no)}, abstain ${ftns(abstain)} of ${ftns(total)}; quorum ${of.quorum_bps / 100} %`}
      mark={of.quorum_bps / 10_000}
      parts={[
        { size: share(yes, total), tone: "blue", name: "yes" },
        { size: share(no, total), tone: "orange", name: "no" },
        { size: share(abstain, total), tone: "grey", name: "abstain" },
      ]}
    />
  );
}

function One({ row }: { row: ProposalInfo }) {
  const left = Date.parse(row.closes) - moment.value;
  return (
    <Panel title="Proposal" width="w6" meta={<Id of={row.proposal} />}>
      <p class="wrap">{row.text}</p>
      <Votes of={row} />
      <ul class="legend">
        <li><i class="blue" />yes {ftns(row.votes.yes, 0)}</li>
        <li><i class="orange" />no {ftns(row.votes.no, 0)}</li>
        <li><i class="grey" />abstain {ftns(row.votes.abstain, 0)}</li>
        <li>the line: quorum of {row.quorum_bps / 100} %; {row.threshold_bps / 100} % must say yes</li>
      </ul>
      <Facts
        rows={[
          ["state", <Sign tone={STATES[row.status]}>{row.status.replace("_", " ")}</Sign>],
          row.status === "open" && ["as votes stand", row.would_be.replace("_", " ")],
          ["vote", left > 0 ? `open for ${span(left)}` : <>closed <Age at={row.closes} /></>],
          ["proposer", <a href={`#/ledger/${row.proposer}`}>{short(row.proposer)}</a>],
          ["deposit", <Ftns of={row.deposit} />],
          ...Object.entries(row.changes).map(([name, value]): [string, string] => [`sets ${name}`, value]),
        ]}
      />
      {row.status === "open" && left > 0 && (
        <div class="row acts-row">
          {(["yes", "no", "abstain"] as const).map((choice) => (
            <Do method="governance_vote" params={{ proposal: row.proposal, choice }} ask={`Vote ${choice} as this home's operator?`}>{choice}</Do>
          ))}
        </div>
      )}
      <h3>Electors</h3>
      <table>
        <thead><tr><th>operator</th><th class="n">weight, FTNS</th><th>says</th></tr></thead>
        <tbody>
          {row.electors.map((who) => (
            <tr><td><Id of={who.operator} /></td><td class="n">{ftns(who.weight, 0)}</td><td>{who.choice ?? (who.delegate ? `as ${short(who.delegate)}` : <span class="quiet">nothing yet</span>)}</td></tr>
          ))}
        </tbody>
      </table>
    </Panel>
  );
}

function Parameters() {
  const view = use("governance_getParameters", {}, { every: 30_000, isKept: true });
  return (
    <Panel title="Parameters of the present" width="w6" meta={view.data && `at height ${view.data.height}`}>
      <Shown view={view} freshFor={90_000}>
        {(now) => (
          <div class="scroll tall" ref={reachable}>
            <table>
              <thead><tr><th>name</th><th class="n">value</th></tr></thead>
              <tbody>{Object.entries(now.values).map(([name, value]) => <tr><td class="mono">{name}</td><td class="n">{value}</td></tr>)}</tbody>
            </table>
          </div>
        )}
      </Shown>
    </Panel>
  );
}
