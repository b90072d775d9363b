"""Chat templates: what they may use, what they may not reach, and every way in which they fail."""

import pytest

from prsm.node.worker.template import Conversation, Program, calls_of, read_program, write
from prsm.protocol.messages.chats import WRITTEN_CHARS_MAX
from prsm.protocol.messages.pipe import InputMismatch, ModelRefused

HI: list[dict[str, object]] = [{"role": "user", "content": "Hi"}]
TOOL: dict[str, object] = {
    "type": "function",
    "function": {"name": "add", "description": "a < b", "parameters": {"type": "object"}},
}
# In the manner of the templates that ship with ChatML models.
CHATML = """{%- if tools %}
    {{- '<|im_start|>system\\n<tools>' }}
    {%- for tool in tools %}
        {{- "\\n" }}{{- tool | tojson }}
    {%- endfor %}
    {{- '\\n</tools>\\nAnswer in <tool_call></tool_call>.<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'assistant' and message.tool_calls %}
        {{- '<|im_start|>assistant' }}
        {%- for call in message.tool_calls %}
            {%- set call = call.function %}
            {{- '\\n<tool_call>\\n{"name": "' + call.name + '", "arguments": ' }}
            {{- call.arguments | tojson }}{{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"""


def said(
    text: str,
    messages: list[dict[str, object]] | None = None,
    tools: list[dict[str, object]] | None = None,
    **names: str,
) -> str:
    return write(Program(text, names), Conversation(messages or HI, tools or [], 1_700_000_000))


def test_conversation_with_tools_and_a_call_is_written_as_the_template_says() -> None:
    call: dict[str, object] = {"function": {"name": "add", "arguments": {"a": "é"}}}
    turns: list[dict[str, object]] = [*HI, {"role": "assistant", "tool_calls": [call]}]
    assert said(CHATML, turns, [TOOL]) == (
        "<|im_start|>system\n<tools>\n"
        '{"type": "function", "function": {"name": "add", "description": "a < b", '
        '"parameters": {"type": "object"}}}\n'
        "</tools>\nAnswer in <tool_call></tool_call>.<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n"
        '<|im_start|>assistant\n<tool_call>\n{"name": "add", "arguments": {"a": "é"}}\n'
        "</tool_call><|im_end|>\n<|im_start|>assistant\n"
    )
    assert said(CHATML) == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize(
    ("text", "due"),
    [
        ("{{ bos_token }}{{ messages[-1]['content'] | trim }}", "<s>Hi"),
        ("{{ strftime_now('%d %b %Y') }}", "14 Nov 2023"),
        ("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "01"),
        ("{% generation %}a{{ 1 }}{% endgeneration %}b", "a1b"),
        ("{% set ns = namespace(a=1) %}{% set ns.a = 2 %}{{ ns.a }}", "2"),
        ("{{ tools is none }}{{ messages[::-1] | length }}", "True1"),
        ("  {% if true %}\nx\n  {% endif %}\n", "x\n"),
        ("{{ 'a</think>b'.split('</think>')[-1].lstrip('\\n') }}", "b"),
        ("{{ {'b': 1, 'a': '<é>'} | tojson }}", '{"b": 1, "a": "<é>"}'),
        ("{{ {'a': 1} | tojson(indent=2) }}", '{\n  "a": 1\n}'),
        ("{{ {'a': 1} | pprint }}", "{'a': 1}"),
        ("{{ eos_token is defined }}", "False"),
    ],
)
def test_names_that_templates_of_this_form_use(text: str, due: str) -> None:
    assert said(text, bos_token="<s>") == due


@pytest.mark.parametrize(
    "text",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.__init__.__globals__ }}",
        "{{ raise_exception.__globals__['json'] }}",
        "{{ strftime_now.__closure__[0].cell_contents }}",
        "{{ self.__init__.__globals__['__builtins__'] }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ namespace.__init__.__globals__ }}",
        "{{ (''|attr('__class__')).__mro__ }}",
        "{{ '{0.__class__.__mro__}'.format('') + ''.__class__.x }}",
        "{{ '%c' | format(messages.append) }}",
        "{{ messages.append({}) }}",
        "{{ messages[0].update({'role': 'system'}) }}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}",
        "{% extends '/etc/passwd' %}",
        "{{ lipsum() }}",
        "{{ messages | random }}",
        "{{ open('/etc/passwd') }}",
        "{{ range(999999) }}",
        "{{ strftime_now('%Y' * 99) }}",
        "{% for",
        "{{ 1 / 0 }}",
        "{{ messages[7].content }}",
        "{{ nothing.at.all }}",
        "{{ 'a' + 1 }}",
        "{{ " + "(" * 5000 + ")" * 5000 + " }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{{ 'ab' * 1000000 }}",
        "{% for i in range(99999) %}aaaaaaaaaaaaaaaaaaaa{% endfor %}",
    ],
)
def test_hostile_or_broken_template_ends_in_a_typed_error(text: str) -> None:
    with pytest.raises((ModelRefused, InputMismatch)):
        said(text)


@pytest.mark.parametrize(
    "text",
    [
        "{{ ''.__class__ }}",
        "{{ raise_exception.__globals__ }}",
        "{{ '{0.__class__}'.format('') }}",
        "{{ '{a.__class__}'.format_map({'a': 1}) }}",
        "{{ messages.__class__ }}{{ self.__dict__ }}{{ strftime_now.__code__ }}",
    ],
)
def test_objects_of_the_interpreter_are_not_there(text: str) -> None:
    assert said(text) == ""


def test_template_that_refuses_is_quoted_in_one_bounded_line() -> None:
    with pytest.raises(InputMismatch, match="refuses the conversation: roles must") as caught:
        said("{{ raise_exception('roles must\\n\x1b[31m alternate' + 'x' * 999) }}")
    assert len(caught.value.what) < 300
    assert caught.value.what.isprintable()


def test_what_is_written_is_bounded() -> None:
    most = "{{ 'a' * %d }}"
    assert len(said(most % WRITTEN_CHARS_MAX)) == WRITTEN_CHARS_MAX
    with pytest.raises(ModelRefused, match="writes over"):
        said(most % (WRITTEN_CHARS_MAX + 1))


def test_own_file_wins_and_one_of_several_is_chosen() -> None:
    config = b'{"chat_template": "config", "bos_token": {"content": "<s>"}, "eos_token": "</s>"}'
    found = read_program(b"own", config, with_tools=False)
    assert found == Program("own", {"bos_token": "<s>", "eos_token": "</s>"})
    found = read_program(None, config, with_tools=True)
    assert found is not None
    assert found.text == "config"
    several = b'{"chat_template": [{"name": "default", "template": "d"}, '
    several += b'{"name": "tool_use", "template": "t"}]}'
    for with_tools, due in ((False, "d"), (True, "t")):
        found = read_program(None, several, with_tools=with_tools)
        assert found is not None
        assert found.text == due
    for nothing in (None, b"{}", b'{"chat_template": []}'):
        assert read_program(None, nothing, with_tools=False) is None


@pytest.mark.parametrize(
    ("template", "config"),
    [
        (b"\xff", None),
        (None, b"junk"),
        (None, b"\xff"),
        (None, b"[" * 5000),
        (None, b'{"chat_template": 3}'),
    ],
)
def test_files_that_are_not_what_they_say_are_refused(
    template: bytes | None, config: bytes | None
) -> None:
    with pytest.raises(ModelRefused):
        read_program(template, config, with_tools=False)


@pytest.mark.parametrize(
    ("text", "due"),
    [
        (CHATML, "hermes"),
        (r"{{ tools }}<tool_call>\n{\"name\": <name>, \"arguments\": <object>}", "hermes"),
        ("{{ tools }}{{ '<tool_call>' }}{{- '{ ' }}{{- '\"arguments\": ' }}", "hermes"),
        ("{{ tools }}", ""),
        ('<tool_call>{"name": 1}', ""),  # it is not shown any
        ("{{ tools }} in <tool_call></tool_call> tags", ""),
        (r"{{ tools }}<tool_call>\n<function=f>\n<parameter=name>\n\"name\"", ""),
        (r"{{ tools }}<tool_call>{function-name}\n<arg_key>\"name\"", ""),
    ],
)
def test_way_of_calling_tools_is_known_only_where_the_template_says_it(text: str, due: str) -> None:
    assert calls_of(Program(text, {})) == due
