"""Errors of datasets, evaluations and plans (31xx): what happened, why it happens, what to type.

The form of a row is in `reasons`. Knows: words. Must not know: who raises what.
"""

from typing import Final

ROWS: Final = """
bad_dataset -32035 3100 usage: this is no dataset
  the file has another form, or its slices lack labels
  see docs/spec/storage.md, Slices
not_scorable -32035 3109 failed: no class can be read from the outputs
  the first output is neither scores of classes nor whole numbers
  prsm model show REF
bad_plan -32602 3101 usage: the plan cannot run as it stands
  a step lacks its input, or has too much of it
  see docs/spec/work.md, Plans
too_many_steps -32602 3102 usage: the plan has too many steps
  one plan holds a bounded number of them
  run it in parts
unknown_step -32602 3103 usage: a step of the plan is not there
  it is named by another step, or twice
  see docs/spec/work.md, Plans
plan_cycle -32602 3104 usage: steps of the plan wait for one another
  no step of a circle can be the first
  see docs/spec/work.md, Plans
wrong_flow -32602 3105 usage: a step cannot take what another gives
  a search takes vectors; tensors go by name
  see docs/spec/work.md, Plans
over_budget -32014 3106 usage: the steps may cost more than the plan
  limits of steps add up to more than the budget
  raise --budget
plan_expired -32013 3107 failed: the escrow of the plan is closed
  its deadline passed before the steps were done
  submit it again
too_many_tries -32033 3108 failed: a step was begun too often
  the node ended again and again while it was at work
  submit it again
"""
