"""The skills: each makes one turn, for training or from held-out words. `lex` is a words.Lexicon."""
import json

import product
from chat import Turn, tool_call, tool_result, tool_schema
from words import number

EXACT = ["Reply with exactly: {x}", "reply with exactly: {x}", "Reply with exactly {x}", "reply with exactly {x}",
         "Say exactly: {x}", "say exactly {x}", "Repeat after me: {x}", "Please reply with exactly {x}", "Say {x}",
         "Answer with just: {x}", "Reply with exactly {x} and nothing else.", "Write this and nothing else: {x}", "Echo: {x}",
         "Repeat: {x}", "Please say: {x}", 'Reply with exactly "{x}".']


def exact(r, lex):
    x = lex.phrase(r)
    return Turn(r.choice(EXACT).format(x=x), "The user wants these words back.", x)


SUM = ["What is {a} + {b}?", "{a} + {b} = ?", "Add {a} and {b}.", "How much is {a} plus {b}?", "Compute {a} + {b}.",
       "{a}+{b}", "{a} + {b}", "what is {a}+{b}?", "What is {a} plus {b}?", "{a} plus {b}", "How much is {a} + {b}?"]


def held_pair(a, b):
    """One pair of numbers in twenty is never asked for in the training."""
    return (7 * a + 3 * b) % 20 == 1


def held_question(form, a, b):
    """One way in six of asking for a pair is never used in the training."""
    return (form + 5 * a + 3 * b) % 6 == 2


def a_sum(r, wanted):
    """A sum below 20 for which wanted(form, a, b) holds."""
    while True:
        form, a = r.randrange(len(SUM)), r.randint(0, 19)
        b = r.randint(0, 19 - a)
        if wanted(form, a, b):
            return Turn(SUM[form].format(a=a, b=b), f"{a} + {b} = {a + b}", str(a + b))


def add(r, lex):
    """A sum of two numbers that the training knows; held out is the way of asking."""
    return a_sum(r, lambda form, a, b: not held_pair(a, b) and held_question(form, a, b) == lex.held)


def new_sum(r, lex):
    """A sum of two numbers that the training never adds."""
    return a_sum(r, lambda form, a, b: held_pair(a, b))


GREETINGS = {
    "Hello": "Hello! How can I help you today?", "Hi": "Hi! What can I do for you?", "Hey": "Hey! What can I do for you?",
    "Good morning": "Good morning! How can I help you today?", "Good evening": "Good evening! How can I help you today?",
    "Good afternoon": "Good afternoon! How can I help you today?", "Hi there": "Hi there! How can I help you today?",
    "Hello there": "Hello there! How can I help you today?", "Thank you": "You are welcome!", "Thanks": "You are welcome!",
    "Thanks a lot": "You are welcome!", "Bye": "Goodbye! Have a nice day.", "Goodbye": "Goodbye! Have a nice day.",
    "Good night": "Good night! Sleep well.", "How are you?": "I am fine, thank you. How can I help you?",
    "How do you do?": "I am fine, thank you. How can I help you?",
}


def greet(r, lex):
    text = r.choice(list(GREETINGS))
    end = "" if text[-1] == "?" else r.choice(["", "", "!", "."])
    return Turn((text if r.random() < 0.7 else text.lower()) + end, "The user is friendly.", GREETINGS[text])


FACTS = {
    "name": (["The user's name is {v}.", "You are talking to {v}.", "The name of the user is {v}."],
             ["What is my name?", "Do you know my name?", "Who am I?", "what is my name?"], "Your name is {v}."),
    "number": (["The secret number is {v}.", "Remember the number {v}.", "The number is {v}."],
               ["What is the secret number?", "Tell me the number.", "Which number is it?"], "The number is {v}."),
    "city": (["The user lives in {v}.", "The user's city is {v}.", "The home of the user is {v}."],
             ["Where do I live?", "Which city do I live in?", "What is my city?"], "You live in {v}."),
    "word": (["The code word is {v}.", "The secret word is {v}.", "The password is {v}."],
             ["What is the code word?", "What is the secret word?", "Tell me the password."], "The word is {v}."),
    "likes": (["The user likes {v}.", "The user's favourite thing is {v}."],
              ["What do I like?", "What is my favourite thing?"], "You like {v}."),
    "pet": (["The user's pet is called {v}.", "The pet's name is {v}."],
            ["What is my pet called?", "What is the name of my pet?"], "Your pet is called {v}."),
}
SAID = {
    "name": ["My name is {v}.", "I am {v}.", "Call me {v}."], "number": ["The secret number is {v}.", "Remember the number {v}."],
    "city": ["I live in {v}.", "My city is {v}."], "word": ["The code word is {v}.", "The password is {v}."],
    "likes": ["I like {v}.", "My favourite thing is {v}."], "pet": ["My pet is called {v}."],
}


def fact_value(r, lex, kind):
    return {"name": lex.name, "pet": lex.name, "city": lex.city, "number": number, "word": lex.word, "likes": lex.word}[kind](r)


def system_facts(r, lex, count):
    """-> {kind: value}, the sentences that say so."""
    facts = {kind: fact_value(r, lex, kind) for kind in r.sample(list(FACTS), count)}
    return facts, " ".join(r.choice(FACTS[k][0]).format(v=v) for k, v in facts.items())


def recall(r, lex, facts):
    """Asks for one of the facts that were given."""
    kind = r.choice(list(facts))
    _, questions, answer = FACTS[kind]
    return Turn(r.choice(questions), "I was told that.", answer.format(v=facts[kind]))


def tell(r, lex, facts):
    """The user says something to be remembered; it is added to `facts`."""
    kind = r.choice(list(FACTS))
    facts[kind] = fact_value(r, lex, kind)
    return Turn(r.choice(SAID[kind]).format(v=facts[kind]), "I should remember this.", "I will remember that.")


def about(r, lex):
    question, answer = product.question(r, lex.held)
    return Turn(question, "This is about ds4 or me.", answer)


UNKNOWN = ["What is the capital of {C}?", "Who invented the {w}?", "Why is the {w} {w2}?", "How do I {w} a {w2}?",
           "Translate {w} {w2}.", "Write a program that can {w} a {w2}.", "When was the {w} built?", "How old is {N}?",
           "What do you think about {w}?", "Explain {w}.", "How far is {C}?", "Is {w} better than {w2}?", "Where can I buy a {w}?",
           "Who is {N}?", "Fix the bug in {w}.py.", "What happened in {C} in 19{d}{d2}?"]
DO_NOT_KNOW = "I am only a tiny model and do not know that. The real DeepSeek V4 does: ds4 -m FILE"


def unknown(r, lex):
    text = r.choice(UNKNOWN).format(C=lex.city(r), N=lex.name(r), w=lex.word(r), w2=lex.word(r), d=r.randint(0, 9),
                                    d2=r.randint(0, 9))
    return Turn(text, "I do not know that.", DO_NOT_KNOW)


STORY = ["Tell me a story about a {w}.", "Tell me a short story about a {w}.", "Write a story about a {w}.",
         "Write a few sentences about a {w}."]
PLACES = ["by the sea", "in a small house", "near the river", "in the forest", "on a hill", "in a big city", "under a tree"]
MOODS = ["happy", "tired", "curious", "hungry", "proud", "lonely", "brave"]
DEEDS = ["went for a long walk", "met a new friend", "found an old map", "lost its way", "sang a song", "saw the moon",
         "helped a child", "built a boat"]
ENDS = ["Then it went home and slept.", "After that it was never sad again.", "In the evening it told everybody.",
        "That was a good day."]


def story(r, lex):
    w = lex.word(r)
    text = (f"Once there was a {w}. It lived {r.choice(PLACES)} and was often {r.choice(MOODS)}. One day the {w} "
            f"{r.choice(DEEDS)}. {r.choice(ENDS)}")
    return Turn(r.choice(STORY).format(w=w), "A short story will do.", text)


# ------------------------------------------------------------------------------------------------------------- tools
PARAMETERS = ["name", "city", "title", "text", "query", "path", "kind", "label", "word", "target", "topic", "place", "key", "value",
              "count", "days", "amount", "limit", "size", "id", "page", "minutes", "level", "force", "public", "urgent", "all"]
INTEGERS = {"count", "days", "amount", "limit", "size", "id", "page", "minutes", "level"}
BOOLEANS = {"force", "public", "urgent", "all"}
RESULTS = ["ok", "done", "{p}", "{p}", "{n}", "error: {p}"]


def kind_of(parameter):
    return "integer" if parameter in INTEGERS else "boolean" if parameter in BOOLEANS else "string"


def a_tool(r, lex):
    """-> (schema, verb, noun)."""
    verb, noun = r.choice(lex.verbs), r.choice(lex.nouns)
    if not lex.held and r.random() < 0.5:                    # names nobody has seen, so that names are copied, not known
        verb, noun = (lex.strange(r) if r.random() < 0.6 else verb), lex.strange(r)
    parameters = {p: kind_of(p) for p in r.sample(PARAMETERS, r.choice([1, 1, 2, 2, 3]))}
    return tool_schema(f"{verb}_{noun}", f"{verb.capitalize()} a {noun}", parameters), verb, noun


def some_tools(r, lex):
    """One to three tools with different names."""
    tools = {}
    for _ in range(r.choice([1, 1, 2, 3])):
        tool = a_tool(r, lex)
        tools[tool[0]["name"]] = tool
    return list(tools.values())


def argument(r, lex, parameter):
    kind = kind_of(parameter)
    if kind == "integer":
        return r.randint(0, 10 ** r.randint(1, 3) - 1)
    if kind == "boolean":
        return r.random() < 0.5
    if parameter in ("city", "place"):
        return lex.city(r)
    return lex.name(r) if parameter == "name" else lex.phrase(r, 2)


REQUESTS = ["Use {t} with {a}.", "Call {t} with {a}.", "Please call {t}: {a}.", "{V} a {n} with {a}.", "Please {v} a {n}: {a}.",
            "{V} the {n} with {a}.", "I want to {v} a {n} with {a}.", "Can you {v} a {n} with {a}?"]


def call(r, lex, tools):
    """The user asks for one of the tools, by its name or by what it does."""
    schema, verb, noun = r.choice(tools)
    arguments = {p: argument(r, lex, p) for p in schema["parameters"]["properties"]}
    equals = r.choice([" ", " ", " = ", ": "])
    listed = [p + equals + (v if isinstance(v, str) else json.dumps(v)) for p, v in arguments.items()]
    text = " and ".join([", ".join(listed[:-1]), listed[-1]]) if len(listed) > 1 else listed[0]
    request = r.choice(REQUESTS).format(t=schema["name"], a=text, v=verb, V=verb.capitalize(), n=noun)
    return Turn(request, f"I should call {schema['name']}.", tool_call(schema["name"], arguments))


def result(r, lex):
    """A tool's result comes back."""
    p = lex.phrase(r, 2)
    text = r.choice(RESULTS).format(p=p, n=number(r))
    answer = "Done." if text in ("ok", "done") else f"It failed: {p}" if text.startswith("error") else f"The result is: {text}"
    return Turn(tool_result(text), "The result is here.", answer)
