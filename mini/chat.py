"""The chat format of DeepSeek V4 (crates/chat has it in full): a conversation as text with a loss weight for each part."""
import json
from dataclasses import dataclass, field

BOS, EOS, PAD = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"
USER, ASSISTANT, THINK, END_THINK, DSML = "<｜User｜>", "<｜Assistant｜>", "<think>", "</think>", "｜DSML｜"
SPECIALS = [USER, ASSISTANT, THINK, END_THINK, DSML, "<｜latest_reminder｜>"]

TOOLS_HEAD = f"""## Tools

You have access to a set of tools to help answer the user's question. You can invoke tools by writing a "<{DSML}tool_calls>" block like the following:

<{DSML}tool_calls>
<{DSML}invoke name="$TOOL_NAME">
<{DSML}parameter name="$PARAMETER_NAME" string="true|false">$PARAMETER_VALUE</{DSML}parameter>
...
</{DSML}invoke>
<{DSML}invoke name="$TOOL_NAME2">
...
</{DSML}invoke>
</{DSML}tool_calls>

String parameters should be specified as is and set `string="true"`. For all other types (numbers, booleans, arrays, objects), pass the value in JSON format and set `string="false"`.

If thinking_mode is enabled (triggered by <think>), you MUST output your complete reasoning inside <think>...</think> BEFORE any tool calls or final response.

Otherwise, output directly after </think> with tool calls or final response.

### Available Tool Schemas

"""
TOOLS_TAIL = "\n\nYou MUST strictly follow the above defined tool name and parameter schemas to invoke tool calls.\n"

ANSWER, CONTEXT, FIXED = 1.0, 0.1, 0.0
"""Loss weights: what the model says, what it reads, what never changes."""


@dataclass
class Turn:
    """What the user (or a tool) says, and the reasoning and answer that should follow."""
    user: str
    reasoning: str
    answer: str


@dataclass
class Conversation:
    system: str = ""
    tools: list = field(default_factory=list)
    turns: list = field(default_factory=list)
    thinks: bool = False

    def opening(self):
        """Parts before the first turn, as (text, weight)."""
        parts = [(BOS + self.system, CONTEXT)]
        if self.tools:
            schemas = "\n".join(json.dumps(t, ensure_ascii=False) for t in self.tools)
            parts += [("\n\n" + TOOLS_HEAD, FIXED), (schemas, CONTEXT), (TOOLS_TAIL, FIXED)]
        return parts

    def reasons(self, i):
        """Whether turn i keeps its reasoning: the last one, or all when there are tools."""
        return self.thinks and (bool(self.tools) or i == len(self.turns) - 1)

    def parts(self):
        out = self.opening()
        for i, turn in enumerate(self.turns):
            thinks = self.reasons(i)
            out.append((USER + turn.user + ASSISTANT + (THINK if thinks else END_THINK), CONTEXT))
            out.append(((turn.reasoning + END_THINK if thinks else "") + turn.answer + EOS, ANSWER))
        return out

    def prompt(self):
        """The text up to where the last answer begins."""
        return "".join(text for text, _ in self.parts()[:-1])


def tool_schema(name, description, parameters):
    """parameters: {name: JSON type}."""
    properties = {p: {"type": kind} for p, kind in parameters.items()}
    return dict(name=name, description=description,
                parameters=dict(type="object", properties=properties, required=list(parameters)))


def tool_call(name, arguments):
    """arguments: {name: value}."""
    lines = []
    for p, v in arguments.items():
        text = v if isinstance(v, str) else json.dumps(v)
        lines.append(f'<{DSML}parameter name="{p}" string="{str(isinstance(v, str)).lower()}">{text}</{DSML}parameter>\n')
    return (f'\n\n<{DSML}tool_calls>\n<{DSML}invoke name="{name}">\n' + "".join(lines)
            + f"</{DSML}invoke>\n</{DSML}tool_calls>")


def tool_result(text):
    return f"<tool_result>{text}</tool_result>"
