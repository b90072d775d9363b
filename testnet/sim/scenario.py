"""Scripts of single cores by hand: `command`, `----`, what came of it. Reviewed as a diff.

`python -m prsm.testnet.sim.scenario FILE...` prints the first difference and exits with 1;
`--rewrite` writes what the code does now. Blocks are named A, B, ... in the order they appear.
Source of the form: etcd-raft's testdata.

Commands (nodes are numbers, a list has commas, KIND is a message kind; "quietly" behind a
command hides what came of it):
  start STAKES [H=STAKES...]   a network; nobody has heard of anybody yet. An epoch ends at each
                          height H, and there the members of the epoch after the next are fixed:
                          a stake of 0 is no member, a negative one signs with its second key
  greet [NODES]           they exchange STATUS
  submit TX [NODES]       a transaction reaches mempools
  deliver [KIND] [from NODES] [to NODES]   what was sent so far; without arguments until quiet
  drop    [KIND] [from NODES] [to NODES]
  time MS                 time passes, everybody gets a Tick
  answer                  peers answer every fetch that is open
  crash NODES | restart NODES | forget NODE COUNT   (its ledger loses its last blocks)
  vote NODE KIND H/V BLOCK to NODES        a liar signs what its core did not order
  hide NODE H/V to NODES  a liar's VIEW_CHANGE that shows nothing prepared
  segment NODE            its log begins a new segment: older records are dropped
  twin NODE to NODES      a liar's second block for its last PROPOSE
  show                    where everybody stands
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from prsm.consensus.pbft import heights, replica, statuses
from prsm.consensus.pbft.effects import (
    Fetch,
)
from prsm.consensus.pbft.events import (
    Decided,
    Fetched,
    Heard,
    Received,
    Tick,
    Waiting,
)
from prsm.consensus.pbft.opened import Opened, open_message
from prsm.protocol import merkle
from prsm.protocol.codec import encode
from prsm.protocol.headers import Block, block_hash
from prsm.protocol.messages.consensus import (
    Proposal,
    SignedMessage,
    ViewChange,
    sign_message,
)
from prsm.protocol.signing import Kind
from prsm.testnet.sim.plan import index_of, peer_of
from prsm.testnet.sim.stage import Actor, Stage


def run_script(text: str) -> str:
    """Run a script; return it with the output the code gives now."""
    stage: Stage | None = None
    out = []
    for part in text.strip().split("\n\n"):
        commands = part.split("\n----")[0]
        lines = [line for line in commands.splitlines() if line and not line.startswith("#")]
        if not lines:
            out.append(commands)
            continue
        shown: list[str] = []
        for line in lines:
            stage = _command(stage, line.removesuffix(" quietly"))
            shown += [] if line.endswith(" quietly") else stage.lines
            stage.lines = []
        out.append("\n".join([commands, "----", *(shown or ["ok"])]))
    return "\n\n".join(out) + "\n"


def _command(stage: Stage | None, line: str) -> Stage:
    word, *arguments = line.split()
    if word == "start":
        ends = (text.split("=") for text in arguments[1:])
        return Stage(_numbers(arguments[0]), {int(at): _numbers(text) for at, text in ends})
    assert stage is not None, "a script begins with start"
    _COMMANDS[word](stage, arguments)
    return stage


def _greet(stage: Stage, arguments: list[str]) -> None:
    for actor in _chosen(stage, arguments):
        for other in stage.actors:
            if other is not actor and other.state is not None:
                status = statuses.status_for(other.state, peer_of(actor.index))
                stage.take(actor, Heard(peer_of(other.index), status))


def _submit(stage: Stage, arguments: list[str]) -> None:
    for actor in _chosen(stage, arguments[1:]):
        actor.pool.append(b"t " + arguments[0].encode())
        stage.take(actor, Waiting(transactions=True))


def _deliver(stage: Stage, arguments: list[str]) -> None:
    matches = _filter(arguments)
    while True:
        taken = [entry for entry in stage.queue if matches(entry)]
        stage.queue = [entry for entry in stage.queue if not matches(entry)]
        for _, receiver, opened in taken:
            stage.take(stage.actors[receiver], Received(opened))
        if arguments or not taken:
            return


def _drop(stage: Stage, arguments: list[str]) -> None:
    matches = _filter(arguments)
    stage.queue = [entry for entry in stage.queue if not matches(entry)]


def _time(stage: Stage, arguments: list[str]) -> None:
    stage.now_ms += int(arguments[0])
    for actor in stage.actors:
        stage.take(actor, Tick())


def _answer(stage: Stage, _arguments: list[str]) -> None:
    fetches, stage.fetches = stage.fetches, []
    for index, fetch in fetches:
        actor = stage.actors[index]
        for peer in map(index_of, fetch.peers) if fetch.peers else range(len(stage.actors)):
            if peer != index and _serve(stage, actor, stage.actors[peer], fetch):
                break


def _serve(stage: Stage, actor: Actor, peer: Actor, fetch: Fetch) -> bool:
    """Answer a fetch from one peer; True if it had something."""
    blocks = peer.ledger.blocks[fetch.first - 1 : fetch.last]
    if fetch.block_hash is None:
        for decided, certificate in blocks:
            stage.take(actor, Decided(decided, certificate))
        return bool(blocks)
    block: Block | None = blocks[0][0] if blocks else None
    if block is None and peer.state is not None:
        block = replica.body(peer.state, fetch.first, fetch.block_hash)
    if block is None or block_hash(block.header) != fetch.block_hash:
        return False
    stage.take(actor, Fetched(block))
    return True


def _crash(stage: Stage, arguments: list[str]) -> None:
    for actor in _chosen(stage, arguments):
        actor.state = None
        stage.queue = [entry for entry in stage.queue if entry[1] != actor.index]


def _restart(stage: Stage, arguments: list[str]) -> None:
    for actor in _chosen(stage, arguments):
        actor.state = replica.start(actor.config, actor.ledger.tip, actor.log, None)


def _forget(stage: Stage, arguments: list[str]) -> None:
    stage.actors[int(arguments[0])].ledger.forget(int(arguments[1]))


def _segment(stage: Stage, arguments: list[str]) -> None:
    for actor in _chosen(stage, arguments):
        assert actor.state is not None
        actor.log = list(heights.checkpoint(actor.state))


def _vote(stage: Stage, arguments: list[str]) -> None:
    index, kind, text, block, _, receivers = arguments
    actor = stage.actors[int(index)]
    height, _, view = text.partition("/")
    digest = next((known for known, name in stage.names.items() if name == block), bytes(32))
    validators = actor.ledger.tip.validators
    seat, signer = actor.config.signer_in(validators)
    assert seat is not None
    assert signer is not None
    place = (validators.epoch, int(height), int(view))
    message = sign_message(
        SignedMessage(Kind[kind], *place, digest, seat, b""), signer, actor.config.chain_id
    )
    stage.send(actor.index, message, _numbers(receivers))


def _hide(stage: Stage, arguments: list[str]) -> None:
    index, text, _, receivers = arguments
    actor = stage.actors[int(index)]
    height, _, view = text.partition("/")
    tip = actor.ledger.tip
    seat, signer = actor.config.signer_in(tip.validators)
    assert seat is not None
    assert signer is not None
    body = encode(ViewChange(tip.certificate, None))
    place = (tip.validators.epoch, int(height), int(view))
    unsigned = SignedMessage(Kind.VIEW_CHANGE, *place, body, seat, b"")
    message = sign_message(unsigned, signer, actor.config.chain_id)
    stage.send(actor.index, message, _numbers(receivers))


def _twin(stage: Stage, arguments: list[str]) -> None:
    actor = stage.actors[int(arguments[0])]
    assert actor.proposed is not None
    proposal = open_message(actor.proposed).proposal
    assert proposal is not None
    block = proposal.block
    transactions = (*block.body.transactions, b"t twin")
    header = msgspec.structs.replace(
        block.header,
        tx_root=merkle.root(transactions),
        view=actor.proposed.view,
        proposer=actor.index,
    )
    body = msgspec.structs.replace(block.body, transactions=transactions)
    changed = encode(Proposal(Block(header, body), proposal.new_view))
    unsigned = msgspec.structs.replace(actor.proposed, body=changed)
    message = sign_message(unsigned, actor.signer, actor.config.chain_id)
    opened = open_message(message)
    stage.say(actor, "twin " + stage.message_text(opened))
    stage.queue.extend((actor.index, receiver, opened) for receiver in _numbers(arguments[2]))


def _show(stage: Stage, _arguments: list[str]) -> None:
    for actor in stage.actors:
        state = actor.state
        if state is None:
            stage.say(actor, "down")
            continue
        instance = state.instance
        stage.say(
            actor,
            f"at {instance.height}/{instance.view} {instance.phase.value}, tip {state.tip.height}, "
            f"low {state.low}"
            + (f", epoch {epoch.number}" if (epoch := state.tip.epoch).number else "")
            + (", no member" if instance.own is None else "")
            + (", observer" if state.observer else ""),
        )


_COMMANDS: Final[dict[str, Callable[[Stage, list[str]], None]]] = {
    "greet": _greet,
    "submit": _submit,
    "deliver": _deliver,
    "drop": _drop,
    "time": _time,
    "answer": _answer,
    "crash": _crash,
    "restart": _restart,
    "forget": _forget,
    "segment": _segment,
    "vote": _vote,
    "hide": _hide,
    "twin": _twin,
    "show": _show,
}


def _filter(arguments: list[str]) -> Callable[[tuple[int, int, Opened]], bool]:
    kinds = {Kind[word] for word in arguments if word in Kind.__members__}
    senders = _after(arguments, "from")
    receivers = _after(arguments, "to")

    def matches(entry: tuple[int, int, Opened]) -> bool:
        sender, receiver, opened = entry
        return (
            (not kinds or opened.message.kind in kinds)
            and (senders is None or sender in senders)
            and (receivers is None or receiver in receivers)
        )

    return matches


def _after(arguments: list[str], word: str) -> list[int] | None:
    return _numbers(arguments[arguments.index(word) + 1]) if word in arguments else None


def _chosen(stage: Stage, arguments: list[str]) -> list[Actor]:
    return [stage.actors[index] for index in _numbers(arguments[0])] if arguments else stage.actors


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare or rewrite scripts; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m prsm.testnet.sim.scenario")
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--rewrite", action="store_true")
    options = parser.parse_args(arguments)
    wrong = 0
    for path in options.files:
        text = path.read_text()
        now = run_script(text)
        if options.rewrite:
            path.write_text(now)
        elif now != text:
            wrong += 1
            sys.stdout.write(f"{path}: the code does something else\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
