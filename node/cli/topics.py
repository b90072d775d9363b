"""The pages of `prsm help TOPIC`: first line what it is about, then a page of text.

Knows: words. Must not know: commands' code; a test runs each command line named here.
"""

from typing import Final

TOPICS: Final[dict[str, str]] = {
    "start": """From nothing to a checked result on this machine

Three commands; each says the next one.

    prsm init --dev
    prsm start --detach
    prsm run encoder "a sentence" --proof receipt.json

The first makes a development network: your node, which is its only validator, and three labs that
work for it, all in one folder. The second starts them. The third makes the model if it is not
there yet (encoder: seeded weights, in a second; minilm: MiniLM with its weights), runs it on two
of the labs, compares their answers, pays, and checks the receipt with a program that trusts
nobody. Nothing leaves this machine.

The end: prsm stop, and prsm destroy to delete the folder. To join a network of others, see
`prsm help join`.""",
    "join": """Joining a network of others

Its operators give you a genesis file and the address of a peer.

    prsm init --genesis FILE --bootstrap ADDRESS
    prsm start --detach --unlock
    prsm status --wait ready
    prsm net peers

An account you have already comes along: init --import-key FILE, as prsm wallet export writes it.
The genesis names the first validators: whoever gives you another one shows you another network.
Your node keeps the ledger and can fetch and run models at once. `prsm help validator` says how a
node gets a vote.""",
    "validator": """Getting a vote

    prsm wallet unlock operator
    prsm validator join 1000

The operator's account pays the stake. The node weighs from the epoch that follows. Two nodes with
one consensus key sign against each other, and the stake is lost: never copy keys/consensus.key to
a second running node. `prsm validator leave` gives the vote back; the node must go on until
`prsm validator show` says: gone.""",
    "verify": """What is checked, and what a receipt proves

Each part of a job runs on two workers with accounts of their own (more or fewer: --redundancy). If
they differ, a third decides. Workers sign what they were given and what they answered; the ledger
pays those who agreed. `--redundancy 1-of-1` is checked by sampling alone.

    prsm proof show JOB_ID --output receipt.json
    prsm proof verify receipt.json

The receipt holds the workers' signatures, the block that settled the job and the certificate of
its validators. It is checked from the genesis alone, offline, by a program that shares no code
with the node. It does not prove that the model is a good one, nor that two workers did not
collude.""",
    "money": """Amounts, locks, prices

Amounts are typed in FTNS with up to six decimals and travel as whole micro-FTNS. A job locks what
it can cost at most; what is not used comes back. Commands that spend take --dry-run, which says
the price and locks nothing, and --max-price, above which they refuse. Fees come beside both: each
transaction pays by its size, a job for its lock and for each settlement, so that a small job's
fees may be more than its price. A dry run of a job says about how much (fees).

    prsm run MODEL TEXT --dry-run
    prsm run MODEL TEXT --max-price 0.5
    prsm wallet balance

Money of a development network is worth nothing anywhere else.""",
    "files": """Where everything lies

    prsm where

One folder holds a node. It is 0700, its files 0600. Which one is meant, in this order:

    --home DIR, PRSM_HOME
    what holds a node: ~/.prsm, XDG_DATA_HOME/prsm (or ~/.local/share/prsm), /var/lib/prsm
    a new one: XDG_DATA_HOME/prsm if that is set, else ~/.prsm

    config.toml     what is set               keys/     secrets; back these up
    genesis.json    the network it belongs to data/     ledger, jobs, logs of what was signed
    blocks/         models, by content        models/   model files in use
    run/            lock, cookie, socket      logs/     of a detached node
    labs/           labs of init --dev

A node under systemd has the same folder at /var/lib/prsm, where root's prsm finds it.""",
    "config": """The configuration

    prsm config show --origin        every key, its value, and where that comes from
    prsm config set log.level debug  comments in the file stay
    prsm config diff                 what is not the default, or not what the node runs with
    prsm config migrate              a file of an earlier version

Order: --set of start, then PRSM_SECTION__KEY in the environment, then config.toml, then that of
the machine, then the profile, then the default. An unknown key is refused with the nearest name.
A running node reads it again at its next start: prsm restart.

The machine's is /etc/prsm/config.toml, or what PRSM_SYSTEM_CONFIG names; empty, there is none.""",
    "json": """Programs that use prsm

Every command takes --json: one JSON document on standard output, the answer of the node as it is,
and all else on standard error. `prsm logs` and `prsm rpc subscribe` write one document a line.
Errors are documents too: {"error": {"code", "message", "data": {"reason", "hint", ...}}}.

    --yes                answers every question; without a terminal nothing is asked
    --progress json      how far long work is, one object a line on standard error
    --timeout SECONDS    how long to wait
    NO_COLOR, TERM=dumb  are obeyed; tables on a pipe are separated by tabs

`prsm help exits` lists the exit codes. From Python: `import prsm.client`.""",
    "exits": """Exit codes

    0  done                  4    unauthorised or forbidden
    1  failed                5    deadline passed
    2  usage                 6    verification failed
    3  node unreachable      130  Ctrl-C

Each error has a number: prsm explain PRSM-6008""",
    "trouble": """When something is wrong

    prsm doctor              what is wrong with folder, machine and node, with what to type
    prsm doctor --fix        repairs what can be repaired without a choice
    prsm logs --since 10m    what the node wrote
    prsm explain CODE        what an error means
    prsm job trace ID        when each step of a job began and ended
    prsm job logs ID         what was written about it, here and at labs of this machine
    prsm debug bundle FILE   all of it in one file for others, without secrets

A node that answers slowly: prsm top. One that will not start: its last words are in the error and
in `prsm logs`.""",
    "models": """Models

    prsm model add model.onnx --name NAME
    prsm model pull NAME
    prsm model ls

A model is cut into blocks that are named by their hashes: whoever delivers them cannot change
them. Names and versions are on the ledger, signed by their publishers. `prsm model build` makes
those that ship by recipe. Keys, passwords and inputs are never part of a model.""",
    "privacy": """What leaves this machine

No telemetry. A node talks to the peers of its network, and to IPFS daemons and gateways only if
they were configured. Workers see the inputs they compute on: results are checked, inputs are not
hidden. `--stages-here N` computes the first stages at home, so that inputs stay there.""",
}
