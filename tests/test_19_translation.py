"""What lecture 19 teaches, imported from its notebook, against torch, enumeration, sacrebleu and naive versions."""

import itertools
import json
import math
import warnings
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU
from torch import nn

from course_utils import results
from course_utils.reuse import lecture

taught = lecture("19")
PAD, SOS, EOS, UNK = taught.PAD, taught.SOS, taught.EOS, taught.UNK


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def network(**sizes) -> nn.Module:
    """Return a network in double precision, its weights so large that every input matters."""
    model = taught.Transformer(**{"n_source": 9, "n_target": 7, "width": 12, "heads": 3, "layers": 2} | sizes).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    return model.eval()


def rows(n: int, length: int, words: int) -> torch.Tensor:
    """Return [n, length]: <SOS>, random words, <EOS> and padding, of different lengths."""
    made = torch.full((n, length), PAD)
    for i, row in enumerate(made):
        stop = int(torch.randint(2, length + 1, ())) if i else length
        row[0], row[1:stop] = SOS, torch.randint(UNK, words, (stop - 1,))
        row[stop - 1] = EOS
    return made


# ---------------------------------------------------------------- texts and numbers


def test_vocabulary_pads_marks_and_reads_back():
    words = taught.Vocabulary(["b a", "c"])
    assert words.pieces == [*taught.SPECIAL, "a", "b", "c"]
    assert words.encode(["b a", "c", "d c"]).tolist() == [
        [SOS, 5, 4, EOS],
        [SOS, 6, EOS, PAD],
        [SOS, UNK, 6, EOS],
    ]
    assert [words.decode(row) for row in words.encode(["b a", "c"])] == ["b a", "c"]
    assert words.decode(torch.tensor([SOS, 4, EOS, 5, 6])) == "a"
    letters = taught.Vocabulary(["ab"], list, "".join)
    assert letters.decode(letters.encode(["ba"])[0]) == "ba"


TEXTS = st.lists(st.text("abcç", min_size=1, max_size=6), min_size=1, max_size=8)


def naive_merges(texts: list[str], merges: int) -> tuple[list[tuple[str, str]], dict[str, tuple[str, ...]]]:
    """Byte pair encoding as the paper states it: count all pairs afresh before each merge."""
    counts = Counter(word for text in texts for word in text.split())
    words, learned = {word: ("▁", *word) for word in counts}, []
    for _ in range(merges):
        pairs = Counter()
        for word, pieces in words.items():
            for pair in itertools.pairwise(pieces):
                pairs[pair] += counts[word]
        if not pairs or max(pairs.values()) < 2:
            break
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        learned.append(best)
        for word, pieces in words.items():
            new, i = [], 0
            while i < len(pieces):
                joined = tuple(pieces[i : i + 2]) == best
                new.append("".join(pieces[i : i + 2]) if joined else pieces[i])
                i += 2 if joined else 1
            words[word] = tuple(new)
    return learned, words


@settings(max_examples=30)
@given(TEXTS, st.integers(0, 12))
def test_byte_pairs_learn_the_merges_of_a_naive_version_and_lose_nothing(words, merges):
    text = " ".join(words)
    pieces = taught.BytePairs([text, text], merges)
    assert list(pieces.ranks) == naive_merges([text, text], merges)[0]
    for sentence in (text, "abc unseen ç"):
        assert pieces.join(pieces.split(sentence)) == sentence
    assert pieces.split("z") == ["▁", "z"]


@pytest.mark.parametrize("merges", [1, 3, 6, 10])
def test_byte_pairs_split_the_words_of_the_paper_as_they_were_learned(merges):
    texts = ["low"] * 5 + ["lower"] * 2 + ["newest"] * 6 + ["widest"] * 3
    pieces = taught.BytePairs(texts, merges)
    for word, expected in naive_merges(texts, merges)[1].items():
        assert pieces.split(word) == list(expected)


def test_byte_pairs_merge_in_the_order_in_which_they_were_learned():
    pieces = taught.BytePairs(["a"], 0)
    pieces.ranks = {("a", "b"): 0, ("b", "c"): 1}
    assert pieces.split("abc") == ["▁", "ab", "c"]
    pieces = taught.BytePairs(["a"], 0)
    pieces.ranks = {("b", "c"): 0, ("a", "b"): 1}
    assert pieces.split("abc") == ["▁", "a", "bc"]


@given(st.lists(st.text("abç'.▂!?0_ ", max_size=9), min_size=1, max_size=5), st.integers(0, 9))
def test_byte_pairs_cut_at_spaces_and_punctuation_and_lose_nothing(texts, merges):
    pieces = taught.BytePairs(texts * 2, merges)
    for text in texts:
        assert pieces.join(pieces.split(text)) == " ".join(text.split())
        for piece in pieces.split(text):
            assert "▁" not in piece[1:]
            letters = [c.isalnum() or c == "_" for c in piece.lstrip("▁")]
            assert len(set(letters)) <= 1


def test_byte_pairs_know_the_word_before_a_full_stop():
    pieces = taught.BytePairs(["gel gel gel"], 3)
    assert pieces.split("gel, gel.") == ["▁gel", ",", "▁gel", "."]


def test_merge_joins_from_the_left_without_overlap():
    assert taught.merge(["ab", "c"], ("a", "bc")) == ["ab", "c"]
    assert taught.merge([*"aaab"], ("a", "a")) == ["aa", "a", "b"]
    assert taught.merge([*"abab"], ("a", "b")) == ["ab", "ab"]


# ---------------------------------------------------------------- the network


def copy_attention(theirs: nn.MultiheadAttention, ours: nn.Module) -> None:
    theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key.weight, ours.value.weight]))
    theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key.bias, ours.value.bias]))
    theirs.out_proj.load_state_dict(ours.out.state_dict())


@torch.no_grad()
def test_transformer_equals_that_of_torch_with_the_same_weights():
    ours, width = network(), 12
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that its nested tensors do not go with norm_first
        theirs = nn.Transformer(width, 3, 2, 2, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
    theirs = theirs.double().eval()
    for block, layer in zip(ours.encoder, theirs.encoder.layers, strict=True):
        copy_attention(layer.self_attn, block.self_attention)
        for mine, yours in ((block.self_norm, layer.norm1), (block.feed_norm, layer.norm2)):
            yours.load_state_dict(mine.state_dict())
        layer.linear1.load_state_dict(block.feed_forward[0].state_dict())
        layer.linear2.load_state_dict(block.feed_forward[-1].state_dict())
    for block, layer in zip(ours.decoder, theirs.decoder.layers, strict=True):
        copy_attention(layer.self_attn, block.self_attention)
        copy_attention(layer.multihead_attn, block.cross_attention)
        norms = ((block.self_norm, layer.norm1), (block.cross_norm, layer.norm2), (block.feed_norm, layer.norm3))
        for mine, yours in norms:
            yours.load_state_dict(mine.state_dict())
        layer.linear1.load_state_dict(block.feed_forward[0].state_dict())
        layer.linear2.load_state_dict(block.feed_forward[-1].state_dict())
    theirs.encoder.norm.load_state_dict(ours.norm_memory.state_dict())
    theirs.decoder.norm.load_state_dict(ours.norm_out.state_dict())
    x, y = rows(5, 6, 9), rows(5, 7, 7)
    out = theirs(
        ours.embed_source(x) + ours.positions[:6],
        ours.embed_target(y) + ours.positions[:7],
        tgt_mask=nn.Transformer.generate_square_subsequent_mask(7, dtype=torch.float64),
        src_key_padding_mask=x == PAD,
        memory_key_padding_mask=x == PAD,
    )
    logits = ours.out(out)
    torch.testing.assert_close(ours(x, y)[..., EOS:], logits[..., EOS:], rtol=0, atol=1e-9)
    assert (ours(x, y)[..., [PAD, SOS]] == -math.inf).all()


@pytest.mark.parametrize(("source", "target"), [(5, 4), (30, 28), (2, 2)])
def test_padding_changes_nothing_whatever_the_length(source, target):
    model, x, y = network(), rows(4, source, 9), rows(4, target, 7)
    with torch.no_grad():
        together = model.log_prob(x, y)
        for i in range(4):
            alone = model.log_prob(taught.trim(x[i : i + 1]), taught.trim(y[i : i + 1]))
            assert torch.allclose(together[i], alone[0], rtol=0, atol=1e-10)
        wider = model.log_prob(nn.functional.pad(x, (0, 3)), nn.functional.pad(y, (0, 2)))
    assert torch.allclose(together, wider, rtol=0, atol=1e-10)


def test_logits_see_all_of_the_source_and_nothing_of_the_future():
    model, x, y = network(), torch.tensor([[SOS, 4, 5, EOS, PAD]]), torch.tensor([[SOS, 4, 5, 3]])
    seen = {}
    for name, embed in (("source", model.embed_source), ("target", model.embed_target)):

        def keep(_module, _inputs, output, name=name):
            output.retain_grad()
            seen[name] = output

        embed.register_forward_hook(keep)
    for t in range(4):
        model.zero_grad()
        model(x, y)[0, t, EOS:].square().sum().backward()
        reach = {name: (e.grad[0].abs().sum(-1) > 0).tolist() for name, e in seen.items()}
        assert reach["source"] == [True] * 4 + [False]
        assert reach["target"] == [i <= t for i in range(4)]


def test_log_prob_is_a_distribution_over_finite_sentences_and_their_beginnings():
    model, x = network(), torch.tensor([[SOS, 4, 5, EOS]])
    total = 0.0
    with torch.no_grad():
        for n in range(4):  # sentences of n words, then <EOS>
            bodies = list(itertools.product(range(UNK, 7), repeat=n))
            y = torch.tensor([[SOS, *body, EOS] for body in bodies])
            total += model.log_prob(x.expand(len(y), -1), y).exp().sum()
        y = torch.tensor([[SOS, *body] for body in itertools.product(range(UNK, 7), repeat=4)])
        total += model.log_prob(x.expand(len(y), -1), y).exp().sum()  # unfinished ones
    assert total == pytest.approx(1, abs=1e-10)


def test_the_loss_is_minus_log_prob_per_real_word():
    model, x, y = network(), rows(6, 7, 9), rows(6, 8, 7)
    expected = -model.log_prob(x, y).sum() / (y[:, 1:] != PAD).sum()
    torch.testing.assert_close(taught.translation_loss(model, (x, y)), expected)
    padded = tuple(nn.functional.pad(side, (0, 4)) for side in (x, y))
    torch.testing.assert_close(taught.translation_loss(model, padded), expected)


def test_too_long_or_flat_inputs_are_refused():
    model = network(max_length=5)
    with pytest.raises(ValueError, match=r"\(1, 6\); expected \[batch, length\], at most 5"):
        model.encode(torch.ones(1, 6, dtype=torch.long))
    with pytest.raises(ValueError, match="expected"):
        model.encode(torch.ones(3, dtype=torch.long))
    with pytest.raises(ValueError, match="width=10"):
        taught.Transformer(5, 5, width=10, heads=4)


# ---------------------------------------------------------------- search


def best_of_all(model: nn.Module, x: torch.Tensor, longest: int, alpha: float) -> tuple[float, tuple[int, ...]]:
    """Score every complete translation one by one."""
    found = []
    with torch.no_grad():
        for n in range(1, longest + 1):
            for body in itertools.product(range(UNK, 7), repeat=n - 1):
                log_p = model.log_prob(x, torch.tensor([[SOS, *body, EOS]])).item()
                found.append((log_p / n**alpha, (*body, EOS)))
    return max(found)


@pytest.mark.parametrize("alpha", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("longest", [1, 2, 4])
def test_a_wide_beam_is_exhaustive_search(alpha, longest):
    x = torch.tensor([[SOS, 4, 5, 8, EOS, PAD]])
    for seed in range(3):
        torch.manual_seed(seed)
        model = network(layers=1)
        score, words = best_of_all(model, x, longest, alpha)
        found = taught.beam_search(taught.continuation(model, x), 4**longest, longest, alpha)[0]
        assert found.words == words
        assert found.score == pytest.approx(score, abs=1e-9)
        assert found.log_prob == pytest.approx(score * len(words) ** alpha, abs=1e-9)


def test_a_beam_of_one_is_greedy_search_and_greedy_pads_after_the_end():
    x, same = rows(12, 6, 9), 0
    model = network(layers=1)
    y = taught.greedy(model, x, 15)
    for source, row in zip(x, y, strict=True):
        words = row[1:].tolist()
        if EOS not in words[:14]:
            continue
        stop = words.index(EOS)
        assert words[stop + 1 :] == [PAD] * (len(words) - stop - 1)
        [found] = taught.beam_search(taught.continuation(model, taught.trim(source[None])), 1, 15)
        assert list(found.words) == words[: stop + 1]
        same += 1
    assert same


def toy(prefixes: torch.Tensor) -> torch.Tensor:
    """Return the log probabilities of the table in section 5: greedy goes for 4, but 5 is the better start."""
    after = {(): {4: 0.6, 5: 0.4}, (4,): {4: 0.4, 5: 0.3, 6: 0.3}, (5,): {4: 0.9, 5: 0.1}}
    log_p = torch.full((len(prefixes), 7), -math.inf)
    for row, prefix in enumerate(prefixes[:, 1:].tolist()):
        for word, p in after.get(tuple(prefix), {EOS: 1.0}).items():
            log_p[row, word] = math.log(p)
    return log_p


def test_greedy_misses_the_best_sentence_of_the_table():
    found = {k: taught.beam_search(toy, k, 5, 0.0)[0] for k in (1, 2)}
    assert found[1].words == (4, 4, EOS)
    assert found[2].words == (5, 4, EOS)
    assert [math.exp(found[k].log_prob) for k in (1, 2)] == pytest.approx([0.24, 0.36])


def test_length_normalization_prefers_the_longer_sentence_and_the_search_does_not_stop_too_soon():
    def next_log_probs(prefixes: torch.Tensor) -> torch.Tensor:
        n = prefixes.shape[1]
        p = {1: {EOS: 0.5, 4: 0.5}, 2: {4: 1.0}, 3: {EOS: 0.9, 4: 0.1}}.get(n, {EOS: 1.0})
        log_p = torch.full((len(prefixes), 5), -math.inf)
        for word, value in p.items():
            log_p[:, word] = math.log(value)
        return log_p

    short, long = (taught.beam_search(next_log_probs, 2, 6, alpha)[0].words for alpha in (0.0, 1.0))
    assert short == (EOS,)
    assert long == (4, 4, EOS)


@pytest.mark.parametrize("bad", [{"beam": 0}, {"max_length": 0}, {"alpha": -0.1}, {"alpha": 1.5}])
def test_bad_searches_are_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        taught.beam_search(toy, **{"beam": 2} | bad)


def test_the_encoder_runs_once_for_a_whole_search():
    model, calls = network(), Counter()
    model.encoder[0].register_forward_hook(lambda *_: calls.update(["encoder"]))
    model.decoder[0].register_forward_hook(lambda *_: calls.update(["decoder"]))
    taught.beam_search(taught.continuation(model, torch.tensor([[SOS, 4, EOS]])), 3, 6)
    assert calls["encoder"] == 1
    assert 1 <= calls["decoder"] <= 6


# ---------------------------------------------------------------- scores


@settings(max_examples=60)
@given(st.lists(st.tuples(*[st.lists(st.sampled_from("abc"), min_size=4, max_size=9)] * 2), min_size=1, max_size=6))
def test_bleu_is_that_of_sacrebleu(pairs):
    translations, references = ([" ".join(words) for words in side] for side in zip(*pairs, strict=True))
    official = BLEU(tokenize="none", smooth_method="none", force=True)
    assert taught.bleu(translations, references) == pytest.approx(
        official.corpus_score(translations, [references]).score, abs=1e-9
    )


def test_bleu_of_edge_cases():
    assert taught.bleu(["a b c d"], ["a b c d"]) == pytest.approx(100)
    assert taught.bleu(["a b c d"], ["e f g h"]) == 0
    with pytest.raises(ValueError, match="1 translations of 2"):
        taught.bleu(["a"], ["a", "b"])


def test_the_dictionary_pairs_words_that_occur_together():
    partners = taught.dictionary(["the cat", "the dog", "a cat"], ["kedi", "köpek", "kedi bir"])
    assert partners == {"kedi": "cat", "köpek": "dog", "bir": "a"}


# ---------------------------------------------------------------- at full budget


def test_batches_by_length_hold_every_sentence_once_and_little_padding():
    source = rows(300, 30, 7)
    target = source.flip(0)[source.flip(0).ne(PAD).sum(1).argsort(stable=True)]
    source = source[source.ne(PAD).sum(1).argsort(stable=True)]  # sentences and translations of like lengths
    batches = taught.by_length((source, target), 200, torch.Generator().manual_seed(0))
    assert sorted(torch.cat(batches).tolist()) == list(range(300))
    real = padded = 0
    for numbers in batches:
        for side in (source, target):
            batch = taught.trim(side[numbers])
            assert batch.numel() <= 200
            real, padded = real + (batch != PAD).sum().item(), padded + batch.numel()
    chance = torch.randperm(300).split(len(batches[0]))
    loose = sum(taught.trim(side[numbers]).numel() for numbers in chance for side in (source, target))
    assert padded < (loose + real) / 2
    again = taught.by_length((source, target), 200, torch.Generator().manual_seed(1))
    assert [len(b) for b in again] != [len(b) for b in batches] or again[0].tolist() != batches[0].tolist()
    [alone] = taught.by_length((source[:1], target[:1]), 5, torch.Generator())  # longer than a batch may be
    assert alone.tolist() == [0]


def test_smoothed_loss_mixes_the_target_with_the_uniform_distribution():
    model, x, y = network(), rows(6, 7, 9), rows(6, 8, 7)
    log_p = model(x, y[:, :-1]).log_softmax(-1)[..., EOS:]
    real, right = y[:, 1:] != PAD, (y[:, 1:] - EOS).clamp(min=0)
    mixed = 0.9 * torch.nn.functional.one_hot(right, 5) + 0.1 / 5
    expected = -(mixed * log_p).sum(-1)[real].mean()
    assert taught.smoothed_loss(model, (x, y)).item() == pytest.approx(expected.item(), rel=1e-6)
    plain = taught.smoothed_loss(model, (x, y), smoothing=0.0).item()
    assert plain == pytest.approx(taught.translation_loss(model, (x, y)).item(), rel=1e-6)
    assert taught.nats_per_piece(model, (x, y)) == pytest.approx(plain, rel=1e-6)


def test_baselines_know_no_grammar():
    train = [["a cat.", "a dog!", "the cat"], ["bir kedi.", "bir köpek!", "kedi"]]
    found = taught.baselines(train, ["a dog, a cat.", "THE cat", "Zebra?"])
    assert found["copy of the source"] == ["a dog, a cat.", "THE cat", "Zebra?"]
    assert found["word for word"] == ["bir köpek, bir kedi.", "THE kedi", "Zebra?"]
    assert found["nearest training sentence"][1] == "kedi"


def test_a_score_has_the_standard_error_of_its_twenty_parts():
    texts = [f"kedi {k} süt içer bugün" for k in range(100)]
    references = [text if k % 20 < 10 else "başka bir şey oldu" for k, text in enumerate(texts)]
    whole, error = taught.score(texts, references, "chrF")
    parts = [taught.CHRF().corpus_score(texts[k::20], [references[k::20]]).score for k in range(20)]
    assert whole == taught.CHRF().corpus_score(texts, [references]).score
    mean = sum(parts) / 20
    assert error == pytest.approx(math.sqrt(sum((p - mean) ** 2 for p in parts) / 19 / 20))
    assert taught.signature("BLEU", texts, references).startswith("nrefs:1|case:mixed")


LETTERS = {"train": 240, "valid": 8, "test": 24}


def letters(n: int, start: int) -> tuple[list[str], list[str]]:
    english = [f"a{'b' * (i % 4)} c{'d' * (i % 3)} {'eg' * (i % 5)}." for i in range(start, start + n)]
    return english, [text.upper() for text in english]


def test_the_full_budget_trains_scores_and_ships_what_can_be_read_again(monkeypatch, tmp_path):
    knobs = {"seed": 0, "full_merges": 5, "full_width": 16, "full_layers": 1, "full_epochs": 3, "budget": "full"}
    real = {split: letters(n, 7 * n) for split, n in LETTERS.items()}
    recorded = []
    replaced = knobs | {
        "load": lambda name: real,
        "record": lambda *row, **more: recorded.append((row, more)),
    }
    for name, value in replaced.items():
        monkeypatch.setattr(taught, name, value, raising=False)
    monkeypatch.setattr(results, "WEIGHTS", tmp_path)
    steps, modes, nats_per_piece = [], [], taught.nats_per_piece
    monkeypatch.setattr(taught, "nats_per_piece", lambda m, r: modes.append(m.training) or nats_per_piece(m, r))

    class Noted(torch.optim.Adam):
        def step(self, *args, **more):
            steps.append(self.param_groups[0]["lr"])
            return super().step(*args, **more)

    monkeypatch.setattr(torch.optim, "Adam", Noted)
    taught.tatoeba()
    assert len(modes) == 4
    assert not any(modes)  # no dropout while measuring
    assert max(steps) == pytest.approx(2e-3)
    assert steps[-1] == pytest.approx(2e-3 / (len(steps) - len(steps) // 4))  # the next one would be zero
    names = ["copy of the source", "word for word", "nearest training sentence"]
    names += ["Transformer, greedy", "Transformer, beam 4"]
    assert [(row[1], row[3]) for row, _ in recorded] == [(n, m) for n in names for m in ("BLEU", "chrF")]
    assert [more["parameters"] is None for _, more in recorded] == [True] * 6 + [False] * 4
    card = json.loads((tmp_path / f"{taught.NAME}.json").read_text(encoding="utf-8"))
    assert card["alpha"] in (0.0, 0.6, 1.0)
    assert len(card["validation, nats per piece, by pass"]) == 3
    words = taught.read_card(card)
    english, turkish = real["train"]
    for vocabulary, texts in zip(words, (english, turkish), strict=True):
        assert [vocabulary.decode(row) for row in vocabulary.encode(texts)] == texts
        assert vocabulary.pieces[: len(taught.SPECIAL)] == taught.SPECIAL
    shipped = taught.new_network(words)
    results.load_weights(shipped, taught.NAME)
    nats = taught.nats_per_piece(shipped.eval(), taught.encoded(words, card["examples"]))
    assert nats == pytest.approx(card["nats of the examples"], abs=1e-5)
    rows = tuple(v.encode(list(side)) for v, side in zip(words, real["valid"], strict=True))
    best = min(card["validation, nats per piece, by pass"])
    assert taught.nats_per_piece(shipped, rows) == pytest.approx(best, abs=0.01)  # half precision
    points = [example[-1] for example in card["examples"]]
    assert points == sorted(points)
    assert [example[3] for example in card["examples"]] == taught.by_beam(
        shipped, words, [example[0] for example in card["examples"]], 4, card["alpha"]
    )


def test_by_beam_takes_the_best_of_beam_search_with_the_width_and_alpha_it_was_given(monkeypatch):
    asked = []

    def beam_search(step, *arguments):
        asked.append((step(torch.tensor([[SOS]])).shape, *arguments))
        return [taught.Hypothesis(-1.0, -2.0, (4, 5, EOS)), taught.Hypothesis(-2.0, -3.0, (6, EOS))]

    monkeypatch.setattr(taught, "beam_search", beam_search)
    words = [taught.Vocabulary(["a b c"]), taught.Vocabulary(["d e f"])]
    model = network(n_source=7, n_target=7, layers=1)
    assert taught.by_beam(model, words, ["a b", "c"], 3, 0.6) == ["d e", "d e"]
    assert asked == [((1, 7), 3, taught.LONGEST, 0.6)] * 2


def test_the_test_sentences_come_from_everywhere_and_alpha_from_validation(monkeypatch):
    searched = []

    def by_beam(network, words, texts, beam, alpha):
        searched.append((texts, beam, alpha))
        return [text.upper() if alpha == 0.6 else "?" for text in texts]

    monkeypatch.setattr(taught, "by_beam", by_beam)
    monkeypatch.setattr(taught, "by_greedy", lambda network, words, texts: texts)
    monkeypatch.setattr(taught, "record", lambda *row, **more: None)
    monkeypatch.setattr(taught, "budget", "full", raising=False)
    train, valid = letters(60, 0), letters(9, 7)
    words = [taught.Vocabulary(side) for side in train]
    english = [f"a{k} c" for k in range(70)]
    real = {"valid": valid, "test": (english, [text.upper() for text in english])}
    model = taught.Transformer(*map(len, words), width=12, heads=3)
    facts = taught.take_the_test(model.eval(), words, real, train, n=22)
    assert searched == [(valid[0], 4, 0.0), (valid[0], 4, 0.6), (valid[0], 4, 1.0), (english[::3][:22], 4, 0.6)]
    assert facts["alpha"] == 0.6
    assert facts["test sentences"] == 22
    assert facts["scores"]["Transformer, beam 4"]["chrF"] == (100.0, 0.0)
    assert facts["greedy and beam agree"] == 0.0
    assert {example[0] for example in facts["examples"]} <= set(english[::3])


def test_the_shipped_translator_is_small_and_its_card_complete():
    card = json.loads((results.WEIGHTS / f"{taught.NAME}.json").read_text(encoding="utf-8"))
    assert (results.WEIGHTS / f"{taught.NAME}.safetensors").stat().st_size < 5e6
    assert card["test sentences"] == 2000
    for metric in ("BLEU", "chrF"):
        greedy, beam = (card["scores"][f"Transformer, {search}"][metric] for search in ("greedy", "beam 4"))
        nearest = card["scores"]["nearest training sentence"][metric]
        assert min(greedy[0], beam[0]) - nearest[0] > 5 * (greedy[1] + nearest[1])
