"""Trains V4-mini's vocabulary: byte-level BPE behind the official splitter, in which copying is easy.

A word has the same pieces wherever it stands: letters merge with letters first, and only whole words of the fixed
sentences, never words that are copied, then merge with the space or sign before them. Otherwise " dog" and "dog" would
be different pieces and a small model would have to learn to spell before it can repeat. Digits never merge, so sums see
digits.
"""
import json
import random
import re
import sys
from collections import Counter

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

import data
import words
from chat import BOS, EOS, PAD, SPECIALS
from skills import PARAMETERS

SPLITS = (r"\p{N}{1,3}", "[一-龥\u3040-ゟ゠-ヿ]+",
          r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
JOINED = 280
"""Words that merge with what stands before them (Ġ is a space in byte-level BPE)."""
COPIED = {w.lower() for name in ("WORDS", "NAMES", "CITIES", "NOUNS", "VERBS")
          for w in getattr(words, name) + getattr(words, "HELD_" + name)} | set(PARAMETERS)


def splitter(*patterns):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(p), "isolated") for p in patterns]
                                   + [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def texts(count, seed=1):
    """Conversations without control tokens."""
    strip, r = re.compile("|".join(map(re.escape, [*SPECIALS, BOS, EOS]))), random.Random(seed)
    for i in range(count):
        conversation, facts, tools = data.start(r, i % 20 == 0)
        for _ in range(4):
            conversation.turns += data.next_turns(r, facts, tools)
        yield strip.sub(" ", "".join(text for text, _ in conversation.parts()))


def joined_words(tokenizer, documents):
    """The most frequent (sign or space, word) of the fixed sentences whose word is one token and begins no copied one."""
    official, counts = splitter(*SPLITS), Counter()
    for text in texts(documents):
        counts.update(piece for piece, _ in official.pre_tokenize_str(text))
    known = tokenizer.get_vocab()
    pairs = ((piece[0], piece[1:]) for piece, _ in counts.most_common() if piece[1:].isascii() and piece[1:].isalpha())
    starts = {tokenizer.encode(form).tokens[0] for w in COPIED for form in (w, w.capitalize())}
    free = lambda w: w in known and w not in starts and w.lower() not in COPIED
    return [(a, w) for a, w in pairs if (a == "Ġ" or not a.isalpha()) and free(w)][:JOINED]


def train(vocab=2048, documents=12000):
    """ids: 0 begin, 1 end, 2 padding, bytes and merges, then the chat tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = splitter(r"\p{N}", *SPLITS[1:], r"[\p{L}\p{M}]+"), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocab - len(SPECIALS) - JOINED, special_tokens=[BOS, EOS, PAD],
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator(texts(documents), trainer)
    pairs = joined_words(tokenizer, documents // 4)
    tokenizer.pre_tokenizer = splitter(*SPLITS)
    file = json.loads(tokenizer.to_str())
    for a, w in pairs:
        file["model"]["vocab"][a + w] = len(file["model"]["vocab"])
        file["model"]["merges"].append([a, w])
    tokenizer = Tokenizer.from_str(json.dumps(file))
    tokenizer.add_special_tokens([AddedToken(s, normalized=False, special=True) for s in SPECIALS])
    assert tokenizer.get_vocab_size() == vocab, tokenizer.get_vocab_size()
    return tokenizer


if __name__ == "__main__":
    train().save(sys.argv[1])
