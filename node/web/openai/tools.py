"""Messages and tools of a request in the words of `model_getPrompt`.

Knows: both forms. Must not know: HTTP, how a model is shown them.
"""

import msgspec

from prsm.node.rpc.errors import BadParams
from prsm.node.rpc.methods.chat import ChatMessage, Tool, ToolCall
from prsm.node.web.openai.faults import ParameterUnsupported
from prsm.node.web.openai.forms import Called, ChatRequest, Message


def messages_of(wish: ChatRequest) -> tuple[ChatMessage, ...]:
    """The turns of a conversation.

    Raises:
        BadParams: the arguments of an earlier call are no JSON object.
    """
    return tuple(_message(place, one) for place, one in enumerate(wish.messages))


def tools_of(wish: ChatRequest) -> tuple[Tool, ...]:
    """The tools a model is shown; none where it may not call any.

    Raises:
        ParameterUnsupported: what no model here is held to: one call at most, or a strict schema.
    """
    if wish.tool_choice == "none" or not wish.tools:
        return ()
    if not wish.parallel_tool_calls:
        raise _unsupported("parallel_tool_calls")
    for place, tool in enumerate(wish.tools):
        if tool.function.strict:
            raise _unsupported(f"tools[{place}].function.strict")
    return tuple(
        Tool(one.function.name, one.function.description or "", one.function.parameters or {})
        for one in wish.tools
    )


def _message(place: int, one: Message) -> ChatMessage:
    role = "system" if one.role == "developer" else one.role
    calls = tuple(_call(place, call) for call in one.tool_calls)
    return ChatMessage(role, one.text, calls, one.tool_call_id)


def _call(place: int, call: Called) -> ToolCall:
    try:
        arguments = msgspec.json.decode(call.function.arguments or "{}", type=dict[str, object])
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError) as error:
        raise BadParams(
            f"the arguments of call {call.id!r} are no JSON object",
            field=f"messages[{place}].tool_calls",
        ) from error
    return ToolCall(call.id, call.function.name, arguments)


def _unsupported(name: str) -> ParameterUnsupported:
    return ParameterUnsupported(f"{name} is not supported", field=name)
