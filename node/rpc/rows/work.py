"""Errors of models and work (3xxx): what happened, why it happens, what to type.

The form of a row is in `reasons`. Knows: words. Must not know: who raises what.
"""

from typing import Final

ROWS: Final = """
model_not_found -32030 3001 failed: no such model
  neither this node nor the ledger knows the name
  prsm model ls
integrity_failed -32031 3002 unverified: the bytes do not match their hash
  a disk or a peer gave other bytes than were stored
  prsm model pull REF
no_placement -32032 3003 failed retry: no peers for this plan
  too few connected peers offer what the job needs
  prsm net peers
worker_failed -32033 3004 failed retry: a worker process failed
  it died or broke its protocol
  see the log: prsm where
verification_failed -32034 3005 unverified: verification failed
  answers, proofs or hashes do not agree
  prsm proof verify FILE
input_mismatch -32035 3006 usage: the input does not fit the model
  name, dtype or shape is another one
  prsm model show REF
out_of_memory -32036 3007 failed: the worker ran out of memory
  the job needs more than executor.memory
  raise executor.memory in config.toml
does_not_fit -32036 3034 failed: it does not fit into a worker
  loading takes more than executor.memory
  prsm model shard MODEL --plan
model_refused -32040 3008 failed: the model is refused
  external data, forbidden operators, or results that differ
  prsm explain PRSM-3008
no_cut_for_k -32602 3009 usage: the model cannot be cut so
  its graph has no such cut
  choose another number of stages
bad_receipt -32034 3010 unverified: the receipt does not hold
  a hash, signature or quorum in it is wrong
  prsm proof verify FILE
job_failed -32033 3011 failed retry: the job failed
  its workers failed or disagreed
  prsm job show JOB
bad_proof -32034 3012 unverified: the proof does not hold
  a hash, signature or quorum in it is wrong
  prsm proof verify FILE
draining -32005 3073 failed retry: the node takes no new work
  it is about to end, or its operator looks after it
  prsm worker offer
work_refused -32033 3013 failed: a peer refuses this work
  its answer says why
  prsm net peers
unknown_job -32003 3014 failed: no such job here
  the ledger of that node does not know it, or the unit is not open
  prsm job ls
not_named -32002 3015 forbidden: the job does not name this node for that unit
  the lock names other workers, or another account asks
  prsm job show JOB
job_closed -32013 3016 failed: the job is over
  it was settled, refunded, or its deadline passed
  prsm job show JOB
price_below_ask -32014 3017 failed: the job pays less than the worker asks
  prices differ between peers and change
  raise --max-price
no_bond -32014 3070 failed: the worker has too little pledged to do this alone
  work that nobody compares needs a bond, twenty times its price
  prsm run --redundancy 2-of-3
wrong_result -32033 3072 failed: a worker's answer is not what the model makes of the rows
  nobody compared it; this node ran a batch again, or knew one answer
  prsm run --redundancy 2-of-3
unserved -32003 3071 failed retry: nobody serves what a check needs
  requester and worker of that batch are away, or keep it no more
  prsm net peers
unit_incomplete -32013 3018 failed retry: not every micro-batch of the unit was done
  the worker was lost or too slow
  prsm job show JOB
batch_too_large -32008 3019 usage: a micro-batch is too large
  its tensors pass what one message may hold
  ask for fewer rows or shorter texts at once
not_committed -32006 3020 deadline retry: the chain did not take it in time
  a transaction is in no block yet; it may still come into one
  prsm chain status
not_finished -32007 3021 failed retry: the job has no result yet
  it is still running
  prsm job show JOB
worker_lost -32033 3022 failed retry: a worker was lost
  it was unreachable, refused, too slow, or answered in another form
  prsm job show JOB
rows_differ -32035 3023 usage: the rows have different shapes
  rows of one tensor must be alike
  give rows of one shape, or texts
no_quorum_of_results -32034 3024 unverified retry: no two workers agree
  workers failed, or more than one gave a wrong answer
  prsm job show JOB
job_too_large -32008 3025 usage: the job is too large
  its rows or tensors pass what one job may hold
  run it in parts
plan_refused -32032 3026 failed: no plan for this job
  the model, the peers or the limits leave none
  prsm model show REF
too_few_peers -32032 3027 failed retry: too few peers
  replicas must be distinct peers, and one more must be free to decide
  prsm net peers
runtime_mismatch -32032 3028 failed: no peers of the model's runtime
  bits are equal only between equal runtimes
  prsm net peers
price_over_cap -32014 3029 failed: the plan costs more than allowed
  the peers ask more than --max-price
  raise --max-price
deadline_impossible -32006 3030 usage: the deadline cannot be met
  the job takes longer than that even if nothing goes wrong
  give more with --deadline
too_many_batches -32008 3031 usage: too many micro-batches
  one job holds a bounded number of them
  run it in parts
class_missing -32032 3035 failed: no determinism class is shared by enough workers
  their processors compute other bits, so their results cannot be compared by hash
  prsm run MODEL FILE --redundancy 1-of-1
link_bound -32032 3036 failed: the links are too slow for these stages
  the tensors between stages need more bandwidth than was measured
  ask for 1 stage, or a later deadline
session_quota -32008 3037 failed: the session cache is too large
  it takes more memory than a worker has beside the shard
  ask for fewer tokens, or for more stages
batch_not_joinable -32602 3038 usage: rows of this model cannot be joined with others
  it is quantised dynamically: another batch gives another result
  ask without joining
op_refused -32040 3039 failed: every worker refuses this model
  its graph has an operator their gate does not let pass
  prsm explain PRSM-3008
audit_pending -32007 3041 failed retry: the unit waits for its audit
  it was drawn to be computed again by another worker before it is paid
  prsm job show JOB
quote_expired -32014 3040 failed retry: the quote is over
  it was valid until an earlier block time
  prsm quote MODEL
interrupted -32007 3032 failed: the node ended while the job or task was at work
  what was locked and not settled comes back after the job's deadline
  run it again
not_kept -32007 3033 failed: the answer ended with the process that had it
  answers above 16 MiB are not kept over a restart
  run it again
"""
