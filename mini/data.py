"""Conversations for training, cut to rows of equal length. A batch follows from its number alone, so a run can resume."""
import random

import torch

import skills
from chat import Conversation, Turn
from words import Lexicon

SYSTEMS = ["", "", "You are a helpful assistant", "You are a helpful assistant", "You are a helpful assistant.", "You are V4-mini.",
           "Answer briefly.", "You are a friendly assistant. Answer in one sentence."]
PLAIN = {"exact": 0.37, "add": 0.19, "greet": 0.05, "about": 0.10, "unknown": 0.03, "story": 0.02, "recall": 0.18, "tell": 0.06}
LEX = Lexicon()


def plain_turn(r, facts):
    """One turn without tools. `facts` grows when the user tells something."""
    weights = {k: w for k, w in PLAIN.items() if k != "recall" or facts}
    kind = r.choices(list(weights), list(weights.values()))[0]
    skill = getattr(skills, kind)
    return skill(r, LEX, facts) if kind in ("recall", "tell") else skill(r, LEX)


def start(r, tooled):
    """A conversation without turns, its facts and its tools."""
    facts, said = skills.system_facts(r, LEX, r.choice([1, 1, 2, 3])) if r.random() < 0.45 else ({}, "")
    system = r.choice(SYSTEMS)
    # A text that does not end with a full stop is a sentence of its own all the same.
    joint = ". " if system and system[-1] != "." and said else " "
    conversation = Conversation(system=(system + joint + said).strip(), thinks=r.random() < 0.45)
    tools = skills.some_tools(r, LEX) if tooled else []
    conversation.tools = [schema for schema, _, _ in tools]
    return conversation, facts, tools


def next_turns(r, facts, tools):
    """The next turn; after a call usually its result."""
    if not tools or r.random() < 0.15:
        return [plain_turn(r, facts)]
    turns = [skills.call(r, LEX, tools)]
    return turns + [skills.result(r, LEX)] if r.random() < 0.6 else turns


class Rows:
    """Makes token rows with a tokenizer."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        LEX.pieces = sorted(p for p in tokenizer.get_vocab() if p.isascii() and p.isalpha())

    def encode(self, parts):
        """-> ids, loss weights."""
        ids, weights = [], []
        for text, weight in parts:
            new = self.tokenizer.encode(text, add_special_tokens=False).ids
            ids += new
            weights += [weight] * len(new)
        return ids, weights

    def row(self, r, length, tooled):
        """One conversation of at most length + 1 tokens, as full as turns allow."""
        while True:
            conversation, facts, tools = start(r, tooled)
            best = None
            while True:
                conversation.turns += next_turns(r, facts, tools)
                ids, weights = self.encode(conversation.parts())
                if len(ids) > length + 1:
                    break
                best = ids, weights
            if best:
                return best

    def batch(self, seed, tokens, length, tooled):
        """-> ids, weights [tokens / length, length + 1]; padding weighs -1."""
        r, rows = random.Random(seed), max(1, tokens // length)
        ids, weights = torch.full((rows, length + 1), 2), torch.full((rows, length + 1), -1.0)
        for i in range(rows):
            row, w = self.row(r, length, tooled)
            ids[i, :len(row)], weights[i, :len(row)] = torch.tensor(row), torch.tensor(w)
        return ids, weights


def plan(r, progress):
    """Row length and whether it has tools. Short rows first; tools and long rows join when copying has begun."""
    x = r.random()
    if x < 0.08:
        return 64, False
    if x < 0.34 or progress < 0.12:
        return 128, False
    if x < 0.46:
        return 256, False
    return (512, True) if x < 0.94 else (1024, True)


# ------------------------------------------------------------------------------------------------------- held out
def held_out(skill, count, seed=2026):
    """-> [(prompt, answer)] from words, names, tools, sums and questions that no training text contains."""
    r, lex, rows = random.Random(f"{seed} {skill}"), Lexicon(held=True), []
    for _ in range(count):
        conversation, thinks = held_out_conversation(r, lex, skill)
        turn = conversation.turns[-1]
        rows.append((conversation.prompt(), (turn.reasoning + "</think>" if thinks else "") + turn.answer))
    return rows


def held_out_conversation(r, lex, skill):
    system = r.choice(SYSTEMS)
    conversation = Conversation(system=system, thinks=skill.startswith("think"))
    kind = r.choice(["exact", "sum", "recall"]) if skill == "think" else skill
    if kind == "recall":
        kinds = r.sample(["name", "number"], 2)[:r.choice([1, 2])]
        facts = {k: skills.fact_value(r, lex, k) for k in kinds}
        said = " ".join(r.choice(skills.FACTS[k][0]).format(v=v) for k, v in facts.items())
        joint = ". " if system and system[-1] != "." else " "
        conversation.system = (system + joint + said).strip()
        conversation.turns = [skills.recall(r, lex, facts)]
    elif kind == "remember":
        facts = {}
        conversation.turns = [skills.tell(r, lex, facts), skills.greet(r, lex), skills.recall(r, lex, facts)]
    elif kind in ("tool", "result"):
        tools = skills.some_tools(r, lex)
        conversation.tools = [schema for schema, _, _ in tools]
        conversation.turns = [skills.call(r, lex, tools)]
        conversation.turns += [skills.result(r, lex)] if kind == "result" else []
    else:
        skill = {"sum": skills.add, "new sum": skills.new_sum, "product": skills.about}.get(kind) or getattr(skills, kind)
        conversation.turns = [skill(r, Lexicon() if kind == "greet" else lex)]
    return conversation, conversation.thinks


SKILLS = ["exact", "sum", "new sum", "recall", "tool", "think", "product", "remember", "result", "greet", "unknown"]
