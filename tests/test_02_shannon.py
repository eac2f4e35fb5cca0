"""Lecture 02: the taught code against independent answers."""

import itertools
import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk import lm as nltk_lm

from course_utils.datasets import load
from course_utils.reuse import lecture

L = lecture("02")
TEXTS = st.text("ab c", min_size=1, max_size=60)
EXAMPLE = "the dog that the cats see runs and the cat that sees the dogs sleeps "
GRAMMAR = {
    "S": [(1.0, ("NP", "VP"))],
    "VP": [(0.6, ("saw", "NP")), (0.4, ("VP", "with", "NP"))],
    "NP": [(0.3, ("I",)), (0.7, ("NP", "with", "NP"))],
}


# --- n-grams ---


@settings(max_examples=60, deadline=None)
@given(TEXTS, st.integers(1, 5), st.sampled_from(sorted(L.SMOOTHINGS)), TEXTS)
def test_every_conditional_is_a_distribution(text, order, smoothing, history):
    p = L.NGramModel(order, " abc", smoothing).fit(text).predict([history, ""])
    assert (p >= 0).all()
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-10)


@settings(max_examples=30, deadline=None)
@given(TEXTS, st.integers(1, 4), st.sampled_from(["Witten–Bell", "modified Kneser–Ney"]), TEXTS)
def test_log_prob_is_predict_step_by_step(text, order, smoothing, new):
    model = L.NGramModel(order, " abc", smoothing).fit(text)
    slow = [math.log(model.predict([text + new[:i]])[0, " abc".index(c)]) for i, c in enumerate(new)]
    np.testing.assert_allclose(model.log_prob(new, before=text), slow, rtol=1e-10)


@settings(max_examples=20, deadline=None)
@given(TEXTS, st.integers(1, 4), st.sampled_from(sorted(L.SMOOTHINGS)))
def test_a_lower_order_from_the_same_counts(text, order, smoothing):
    direct = L.NGramModel(order, " abc", smoothing).fit(text).log_prob(text)
    np.testing.assert_array_equal(L.NGramModel(5, " abc").fit(text).smooth(smoothing, order).log_prob(text), direct)


def test_smoothings_by_hand():
    counts, context = np.array([1, 1, 1, 2, 2, 3, 1, 4]), np.array([0, 0, 0, 0, 0, 0, 1, 1])
    Y = 4 / (4 + 2 * 2)  # four n-grams were seen once, two twice
    D = np.array([1 - 2 * Y * 2 / 4, 2 - 3 * Y * 1 / 2, 3 - 4 * Y * 1 / 1])  # one three times, one four
    assert D[0] == Y
    expected = {
        "Witten–Bell": (counts / np.array([16] * 6 + [7] * 2), [6 / 16, 2 / 7]),
        "Kneser–Ney": ((counts - Y) / np.array([10] * 6 + [5] * 2), [6 * Y / 10, 2 * Y / 5]),
        "modified Kneser–Ney": (
            (counts - D[np.array([0, 0, 0, 1, 1, 2, 0, 2])]) / np.array([10] * 6 + [5] * 2),
            [(3 * D[0] + 2 * D[1] + D[2]) / 10, (D[0] + D[2]) / 5],
        ),
    }
    for name, (direct, gamma) in expected.items():
        ours = L.SMOOTHINGS[name][0](counts, context, 9)
        np.testing.assert_allclose(ours[0], direct, rtol=1e-12, err_msg=name)
        np.testing.assert_allclose(ours[1], gamma, rtol=1e-12, err_msg=name)


def naive_modified_kneser_ney(text, order, alphabet):
    """Return p(symbol, context) by dictionaries and recursion, straight from the formulas."""
    padded = alphabet[0] * (order - 1) + text
    raw = {k: Counter(padded[i - k : i] for i in range(order, len(padded) + 1)) for k in range(1, order + 1)}
    counts = {k: Counter(gram[1:] for gram in raw[k + 1]) for k in range(1, order)} | {order: raw[order]}
    discounts = {}
    for k, grams in counts.items():
        n = [max(sum(c == r for c in grams.values()), 1) for r in (1, 2, 3, 4)]
        Y = n[0] / (n[0] + 2 * n[1])
        discounts[k] = [min(max(r - (r + 1) * Y * n[r] / n[r - 1], 0.1), r) for r in (1, 2, 3)]

    def p(symbol, context):
        k = len(context) + 1
        after = {gram[-1]: c for gram, c in counts[k].items() if gram[:-1] == context}
        lower = p(symbol, context[1:]) if context else 1 / len(alphabet)
        if not after:
            return lower
        D = {s: discounts[k][min(c, 3) - 1] for s, c in after.items()}
        return ((after[symbol] - D[symbol] if symbol in after else 0) + sum(D.values()) * lower) / sum(after.values())

    return p


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_modified_kneser_ney_from_the_formulas(order):
    alphabet = "".join(sorted(set(EXAMPLE + "z")))
    model, naive = L.NGramModel(order, alphabet).fit(EXAMPLE), naive_modified_kneser_ney(EXAMPLE, order, alphabet)
    for history in ("the dog", "zzz", "that", "e ", "s s"):
        context = (" " * order + history)[len(history) + 1 :]  # the last order - 1 symbols
        expected = [naive(symbol, context) for symbol in alphabet]
        np.testing.assert_allclose(model.predict([history])[0], expected, rtol=1e-12)


def test_kneser_ney_against_nltk():
    alphabet = "".join(sorted(set(EXAMPLE))) + "?"  # NLTK's vocabulary has one more symbol, the unknown one
    padded = "  " + EXAMPLE
    grams = [[tuple(padded[i - k : i]) for k in (1, 2, 3)] for i in range(3, len(padded) + 1)]
    reference = nltk_lm.KneserNeyInterpolated(3, discount=0.6)
    reference.fit(grams, vocabulary_text=sorted(set(EXAMPLE)))
    model = L.NGramModel(3, alphabet, "Kneser–Ney", discount=0.6).fit(EXAMPLE)
    model.levels[0] = L.NGramModel(3, alphabet, "Kneser–Ney", discount=0).fit(EXAMPLE).levels[0]
    for history in ("th", "e ", "??"):
        expected = [reference.score(symbol, list(history)) for symbol in alphabet]
        np.testing.assert_allclose(model.predict([history])[0], expected, atol=1e-12)


def test_words_are_symbols_too():
    words = EXAMPLE.split()
    model = L.NGramModel(2, sorted(set(words)), "maximum likelihood").fit(words)
    assert model.predict([["the"]])[0, model.index["cats"]] == pytest.approx(1 / 4)  # the dog, cats, cat, dogs


def test_features_of_words_and_lines():
    word, last, second = L.word_features("It's a cat, a Cat").T
    assert word[0] == last[0] == second[0] == 0
    assert word[16] == word[9] != 0  # "ca" of "Cat" and of "cat"
    assert last[14] == last[7] != 0  # "a" before both
    assert second[14] == word[10] != second[7]  # "cat" before that, and "It's"
    np.testing.assert_array_equal(L.line_features("ab\n\nc\nd\n")[:, 1], [0, 0, 0, 1, 0, 0, 1, 1])
    np.testing.assert_array_equal(L.letters_so_far("ab, c"), [0, 1, 2, 0, 0])


@pytest.mark.parametrize("make", [L.WordModel, L.LayoutModel, lambda alphabet: L.CharacterTrees(4, alphabet)])
def test_other_contexts_make_distributions(make):
    alphabet = "".join(sorted(set(EXAMPLE + "\n")))
    model = make(alphabet).fit(EXAMPLE * 3)
    np.testing.assert_allclose(model.predict(["the d", "", "\n\nsee", "gg"]).sum(axis=1), 1, rtol=1e-9)


def test_em_climbs_to_the_best_weights():
    P = np.random.default_rng(0).dirichlet(np.ones(3), 200).T
    w, history = L.em_weights(P, steps=2_000)
    assert (np.diff(history) > -1e-12).all()
    grid = [(a, b, 1 - a - b) for a in np.linspace(0, 1, 51) for b in np.linspace(0, 1 - a, 51)]
    best = max(np.log(np.maximum(np.array(v) @ P, 1e-300)).mean() for v in grid)
    assert w.sum() == pytest.approx(1)
    assert history[-1] >= best - 1e-6


def test_one_step_of_em_is_the_mean_of_the_shares():
    P = np.random.default_rng(1).dirichlet(np.ones(3), 20).T
    shares = [[p / sum(column) for p in column] for column in P.T]  # the first weights are equal
    np.testing.assert_allclose(L.em_weights(P, steps=1)[0], np.mean(shares, axis=0), rtol=1e-12)


def test_mixture_learns_its_weights_on_text_that_is_not_counted():
    alphabet, text = "".join(sorted(set(EXAMPLE))), EXAMPLE * 5
    mixture = L.Mixture([L.NGramModel(2, alphabet), L.NGramModel(6, alphabet, "add-α")]).fit(text)
    cut = len(text) * 9 // 10
    P = np.exp([model.fit(text[:cut]).log_prob(text[cut:], text[:cut]) for model in mixture.models])
    places = L.letters_so_far(text)[cut:]
    for place in set(places.tolist()):
        np.testing.assert_allclose(mixture.weights[place], L.em_weights(P[:, places == place])[0], rtol=1e-9)


def test_mixture_predicts_what_it_scores():
    alphabet = "".join(sorted(set(EXAMPLE)))
    mixture = L.Mixture([L.NGramModel(2, alphabet), L.WordModel(alphabet)]).fit(EXAMPLE * 5)
    p = mixture.predict([EXAMPLE[:20]])[0]
    assert p.sum() == pytest.approx(1)
    assert math.log(p[alphabet.index(EXAMPLE[20])]) == pytest.approx(mixture.log_prob(EXAMPLE[20], EXAMPLE[:20])[0])


# --- entropy and the guessing game ---


def test_block_entropies_by_counting():
    text = "abracadabra"
    for n, h in enumerate(L.block_entropies(text, 4)):
        counts = Counter((text + text)[i : i + n] for i in range(len(text))).values()
        assert h == pytest.approx(-sum(c / 11 * math.log(c / 11) for c in counts), abs=1e-12)


@settings(deadline=None)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=27))
def test_bounds_enclose_the_entropy_of_independent_letters(weights):
    p = np.sort(np.array(weights) / sum(weights))[::-1]
    lower, upper = L.entropy_bounds(p)
    H = -np.sum(p * np.log(p))
    assert lower <= H + 1e-12
    assert upper == pytest.approx(H)


def test_guessing_game_counts_guesses_and_its_widget_plays():
    game = L.GuessingGame("the cat", shown=4)
    board, field = L.play(game).children
    field.value = "x"
    field.value = "x"  # again: costs nothing
    field.value = "c"
    assert (game.guesses, game.shown, game.tried, field.value) == ([2], 5, [], "")
    assert "THE C" in board.value
    assert game.shares()[1] == 1


@settings(deadline=None)
@given(st.text("abc ", min_size=4, max_size=40), st.integers(1, 3), st.integers(0, 9))
def test_approximation_says_nothing_new_in_its_window(text, order, seed):
    drawn = "".join(L.approximation(text, order, 30, np.random.default_rng(seed)))
    assert {drawn[i : i + order] for i in range(31 - order)} <= {(text + text)[i : i + order] for i in range(len(text))}


def test_temperature_sharpens_the_odds():
    class Coin:
        alphabet = "ab"

        def predict(self, histories):
            return np.tile([0.2, 0.8], (len(histories), 1))

    drawn = "".join(L.generate(Coin(), 1, np.random.default_rng(0), 0.5, prompts=["a"] * 20_000))
    p = 0.2**2 / (0.2**2 + 0.8**2)
    assert drawn.count("a") / len(drawn) == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / len(drawn)))


def test_word_probability_is_its_share_after_a_space():
    alphabet, text = "".join(sorted(set(EXAMPLE))), " " + EXAMPLE
    models = [L.NGramModel(order, alphabet, "maximum likelihood").fit(EXAMPLE) for order in range(1, 7)]
    for word in ("cat", "the", "that"):
        times = sum(text.startswith(f" {word} ", i) for i in range(len(text)))
        assert L.word_log_prob(models, word, 1.0) == pytest.approx(math.log(times / text[:-1].count(" ")))


def test_detector_is_blind_where_there_is_nothing_to_see():
    rng = np.random.default_rng(0)
    noise, other = (["".join(rng.choice(list("abcd"), 40)) for _ in range(100)] for _ in range(2))
    accuracy, low, high = L.detectability(noise, other)
    assert low < 0.5 < high
    assert low < accuracy < high
    assert L.detectability(noise, [text.upper() for text in other])[0] == 1


def test_copied_marks_whole_runs():
    mark = L.copied("xx" + EXAMPLE[5:30] + "yy", set(L.runs(EXAMPLE)))
    np.testing.assert_array_equal(np.flatnonzero(mark), range(2, 27))


# --- context trees ---


def all_trees(depth, s=()):
    """Yield (leaves, 2^-Γ) of each binary context tree."""
    if depth == 0:
        yield [s], Fraction(1)
        return
    yield [s], Fraction(1, 2)
    for (a, p), (b, q) in itertools.product(all_trees(depth - 1, (0, *s)), all_trees(depth - 1, (1, *s))):
        yield a + b, p * q / 2


@pytest.mark.parametrize("depth", [0, 1, 2, 3])
@pytest.mark.parametrize("seed", [0, 1])
def test_context_tree_weighting_is_the_mixture_over_all_trees(depth, seed):
    past = [int(b) for b in np.random.default_rng(seed).integers(0, 2, 3)]
    bits = [int(b) for b in np.random.default_rng(seed + 9).integers(0, 2, 14)]
    history = past + bits
    total = Fraction(0)
    for leaves, p in all_trees(depth):
        for leaf in leaves:
            after = [bits[i] for i in range(len(bits)) if tuple(history[3 + i - len(leaf) : 3 + i]) == leaf]
            for i, bit in enumerate(after):
                p *= Fraction(2 * after[:i].count(bit) + 1, 2 * i + 2)
        total += p
    assert L.ContextTreeWeighting(depth).log_prob(bits, past) == pytest.approx(math.log(total), rel=1e-12)


def test_character_trees_on_bits_are_context_tree_weighting():
    text = "0110100110010110" * 3
    model = L.CharacterTrees(3, "01").fit(text)
    bits = [int(c) for c in text]
    before = L.ContextTreeWeighting(2).log_prob(bits, [0, 0])
    after = L.ContextTreeWeighting(2).log_prob([*bits, 1], [0, 0])
    assert math.log(model.predict([text])[0, 1]) == pytest.approx(after - before, rel=1e-9)


@settings(deadline=None)
@given(st.lists(st.integers(1, 100), min_size=2, max_size=30))
def test_huffman_codes_are_prefix_free_and_within_one_bit_of_the_entropy(weights):
    paths = L.huffman(weights)
    p = np.array(weights) / sum(weights)
    lengths = np.array([len(path) for path in paths])
    assert sum(Fraction(1, 2**n) for n in lengths.tolist()) == 1
    assert len({tuple(path) for path in paths}) == len(weights)
    H = -np.sum(p * np.log2(p))
    assert H - 1e-9 <= p @ lengths < H + 1


# --- grammars ---


def all_derivations(rules, symbols, budget):
    """Yield (probability, words) of each derivation of the symbols with at most `budget` words."""
    if len(symbols) > budget:
        return
    i = next((i for i, symbol in enumerate(symbols) if symbol in rules), None)
    if i is None:
        yield 1.0, symbols
        return
    for p, alpha in rules[symbols[i]]:
        for q, words in all_derivations(rules, symbols[:i] + alpha + symbols[i + 1 :], budget):
            yield p * q, words


def test_inside_is_the_sum_over_derivations():
    total = Counter()
    for p, words in all_derivations(GRAMMAR, ("S",), 9):
        total[words] += p
    assert len(total) > 5
    for words, p in total.items():
        assert L.PCFG(GRAMMAR).inside(words) == pytest.approx(p, rel=1e-12)
    assert L.PCFG(GRAMMAR).inside(("with", "I")) == 0


def test_pcfg_of_toy_english():
    toy = load("toy_english")
    grammar = L.PCFG(toy.rules)
    sentences, log_probs = toy.sample(50, 3)
    ours = [math.log(grammar.inside(tuple(sentence.split()))) for sentence in sentences]
    np.testing.assert_allclose(ours, log_probs, rtol=1e-9)
    assert grammar.entropy() == pytest.approx(toy.entropy)


def test_learned_grammar_costs_its_divergence():
    rules = {"S": [(0.25, ("a", "S")), (0.75, ("a",))]}
    grammar, other = L.PCFG(rules), L.PCFG({"S": [(0.5, ("a", "S")), (0.5, ("a",))]})
    rules_used = 1 / 0.75  # the mean number of rules in a derivation
    assert grammar.cross_entropy(other) == pytest.approx(rules_used * math.log(2))
    rng = np.random.default_rng(0)
    learned = L.learned_grammar([grammar.sample(rng) for _ in range(3_000)], rules)
    assert 0 < grammar.cross_entropy(learned) - grammar.entropy() < 0.01
    assert set(L.leaves(grammar.sample(rng))) == {"a"}
