"""Trains V4-mini's vocabulary: byte-level BPE behind the official splitter. Digits never merge, so sums see digits."""
import random
import re
import sys

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from chat import BOS, EOS, PAD, SPECIALS, Conversation
import data

WORDS = (r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")


def splitter(digits):
    return pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(p), "isolated") for p in (digits, "[一-龥\u3040-ゟ゠-ヿ]+", WORDS)]
        + [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def texts(count, seed=1):
    """Conversations without control tokens."""
    strip, r = re.compile("|".join(map(re.escape, [*SPECIALS, BOS, EOS]))), random.Random(seed)
    for i in range(count):
        conversation, facts, tools = data.start(r, i % 20 == 0)
        for _ in range(4):
            conversation.turns += data.next_turns(r, facts, tools)
        yield strip.sub(" ", "".join(text for text, _ in conversation.parts()))


def train(vocab=2048, documents=12000):
    """ids: 0 begin, 1 end, 2 padding, bytes and merges, then the chat tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = splitter(r"\p{N}"), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocab - len(SPECIALS), special_tokens=[BOS, EOS, PAD], show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(texts(documents), trainer)
    tokenizer.pre_tokenizer = splitter(r"\p{N}{1,3}")
    tokenizer.add_special_tokens([AddedToken(s, normalized=False, special=True) for s in SPECIALS])
    assert tokenizer.get_vocab_size() == vocab
    return tokenizer


if __name__ == "__main__":
    train().save(sys.argv[1])
