"""Every bound on the wire, with its reason. Peers must agree on these; the rest is config."""

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

# Frames (docs/spec/wire.md). A control frame must hold a block proposal (512 KiB) and the
# votes of a NEWVIEW at 32 validators (0.1 MiB); bulk chunks stay far below their cap.
CTL_FRAME_BYTES_MAX: Final = 1 * MIB
BULK_FRAME_BYTES_MAX: Final = 4 * MIB
FRAME_HEAD_BYTES_MAX: Final = 1 * MIB
GOSSIP_RECORD_BYTES_MAX: Final = 64 * KIB
TENSOR_CHUNK_BYTES_MAX: Final = 256 * KIB

# Peers (docs/spec/wire.md). A caller never has more calls open on a stream than the other side
# runs, so an honest node is not refused; a hello is far below a frame.
CALLS_OPEN_MAX: Final = 32  # of one peer on one stream
HELLO_BYTES_MAX: Final = 4 * KIB
HELLO_ADDRESSES_MAX: Final = 8

# Reach (docs/spec/wire.md). A circuit holds at most a window of bytes each way at each hop; a piece
# is small beside the tensors on the same stream. A node has at most 128 peers.
CIRCUIT_WINDOW_BYTES: Final = 256 * KIB
CIRCUIT_PIECE_BYTES_MAX: Final = 64 * KIB
LINKS_TOLD_MAX: Final = 128
PEER_TEXT_MAX: Final = 64  # 52 letters of an Ed25519 key

# Finding peers (docs/spec/wire.md). An answer is below 20 KiB; a book is asked a part at a time.
ADDRESSES_TOLD_MAX: Final = 64
PEERS_MAX: Final = 128  # links of a node: 120 inbound and the outbound quota of 8
HOLDERS_TOLD_MAX: Final = 16

# Canonical msgpack. One MiB of empty arrays would become 64 MiB of objects, so arrays are
# counted over the whole value, not only one by one.
ARRAY_LENGTH_MAX: Final = 2048
ARRAYS_TOTAL_MAX: Final = 16_384
NESTING_MAX: Final = 16
INT_MAX: Final = 2**63 - 1  # also the largest INTEGER of SQLite

# Consensus
VALIDATORS_MAX: Final = 32
GENESIS_ALLOCATIONS_MAX: Final = 2**20  # a file, never on the wire; as many as the tree's buckets
BLOCK_BODY_BYTES_MAX: Final = 512 * KIB
BLOCK_TRANSACTIONS_MAX: Final = 2000
BLOCK_EVIDENCE_MAX: Final = 16
# A COMMIT and a VIEW_CHANGE with two certificates of 32 signatures: 5 KiB.
EVIDENCE_BYTES_MAX: Final = 16 * KIB
# A settlement shows up to five receipts of one unit; four of the largest fill a block.
TRANSACTION_BYTES_MAX: Final = 128 * KIB
SYNC_BLOCKS_MAX: Final = 64
TREE_BITS_MAX: Final = 20  # a million buckets, for a million accounts
SYNC_BYTES_MAX: Final = BULK_FRAME_BYTES_MAX - 64 * KIB  # of a frame's tail: chunks
# Committed blocks of one answer; they stand in a frame's head, which canonical decoding bounds.
BLOCKS_BYTES_MAX: Final = FRAME_HEAD_BYTES_MAX - 64 * KIB

# Snapshots (docs/spec/storage.md). A chunk is asked for within a stall timer of seconds; a state
# of 2,048 chunks is far above what a node keeps in memory. 64 epochs at 32 validators are 0.6 MiB.
CHUNK_BYTES_MAX: Final = 1 * MIB  # of more than one bucket
# Keys can be ground into one bucket of the tree: such a chunk takes several frames.
BUCKET_BYTES_MAX: Final = 64 * MIB
SNAPSHOT_CHUNKS_MAX: Final = 2048
EPOCH_HEADERS_MAX: Final = 64

# Transactions by id (docs/spec/wire.md, "Transactions"). One announcement is 17 KiB; an answer is
# a fourth of a frame, so that work on the same stream is not held up for long.
PENDING_IDS_MAX: Final = 512
PULLED_MAX: Final = 256
PULLED_BYTES_MAX: Final = 1 * MIB

# Gossip and its repair (docs/spec/wire.md, "Gossip"). A list is 17 KiB and an answer a seventh of a
# control frame, so that no vote waits behind them; the largest record still fits an answer.
GOSSIP_KEY_BYTES_MAX: Final = 64
GOSSIP_TOPICS_MAX: Final = 16
GOSSIP_SUMS_MAX: Final = 8  # ages of records compared apart
LISTED_MAX: Final = 512
PULLED_RECORDS_MAX: Final = 128
PULLED_RECORDS_BYTES_MAX: Final = 128 * KIB

# Work
WORK_STAGES_MAX: Final = 32
WORK_WORKERS_MAX: Final = 64
WORK_BATCHES_MAX: Final = 1024  # of a job; a unit holds so many that its receipts fit (below)
UNIT_WORKERS_MAX: Final = 5  # three equal opinions of five
BATCH_RESULT_BYTES_MAX: Final = 114  # of a receipt: two numbers and three roots
RECEIPT_HEAD_BYTES_MAX: Final = 512  # of a receipt, all but its batches
SETTLE_HEAD_BYTES_MAX: Final = 4 * KIB  # of a settling transaction, all but its receipts
PLEDGERS_MAX: Final = 512  # accounts that may be drawn as auditors; each costs a hash at a draw
AUDITORS_MAX: Final = 3  # of one draw: the first of them to answer is heard
JURORS_MAX: Final = 7  # of one case
TENSORS_PER_MESSAGE_MAX: Final = 64
TENSOR_RANK_MAX: Final = 8
TENSOR_DIM_MAX: Final = 2**31 - 1
TENSOR_BYTES_MAX: Final = 64 * MIB
# Relative L2 of a row at which results of two classes are the same: honest ones were at most
# 8e-7 apart, one weight moved by 0.05 at least 4e-6 (docs/spec/work.md, "Audits").
TOLERANCE_PPB: Final = 3_000

# Membership (docs/spec/ledger.md, "Epochs"). Each bounds what the border of an epoch reads.
ROSTER_MAX: Final = 128  # operators: members, and who waits to become one
LEAVING_MAX: Final = 16  # parts of a bond on their way out; more are joined

# Holds (docs/spec/ledger.md). What a claim makes every node compute is bounded before it runs.
HOLD_BRANCHES_MAX: Final = 4
CONDITION_DEPTH_MAX: Final = 4
CONDITION_STEPS_MAX: Final = 64  # nodes and keys of one branch
APPROVALS_MAX: Final = 16  # signatures of one claim: about a millisecond
PREIMAGES_MAX: Final = 4
PREIMAGE_BYTES_MAX: Final = 64

# Storage
BLOCK_BYTES_MAX: Final = 2 * MIB
LEAF_BYTES: Final = 1 * MIB
RANGE_LEAVES_MAX: Final = 16
MANIFEST_BYTES_MAX: Final = 256 * KIB
MANIFEST_FILES_MAX: Final = 1024
# A graph with more weights than this keeps them beside it: protobuf ends at 2 GiB, pinning takes
# a message nine times in memory. It decides about the bytes of a pin, so all must agree.
WEIGHTS_INSIDE_BYTES_MAX: Final = 256 * MIB
# One message of a unix socket carries 253 descriptors: a child gets its files in one.
SHARD_WEIGHTS_MAX: Final = 224
MANIFEST_KEYS_MAX: Final = 64  # whom a sealed model is wrapped for
CARD_BYTES_MAX: Final = 64 * KIB  # what is read about a model before any of it is fetched
CARD_TEXT_MAX: Final = 8 * KIB

# Custody (docs/spec/ledger.md). 92 samples in each of five rounds miss a hundredth of a file in
# 0.99^460 < 1 % of cases; a cell is as small as its path. One answer fits a transaction, and a
# block holds two at most, a quarter of its bytes.
CELL_BYTES: Final = 128
CELLS_ASKED: Final = 92
DEAL_BYTES_MAX: Final = 2048 * MIB  # 20 shards of 100 MB: a placed model
PROOF_NODES_MAX: Final = 1_600  # 32 bytes each, for a file of that size and the worst samples
PROOFS_PER_BLOCK_MAX: Final = 2
DEAL_ROUNDS_MAX: Final = 2**17  # a year of rounds of five minutes

# Copies (docs/spec/storage.md). More than seven of one model help nobody's reading.
COPIES_MAX: Final = 7

# Names and texts
NAME_BYTES_MAX: Final = 64
TEXT_BYTES_MAX: Final = 1024
ADDRESS_TEXT_MAX: Final = 256

# A proposal of full size must fit one control frame with its head and evidence.
assert BLOCK_BODY_BYTES_MAX + 128 * KIB < CTL_FRAME_BYTES_MAX
assert SYNC_BYTES_MAX < BULK_FRAME_BYTES_MAX
assert BLOCK_BODY_BYTES_MAX + 128 * KIB < BLOCKS_BYTES_MAX < FRAME_HEAD_BYTES_MAX
assert CHUNK_BYTES_MAX < SYNC_BYTES_MAX < BUCKET_BYTES_MAX
assert SNAPSHOT_CHUNKS_MAX <= ARRAY_LENGTH_MAX
assert TRANSACTION_BYTES_MAX < PULLED_BYTES_MAX
assert BLOCK_TRANSACTIONS_MAX <= ARRAY_LENGTH_MAX
assert GOSSIP_RECORD_BYTES_MAX < PULLED_RECORDS_BYTES_MAX
# Payload, branches, branch, then a predicate and its list by level, and the keys of the last.
assert 3 + 2 * CONDITION_DEPTH_MAX + 1 <= NESTING_MAX
assert (
    WORK_BATCHES_MAX * BATCH_RESULT_BYTES_MAX + RECEIPT_HEAD_BYTES_MAX + SETTLE_HEAD_BYTES_MAX
    <= TRANSACTION_BYTES_MAX
)
assert CELLS_ASKED * CELL_BYTES + 32 * PROOF_NODES_MAX + 512 < TRANSACTION_BYTES_MAX
assert (
    4 * PROOFS_PER_BLOCK_MAX * (CELLS_ASKED * CELL_BYTES + 32 * PROOF_NODES_MAX + 512)
    <= BLOCK_BODY_BYTES_MAX
)
