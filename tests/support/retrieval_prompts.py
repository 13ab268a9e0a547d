"""A second implementation of the prompts of passkey, needle and the RULER tasks over token ids, from the text of
data/tasks/retrieval.h; the program's prompts must equal these. Standard library only."""

import math


def philox_bits(key, index, stream):
    """64 bits of Philox-4x32-10."""
    mask = 0xFFFFFFFF
    word = [index & mask, index >> 32, stream & mask, stream >> 32]
    k0, k1 = key & mask, key >> 32
    for _ in range(10):
        p0, p1 = 0xD2511F53 * word[0], 0xCD9E8D57 * word[2]
        word = [(p1 >> 32) ^ word[1] ^ k0, p1 & mask, (p0 >> 32) ^ word[3] ^ k1, p0 & mask]
        k0, k1 = (k0 + 0x9E3779B9) & mask, (k1 + 0xBB67AE85) & mask
    return word[1] << 32 | word[0]


def stream_of(name):
    value = 0xCBF29CE484222325
    for byte in name.encode():
        value = (value ^ byte) * 0x100000001B3 & (1 << 64) - 1
    return value


class Draw:
    def __init__(self, seed, task, index):
        self.seed, self.stream, self.next = seed, stream_of(f"{task}/{index}"), 0

    def below(self, bound):
        self.next += 1
        return philox_bits(self.seed, self.next - 1, self.stream) * bound >> 64

    def shuffle(self, values):
        for i in range(len(values), 1, -1):
            j = self.below(i)
            values[i - 1], values[j] = values[j], values[i - 1]


class Prompts:
    def __init__(self, task, vocabulary, length, seed):
        self.task, self.length, self.seed = task, length, seed
        self.symbols = (vocabulary - 3) // 2
        self.filler, self.fillers = self.symbols, vocabulary - 3 - self.symbols
        self.needle, self.question, self.equals = vocabulary - 1, vocabulary - 2, vocabulary - 3
        self.digits = 5 if task in ("passkey", "vt") else 7
        self.width = 1
        while self.symbols ** self.width < length + 16:
            self.width += 1
        several = 4 if task in ("niah_multivalue", "niah_multiquery") else 1
        self.new_tokens = {"vt": 15, "cwe": 10 * (self.width + 1), "fwe": 3 * (self.width + 1)}.get(
            task, several * (self.digits + (several > 1)))
        self.size = 0
        while len(self.prompt(0, 0.5, self.size + 1)[0]) + self.new_tokens <= length:
            self.size += 1

    def sample(self, index, depth):
        """Returns the prompt and the references."""
        return self.prompt(index, depth, self.size)

    def prompt(self, index, depth, size):
        draw = Draw(self.seed, self.task, index)
        if self.task in ("passkey", "needle"):
            return self.single_fact(draw, depth, size)
        return {"vt": self.variables, "cwe": self.words, "fwe": self.words}.get(self.task, self.numbers)(draw, size)

    def number(self, draw):
        """Draws the text form and the token form together, although only one of them is used."""
        tokens = []
        for i in range(self.digits):
            draw.below(9 if i == 0 else 10)
            tokens.append(draw.below(self.symbols))
        return tokens

    def name(self, draw, taken, texts):
        while True:
            text = draw.below(4096)
            tokens = [draw.below(self.symbols), draw.below(self.symbols)]
            if tokens not in taken and text not in texts:
                taken.append(tokens)
                texts.append(text)
                return tokens

    def haystack(self, draw, size):
        if self.task == "needle":
            return [[self.filler + draw.below(self.fillers)] for _ in range(size)]
        return [[self.filler + i % self.fillers] for i in range(size)]

    def single_fact(self, draw, depth, size):
        if self.task == "passkey":
            key = self.number(draw)
            fact, question, references = [self.needle, *key, self.needle, *key], [self.question], [key]
        else:
            key = self.name(draw, [], [])
            value = self.number(draw)
            fact, question = [self.needle, *key, self.equals, *value], [self.question, *key, self.equals]
            references = [value]
        units = self.haystack(draw, size)
        units.insert(math.floor(depth * size + 0.5), fact)
        return sum(units, []) + question, references

    def hidden(self, draw, needles, size):
        places = sorted(draw.below(size + 1) for _ in needles)
        units = self.haystack(draw, size)
        result = []
        for i in range(size + 1):
            result += [needle for needle, place in zip(needles, places) if place == i]
            result += units[i:i + 1]
        return sum(result, [])

    def numbers(self, draw, size):
        names = 4 if self.task in ("niah_multikey", "niah_multiquery") else 1
        values = 4 if self.task == "niah_multivalue" else 1
        asked = names if self.task == "niah_multiquery" else 1
        keys, texts = [], []
        for _ in range(names):
            self.name(draw, keys, texts)
        needles, references = [], []
        for i in range(names):
            for _ in range(values):
                value = self.number(draw)
                if i < asked:
                    references.append(value)
                needles.append([self.needle, *keys[i], self.equals, *value])
        draw.shuffle(needles)
        return self.hidden(draw, needles, size) + [self.question, *sum(keys[:asked], []), self.equals], references

    def variables(self, draw, size):
        value = self.number(draw)
        names, texts, needles = [], [], []
        for hop in range(5):
            while True:
                text = [draw.below(26) for _ in range(5)]
                tokens = [draw.below(self.symbols) for _ in range(2)]
                if tokens not in names and text not in texts:
                    break
            needles.append([self.needle, *tokens, self.equals, *(names[-1] if hop else value)])
            names.append(tokens)
            texts.append(text)
        return self.hidden(draw, needles, size) + [self.question, *value, self.equals], names

    def words(self, draw, size):
        span = self.symbols ** self.width
        start = draw.below(span)

        def word(i):
            number, tokens = (start + i) % span, [self.needle]
            for _ in range(self.width):
                tokens.append(number % self.symbols)
                number //= self.symbols
            return tokens

        counted = []
        if self.task == "cwe":
            often, seldom = (6, 1) if self.length < 4096 else (30, 3)
            counted = [(word(i), often if i < 10 else seldom) for i in range(10 + size)]
            references = [word(i) for i in range(10)]
        else:
            ranks, total = max(6, self.length // 50), 12 + size
            zeta = sum(1 / (r * r) for r in range(1, ranks + 1))
            counts = [max(1, int(total / (zeta * (r * r)))) for r in range(1, ranks + 1)]
            for rank in range(min(4, ranks) - 1, 0, -1):
                counts[rank - 1] = max(counts[rank - 1], counts[rank] + 1)
            counted = [(word(r) if r else [self.needle, self.filler], count) for r, count in enumerate(counts)]
            references = [word(r) for r in range(1, 4)]
        words = [w for w, count in counted for _ in range(count)]
        draw.shuffle(words)
        return sum(words, []) + [self.question], references

    def score(self, references, answer):
        if self.task == "passkey":
            return float(answer[:self.digits] == references[0])
        if self.task == "needle":
            return sum(a == r for a, r in zip(answer, references[0])) / self.digits
        found = sum(any(answer[i:i + len(r)] == r for i in range(len(answer))) for r in references)
        return found / len(references)
