"""Assignment 1: mistakes that students make, each with the one test that it fails, and a second correct solution."""

MISTAKES = {
    ("entropy", "natural logarithm"): """
def entropy(p):
    p = p[p > 0]
    return -np.sum(p * np.log(p))
""",
    ("entropy", "0 log 0 is nan"): """
def entropy(p):
    return -np.sum(p * np.log2(p))
""",
    ("entropy", "sign"): """
def entropy(p):
    p = p[p > 0]
    return np.sum(p * np.log2(p))
""",
    ("entropy", "changes its argument"): """
def entropy(p):
    p[p == 0] = 1
    return -np.sum(p * np.log2(p))
""",
    ("kl", "sign"): """
def kl(p, q):
    if np.any((q == 0) & (p > 0)):
        return math.inf
    return sum(x * math.log2(y / x) for x, y in zip(p, q) if x > 0)
""",
    ("kl", "exchanged"): """
def kl(p, q):
    if np.any((q == 0) & (p > 0)):
        return math.inf
    return sum(y * math.log2(y / x) for x, y in zip(p, q) if x > 0 and y > 0)
""",
    ("kl", "leaves out what q misses"): """
def kl(p, q):
    return sum(x * math.log2(x / y) for x, y in zip(p, q) if x > 0 and y > 0)
""",
    ("kl", "infinite wherever q is 0"): """
def kl(p, q):
    if np.any(q == 0):
        return math.inf
    return sum(x * math.log2(x / y) for x, y in zip(p, q) if x > 0)
""",
    ("kl", "divides first, and warns"): """
def kl(p, q):
    return np.sum(p[p > 0] * np.log2(p[p > 0] / q[p > 0]))
""",
    ("count_pairs", "telegrams joined"): """
def count_pairs(telegrams):
    words = [w for t in telegrams for w in ["<s>", *t, "</s>"]]
    return Counter(zip(words, words[1:]))
""",
    ("count_pairs", "no end"): """
def count_pairs(telegrams):
    pairs = Counter()
    for t in telegrams:
        pairs.update(zip(["<s>", *t], t))
    return pairs
""",
    ("count_pairs", "each pair once a telegram"): """
def count_pairs(telegrams):
    pairs = Counter()
    for t in telegrams:
        pairs.update(set(zip(["<s>", *t], [*t, "</s>"])))
    return pairs
""",
    ("count_pairs", "pads the logbook itself"): """
def count_pairs(telegrams):
    pairs = Counter()
    for t in telegrams:
        t.insert(0, "<s>")
        t.append("</s>")
        pairs.update(zip(t, t[1:]))
    return pairs
""",
    ("count_pairs", "looks up the first place of a word"): """
def count_pairs(telegrams):
    pairs = Counter()
    for t in telegrams:
        padded = ["<s>", *t, "</s>"]
        for w in padded[:-1]:
            pairs[w, padded[padded.index(w) + 1]] += 1
    return pairs
""",
    ("add_alpha", "alpha V forgotten"): """
def add_alpha(pairs, vocabulary, alpha):
    n = Counter()
    for (v, w), c in pairs.items():
        n[v] += c
    return lambda w, v: (pairs[v, w] + alpha) / (n[v] + alpha)
""",
    ("add_alpha", "V counts the words after this context only"): """
def add_alpha(pairs, vocabulary, alpha):
    def p(w, v):
        after = {y: c for (x, y), c in pairs.items() if x == v}
        return (pairs[v, w] + alpha) / (sum(after.values()) + alpha * max(len(after), 1))
    return p
""",
    ("add_alpha", "contexts counted once a pair"): """
def add_alpha(pairs, vocabulary, alpha):
    n = Counter(v for v, w in pairs)
    return lambda w, v: (pairs[v, w] + alpha) / (n[v] + alpha * len(vocabulary))
""",
    ("perplexity", "a product that underflows"): """
def perplexity(p, telegrams):
    product, n = 1.0, 0
    for t in telegrams:
        for v, w in zip(["<s>", *t], [*t, "</s>"]):
            product, n = product * p(w, v), n + 1
    return product ** (-1 / n) if product else math.inf
""",
    ("perplexity", "the end does not count"): """
def perplexity(p, telegrams):
    surprises = [-math.log(p(w, v)) for t in telegrams for v, w in zip(["<s>", *t], t)]
    return math.exp(sum(surprises) / len(surprises))
""",
    ("perplexity", "bits with exp"): """
def perplexity(p, telegrams):
    surprises = [-math.log2(p(w, v)) for t in telegrams for v, w in zip(["<s>", *t], [*t, "</s>"])]
    return math.exp(sum(surprises) / len(surprises))
""",
    ("perplexity", "word and context exchanged"): """
def perplexity(p, telegrams):
    logs = [math.log(p(v, w)) for t in telegrams for v, w in zip(["<s>", *t], [*t, "</s>"])]
    return math.exp(-sum(logs) / len(logs))
""",
    ("perplexity", "mean of the telegrams' means"): """
def perplexity(p, telegrams):
    means = [np.mean([-math.log(p(w, v)) for v, w in zip(["<s>", *t], [*t, "</s>"])]) for t in telegrams]
    return math.exp(np.mean(means))
""",
    ("kneser_ney", "frequencies instead of contexts"): """
def kneser_ney(pairs, discount):
    n, t, word = Counter(), Counter(v for v, _ in pairs), Counter()
    for (v, w), c in pairs.items():
        n[v] += c
        word[w] += c
    def p(w, v):
        q = word[w] / sum(word.values())
        if not n[v]:
            return q
        return max(pairs[v, w] - discount, 0) / n[v] + discount * t[v] / n[v] * q
    return p
""",
    ("kneser_ney", "un-normalized: backs off without weight"): """
def kneser_ney(pairs, discount):
    n, cont = Counter(), Counter(w for _, w in pairs)
    for (v, w), c in pairs.items():
        n[v] += c
    def p(w, v):
        if pairs[v, w]:
            return (pairs[v, w] - discount) / n[v]
        return cont[w] / len(pairs)
    return p
""",
    ("kneser_ney", "weight without the number of different words"): """
def kneser_ney(pairs, discount):
    n, cont = Counter(), Counter(w for _, w in pairs)
    for (v, w), c in pairs.items():
        n[v] += c
    def p(w, v):
        q = cont[w] / len(pairs)
        if not n[v]:
            return q
        return max(pairs[v, w] - discount, 0) / n[v] + discount / n[v] * q
    return p
""",
    ("kneser_ney", "counts what follows a word, not what precedes it"): """
def kneser_ney(pairs, discount):
    n, t = Counter(), Counter(v for v, _ in pairs)
    for (v, w), c in pairs.items():
        n[v] += c
    def p(w, v):
        q = t[w] / len(pairs)
        if not n[v]:
            return q
        return max(pairs[v, w] - discount, 0) / n[v] + discount * t[v] / n[v] * q
    return p
""",
    ("repair", "left neighbor only"): """
def repair(p, telegram, candidates):
    k = telegram.index("???")
    v = telegram[k - 1] if k else "<s>"
    return max(candidates, key=lambda w: p(w, v))
""",
    ("repair", "a lost first word"): """
def repair(p, telegram, candidates):
    telegram = [*telegram, "</s>"]
    k = telegram.index("???")
    return max(candidates, key=lambda w: p(w, telegram[k - 1]) * p(telegram[k + 1], w))
""",
    ("repair", "leaves a guess in the telegram"): """
def repair(p, telegram, candidates):
    k, score = telegram.index("???"), {}
    for telegram[k] in candidates:
        padded = ["<s>", *telegram, "</s>"]
        score[telegram[k]] = math.prod(p(w, v) for v, w in pairwise(padded))
    return max(score, key=score.get)
""",
    ("repair", "a sum of probabilities"): """
def repair(p, telegram, candidates):
    padded = ["<s>", *telegram, "</s>"]
    k = padded.index("???")
    return max(candidates, key=lambda w: p(w, padded[k - 1]) + p(padded[k + 1], w))
""",
}  # fmt: skip

OTHERWISE = {
    "entropy": """
def entropy(p):
    total = 0
    for x in p:
        if x:
            total += x * math.log(1 / x, 2)
    return total
""",
    "kl": """
def kl(p, q):
    total = 0.0
    for i in range(len(p)):
        if p[i] == 0:
            continue
        if q[i] == 0:
            return float("inf")
        total += p[i] * (math.log2(p[i]) - math.log2(q[i]))
    return total
""",
    "count_pairs": """
def count_pairs(telegrams):
    result = Counter()
    for t in telegrams:
        last = "<s>"
        for w in t + ["</s>"]:
            result[(last, w)] += 1
            last = w
    return result
""",
    "add_alpha": """
class AddAlpha:
    def __init__(self, pairs, V, alpha):
        self.pairs, self.V, self.alpha = pairs, V, alpha
    def __call__(self, w, v):
        n = sum(c for (x, _), c in self.pairs.items() if x == v)
        return (self.pairs.get((v, w), 0) + self.alpha) / (n + self.alpha * self.V)
def add_alpha(pairs, vocabulary, alpha):
    return AddAlpha(pairs, len(vocabulary), alpha)
""",
    "perplexity": """
def perplexity(p, telegrams):
    logs = np.log([p(w, v) for t in telegrams for v, w in zip(["<s>"] + t, t + ["</s>"])])
    return np.exp(-logs.mean())
""",
    "kneser_ney": """
def kneser_ney(pairs, discount):
    after, before = {}, {}
    for (v, w), c in pairs.items():
        after.setdefault(v, {})[w] = c
        before.setdefault(w, set()).add(v)
    n_pairs = sum(map(len, before.values()))
    def p(w, v):
        fallback = len(before.get(w, ())) / n_pairs
        counts = after.get(v)
        if not counts:
            return fallback
        n = sum(counts.values())
        kept = counts[w] - discount if w in counts else 0
        return kept / n + discount * len(counts) / n * fallback
    return p
""",
    "repair": """
def repair(p, telegram, candidates):
    best, winner = -math.inf, None
    for candidate in candidates:
        words = ["<s>"] + [candidate if w == "???" else w for w in telegram] + ["</s>"]
        score = sum(math.log(p(w, v)) for v, w in zip(words, words[1:]))
        if score > best:
            best, winner = score, candidate
    return winner
""",
    "claim": "The logbook was used for counting, so the perplexity there is no bound. He should use new telegrams.",
}  # fmt: skip
