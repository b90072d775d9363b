"""Errors of conversations and of doors of another form (108x, 111x): what, why, what to type.

The form of a row is in `reasons`. Knows: words. Must not know: who raises what.
"""

from typing import Final

ROWS: Final = """
no_chat_form -32009 1080 usage: the model was not made for conversations
  its tokenizer has none of the special tokens that mark turns
  use /v1/completions or prsm generate; or ask for the plain form: "prsm": {"form": "plain"}
no_embedding -32009 1081 usage: the model gives no embeddings
  its first output is not one row of float32 for each text
  prsm model search "sentence similarity"
parameter_unsupported -32602 1082 usage: a parameter of the OpenAI API is not supported
  this node would not do what it says, so it refuses instead of leaving it out
  leave it out; what is supported: docs/spec/rpc.md
tools_unsupported -32009 1110 usage: the model calls no tools
  it has no template of its own, or one that names no way of calling tools this node knows
  leave tools out, or take a model whose template has <tool_call>: prsm model add --chat-template
budget_spent -32014 1083 failed: more than the budget of this server allows
  prsm mcp locks at most what --budget says, over all its calls
  prsm mcp --budget FTNS
"""
