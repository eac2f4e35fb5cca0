"""Assignment 5: mistakes that students make, each with the one test that it fails, and a second correct solution."""

MISTAKES = {
    ("made_masks", "outputs see themselves"): """
def made_masks(order, degrees, n_condition):
    place = 1 + order.argsort()
    below, masks = torch.cat([torch.zeros(n_condition).long(), place]), []
    for degree in [*degrees, place]:
        masks.append((degree[:, None] >= below).float())
        below = degree
    return masks
""",
    ("made_masks", "the order is taken for the places"): """
def made_masks(order, degrees, n_condition):
    place = 1 + order
    below, masks = torch.cat([torch.zeros(n_condition).long(), place]), []
    for degree in degrees:
        masks.append((degree[:, None] >= below).float())
        below = degree
    return [*masks, (place[:, None] > below).float()]
""",
    ("made_masks", "outputs sorted by place"): """
def made_masks(order, degrees, n_condition):
    place = 1 + order.argsort()
    below, masks = torch.cat([torch.zeros(n_condition).long(), place]), []
    for degree in degrees:
        masks.append((degree[:, None] >= below).float())
        below = degree
    return [*masks, (torch.arange(1, len(order) + 1)[:, None] > below).float()]
""",
    ("made_masks", "the weather is one more lamp"): """
def made_masks(order, degrees, n_condition):
    place = 1 + order.argsort()
    below, masks = torch.cat([torch.ones(n_condition).long(), place]), []
    for degree in degrees:
        masks.append((degree[:, None] >= below).float())
        below = degree
    return [*masks, (place[:, None] > below).float()]
""",
    ("made_masks", "into hidden units the degree must rise, too"): """
def made_masks(order, degrees, n_condition):
    place = 1 + order.argsort()
    below, masks = torch.cat([torch.full((n_condition,), -1), place]), []
    for degree in degrees:
        masks.append((degree[:, None] > below).float())
        below = degree
    return [*masks, (place[:, None] > below).float()]
""",
    ("made_masks", "the list of degrees is changed"): """
def made_masks(order, degrees, n_condition):
    place = 1 + order.argsort()
    degrees.insert(0, torch.cat([torch.zeros(n_condition).long(), place]))
    masks = [(b[:, None] >= a).float() for a, b in itertools.pairwise(degrees)]
    return [*masks, (place[:, None] > degrees[-1]).float()]
""",
    ("fill", "one pass for all lamps"): """
def fill(net, x, known, order, n):
    start = torch.where(known, x, 0).repeat(n, 1)
    logits = net(start)
    draws = torch.where(known, start, torch.bernoulli(logits.sigmoid()))
    log_p = F.logsigmoid(torch.where(draws == 1, logits, -logits))
    return draws, torch.where(known, log_p, 0).sum(1)
""",
    ("fill", "from left to right"): """
def fill(net, x, known, order, n):
    draws, log_w = torch.where(known, x, 0).repeat(n, 1), torch.zeros(n)
    for i in range(len(x)):
        logits = net(draws)[:, i]
        if known[i]:
            log_w = log_w + F.logsigmoid(logits if x[i] == 1 else -logits)
        else:
            draws[:, i] = torch.bernoulli(logits.sigmoid())
    return draws, log_w
""",
    ("fill", "drawn lamps in the weight"): """
def fill(net, x, known, order, n):
    draws, log_w = torch.where(known, x, 0).repeat(n, 1), torch.zeros(n)
    for i in order.tolist():
        logits = net(draws)[:, i]
        if not known[i]:
            draws[:, i] = torch.bernoulli(logits.sigmoid())
        log_w = log_w + F.logsigmoid(torch.where(draws[:, i] == 1, logits, -logits))
    return draws, log_w
""",
    ("fill", "what a lost lamp holds is read"): """
def fill(net, x, known, order, n):
    draws, log_w = x.repeat(n, 1), torch.zeros(n)
    for i in order.tolist():
        logits = net(draws)[:, i]
        if known[i]:
            log_w = log_w + F.logsigmoid(logits if x[i] == 1 else -logits)
        else:
            draws[:, i] = (torch.rand(n) < logits.sigmoid()).float()
    return draws, log_w
""",
    ("fill", "a dark lamp has the probability of a lit one"): """
def fill(net, x, known, order, n):
    draws, log_w = torch.where(known, x, 0).repeat(n, 1), torch.zeros(n)
    for i in order.tolist():
        logits = net(draws)[:, i]
        if known[i]:
            log_w = log_w + F.logsigmoid(logits)
        else:
            draws[:, i] = torch.bernoulli(logits.sigmoid())
    return draws, log_w
""",
    ("fill", "a little is added in the logarithm"): """
def fill(net, x, known, order, n):
    draws, log_w = torch.where(known, x, 0).repeat(n, 1), torch.zeros(n)
    for i in order.tolist():
        p = net(draws)[:, i].sigmoid()
        if known[i]:
            log_w = log_w + torch.log((p if x[i] == 1 else 1 - p) + 1e-12)
        else:
            draws[:, i] = torch.bernoulli(p)
    return draws, log_w
""",
    ("sequence_nll", "not shifted"): """
def sequence_nll(logits, tokens):
    each = logits.log_softmax(-1).gather(-1, tokens[..., None])[..., 0]
    nll = -torch.where(tokens >= END, each, 0).sum(1)
    return nll, nll.sum() / (tokens >= END).sum()
""",
    ("sequence_nll", "zero times infinity"): """
def sequence_nll(logits, tokens):
    each = logits[:, :-1].log_softmax(-1).gather(-1, tokens[:, 1:, None])[..., 0]
    nll = -(each * (tokens[:, 1:] >= END)).sum(1)
    return nll, nll.sum() / (tokens[:, 1:] >= END).sum()
""",
    ("sequence_nll", "START is predicted"): """
def sequence_nll(logits, tokens):
    each = logits[:, :-1].log_softmax(-1).gather(-1, tokens[:, 1:, None])[..., 0]
    nll = -torch.where(tokens[:, 1:] != PAD, each, 0).sum(1)
    return nll, nll.sum() / (tokens[:, 1:] != PAD).sum()
""",
    ("sequence_nll", "mean over padding"): """
def sequence_nll(logits, tokens):
    each = logits[:, :-1].log_softmax(-1).gather(-1, tokens[:, 1:, None])[..., 0]
    each = torch.where(tokens[:, 1:] >= END, each, 0)
    return -each.sum(1), -each.mean()
""",
    ("sequence_nll", "the tokens are changed"): """
def sequence_nll(logits, tokens):
    targets = tokens[:, 1:]
    targets[targets < END] = -100
    each = F.cross_entropy(logits[:, :-1].mT, targets, reduction="none")
    return each.sum(1), each.sum() / (targets >= END).sum()
""",
    ("sequence_nll", "nothing can be learned from a number"): """
def sequence_nll(logits, tokens):
    each = logits[:, :-1].log_softmax(-1).gather(-1, tokens[:, 1:, None])[..., 0]
    nll = -torch.where(tokens[:, 1:] >= END, each, 0).sum(1)
    return nll, nll.sum().item() / (tokens[:, 1:] >= END).sum().item()
""",
    ("sequence_nll", "a little is added in the logarithm"): """
def sequence_nll(logits, tokens):
    p = logits[:, :-1].softmax(-1).gather(-1, tokens[:, 1:, None])[..., 0]
    nll = -torch.where(tokens[:, 1:] >= END, (p + 1e-30).log(), 0).sum(1)
    return nll, nll.sum() / (tokens[:, 1:] >= END).sum()
""",
    ("look_back", "padding on the right"): """
def look_back(lengths, T, window):
    t, s = torch.arange(T)[:, None], torch.arange(T)
    return ((s <= t) & (s > t - window)) & (s < lengths[:, None])[:, None]
""",
    ("look_back", "window one too long"): """
def look_back(lengths, T, window):
    t, s = torch.arange(T)[:, None], torch.arange(T)
    return ((s <= t) & (s >= t - window)) & (s >= T - lengths[:, None])[:, None]
""",
    ("look_back", "queries and keys exchanged"): """
def look_back(lengths, T, window):
    t, s = torch.arange(T), torch.arange(T)[:, None]
    return ((s <= t) & (s > t - window)) & (t >= T - lengths[:, None])[:, None]
""",
    ("look_back", "padding looks at itself"): """
def look_back(lengths, T, window):
    t, s = torch.arange(T)[:, None], torch.arange(T)
    real = s >= T - lengths[:, None]
    return ((s <= t) & (s > t - window)) & real[:, None] | (s == t)
""",
    ("attend", "not divided by the root of d"): """
def attend(q, k, v, mask):
    weights = (q @ k.mT).masked_fill(~mask, -1e30).softmax(-1) * mask
    return weights @ v, weights
""",
    ("attend", "softmax over the queries"): """
def attend(q, k, v, mask):
    scores = q @ k.mT / math.sqrt(q.shape[-1])
    weights = scores.masked_fill(~mask, -1e30).softmax(-2) * mask
    return weights @ v, weights
""",
    ("attend", "masked after the softmax, and normalized again"): """
def attend(q, k, v, mask):
    weights = (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1) * mask
    weights = weights / weights.sum(-1, keepdim=True).clamp(min=1e-30)
    return weights @ v, weights
""",
    ("attend", "nan where nothing is permitted"): """
def attend(q, k, v, mask):
    scores = q @ k.mT / math.sqrt(q.shape[-1])
    weights = scores.masked_fill(~mask, -math.inf).softmax(-1)
    return weights @ v, weights
""",
    ("attend", "nan in the gradient"): """
def attend(q, k, v, mask):
    scores = q @ k.mT / math.sqrt(q.shape[-1])
    scores = scores + torch.zeros_like(scores).masked_fill(~mask, -math.inf)
    weights = scores.softmax(-1).nan_to_num(0.0)
    return weights @ v, weights
""",
    ("attend", "forbidden keys get a score that others may have"): """
def attend(q, k, v, mask):
    scores = (q @ k.mT / math.sqrt(q.shape[-1])).masked_fill(~mask, -1000.0)
    weights = scores.softmax(-1) * mask
    return weights @ v, weights
""",
    ("attend", "scores are cut off"): """
def attend(q, k, v, mask):
    powers = (q @ k.mT / math.sqrt(q.shape[-1])).clamp(-60, 60).exp() * mask
    weights = powers / powers.sum(-1, keepdim=True).clamp(min=1e-30)
    return weights @ v, weights
""",
    ("grouped_heads", "heads dealt out in turn"): """
def grouped_heads(x, W_q, W_k, W_v, W_o, h, g, mask, attend):
    split = lambda y, heads: y.unflatten(-1, (heads, -1)).transpose(1, 2)
    q, k, v = split(x @ W_q, h), split(x @ W_k, g), split(x @ W_v, g)
    k, v = k.repeat(1, h // g, 1, 1), v.repeat(1, h // g, 1, 1)
    return attend(q, k, v, mask[:, None])[0].transpose(1, 2).flatten(2) @ W_o
""",
    ("grouped_heads", "reshaped, not transposed"): """
def grouped_heads(x, W_q, W_k, W_v, W_o, h, g, mask, attend):
    n, T, _ = x.shape
    q, k, v = (y.reshape(n, m, T, -1) for y, m in ((x @ W_q, h), (x @ W_k, g), (x @ W_v, g)))
    k, v = k.repeat_interleave(h // g, dim=1), v.repeat_interleave(h // g, dim=1)
    return attend(q, k, v, mask[:, None])[0].reshape(n, T, -1) @ W_o
""",
    ("grouped_heads", "the mask has no axis for heads"): """
def grouped_heads(x, W_q, W_k, W_v, W_o, h, g, mask, attend):
    split = lambda y, heads: y.unflatten(-1, (heads, -1)).transpose(1, 2)
    q, k, v = split(x @ W_q, h), split(x @ W_k, g), split(x @ W_v, g)
    k, v = k.repeat_interleave(h // g, dim=1), v.repeat_interleave(h // g, dim=1)
    mask = mask if len(mask) == h else mask[:, None]
    return attend(q, k, v, mask)[0].transpose(1, 2).flatten(2) @ W_o
""",
    ("grouped_heads", "values from the matrix of the keys"): """
def grouped_heads(x, W_q, W_k, W_v, W_o, h, g, mask, attend):
    split = lambda y, heads: y.unflatten(-1, (heads, -1)).transpose(1, 2)
    q, k = split(x @ W_q, h), split(x @ W_k, g).repeat_interleave(h // g, dim=1)
    return attend(q, k, k, mask[:, None])[0].transpose(1, 2).flatten(2) @ W_o
""",
    ("grouped_heads", "g neighbors share, not h/g"): """
def grouped_heads(x, W_q, W_k, W_v, W_o, h, g, mask, attend):
    split = lambda y, heads: y.unflatten(-1, (heads, -1)).transpose(1, 2)
    q, k, v = split(x @ W_q, h), split(x @ W_k, g), split(x @ W_v, g)
    shared = (torch.arange(h) // g).clamp(max=g - 1)
    return attend(q, k[:, shared], v[:, shared], mask[:, None])[0].transpose(1, 2).flatten(2) @ W_o
""",
    ("beam_search", "finished messages are lost"): """
def beam_search(next_log_probs, width, max_length, alpha):
    living = [(0.0, ())]
    for n in range(1, max_length + 1):
        new = [
            (total + step, (*y, s))
            for total, y in living
            for s, step in enumerate(next_log_probs(y).tolist())
            if step > -math.inf and (n < max_length or s == END)
        ]
        kept = sorted(new, reverse=True)[:width]
        living = [pair for pair in kept if pair[1][-1] != END]
        if not living:
            break
    total, y = max(kept)
    return y, total / ((5 + len(y)) / 6) ** alpha
""",
    ("beam_search", "stops at the first finished message"): """
def beam_search(next_log_probs, width, max_length, alpha):
    living = [(0.0, ())]
    for n in range(1, max_length + 1):
        new = [
            (total + step, (*y, s))
            for total, y in living
            for s, step in enumerate(next_log_probs(y).tolist())
            if step > -math.inf and (n < max_length or s == END)
        ]
        living = sorted(new, reverse=True)[:width]
        finished = [pair for pair in living if pair[1][-1] == END]
        if finished:
            total, y = max(finished)
            return y, total / ((5 + n) / 6) ** alpha
""",
    ("beam_search", "compares log p, divides at the end"): """
def beam_search(next_log_probs, width, max_length, alpha):
    living, finished = [(0.0, ())], []
    for n in range(1, max_length + 1):
        new = [
            (total + step, (*y, s))
            for total, y in living
            for s, step in enumerate(next_log_probs(y).tolist())
            if step > -math.inf and (n < max_length or s == END)
        ]
        kept = sorted(new, reverse=True)[:width]
        finished += [pair for pair in kept if pair[1][-1] == END]
        living = [pair for pair in kept if pair[1][-1] != END]
    total, y = max(finished)
    return y, total / ((5 + len(y)) / 6) ** alpha
""",
    ("beam_search", "END is not counted"): """
def beam_search(next_log_probs, width, max_length, alpha):
    living, finished = [(0.0, ())], []
    for n in range(1, max_length + 1):
        new = [
            (total + step, (*y, s))
            for total, y in living
            for s, step in enumerate(next_log_probs(y).tolist())
            if step > -math.inf and (n < max_length or s == END)
        ]
        kept = sorted(new, reverse=True)[:width]
        finished += [(total / ((4 + n) / 6) ** alpha, y) for total, y in kept if y[-1] == END]
        living = [pair for pair in kept if pair[1][-1] != END]
    score, y = max(finished)
    return y, score
""",
    ("beam_search", "the best of each prefix"): """
def beam_search(next_log_probs, width, max_length, alpha):
    living, finished = [(0.0, ())], []
    for n in range(1, max_length + 1):
        kept = []
        for total, y in living:
            steps = next_log_probs(y).tolist()
            symbols = [s for s in range(len(steps)) if n < max_length or s == END]
            for s in sorted(symbols, key=lambda s: -steps[s])[:width]:
                kept.append((total + steps[s], (*y, s)))
        finished += [(total / ((5 + n) / 6) ** alpha, y) for total, y in kept if y[-1] == END]
        living = [pair for pair in kept if pair[1][-1] != END]
    score, y = max(finished)
    return y, score
""",
    ("beam_search", "finished messages take a place"): """
def beam_search(next_log_probs, width, max_length, alpha):
    living, finished = [(0.0, ())], []
    for n in range(1, max_length + 1):
        new = [
            (total + step, (*y, s))
            for total, y in living
            for s, step in enumerate(next_log_probs(y).tolist())
            if step > -math.inf and (n < max_length or s == END)
        ]
        kept = sorted(new, reverse=True)[: width - len(finished)]
        finished += [(total / ((5 + n) / 6) ** alpha, y) for total, y in kept if y[-1] == END]
        living = [pair for pair in kept if pair[1][-1] != END]
        if not living or len(finished) >= width:
            break
    score, y = max(finished)
    return y, score
""",
    ("beam_search", "END needs no place"): """
def beam_search(next_log_probs, width, max_length, alpha):
    living, finished = [(0.0, ())], []
    for n in range(1, max_length + 1):
        new = [
            (total + step, (*y, s))
            for total, y in living
            for s, step in enumerate(next_log_probs(y).tolist())
            if step > -math.inf and (n < max_length or s == END)
        ]
        finished += [(total / ((5 + n) / 6) ** alpha, y) for total, y in new if y[-1] == END]
        living = sorted((pair for pair in new if pair[1][-1] != END), reverse=True)[:width]
    score, y = max(finished)
    return y, score
""",
    ("beam_search", "nothing forces END in the last step"): """
def beam_search(next_log_probs, width, max_length, alpha):
    living, finished = [(0.0, ())], [(-math.inf, ())]
    for n in range(1, max_length + 1):
        new = [
            (total + step, (*y, s))
            for total, y in living
            for s, step in enumerate(next_log_probs(y).tolist())
            if step > -math.inf
        ]
        kept = sorted(new, reverse=True)[:width]
        finished += [(total / ((5 + n) / 6) ** alpha, y) for total, y in kept if y[-1] == END]
        living = [pair for pair in kept if pair[1][-1] != END]
    score, y = max(finished)
    return y, score
""",
}

OTHERWISE = {
    "made_masks": """
def made_masks(order, degrees, n_condition):
    d = len(order)
    place = {int(lamp): k for k, lamp in enumerate(order, start=1)}
    layers = [[0] * n_condition + [place[i] for i in range(d)], *[m.tolist() for m in degrees]]
    masks = []
    for lower, upper in zip(layers[:-1], layers[1:]):
        mask = torch.zeros(len(upper), len(lower), dtype=torch.bool)
        for a, high in enumerate(upper):
            for b, low in enumerate(lower):
                mask[a, b] = set(range(1, low + 1)) <= set(range(1, high + 1))
        masks.append(mask)
    last = torch.zeros(d, len(layers[-1]), dtype=torch.bool)
    for i in range(d):
        for b, low in enumerate(layers[-1]):
            last[i, b] = low <= place[i] - 1
    masks.append(last)
    return tuple(masks)
""",
    "fill": """
def fill(net, x, known, order, n):
    draws = torch.zeros(n, len(x), dtype=torch.float64)
    for i in order:
        if known[i]:
            draws[:, i] = x[i]
        else:
            logits = net(draws.float())[:, i].double()
            draws[:, i] = (torch.rand(n, dtype=torch.float64) < torch.sigmoid(logits)).double()
    signs = 2 * draws[:, known] - 1
    log_p = -F.softplus(-signs * net(draws.float())[:, known].double())
    return draws, log_p.sum(dim=1)
""",
    "sequence_nll": """
def sequence_nll(logits, tokens):
    targets = tokens[:, 1:].clone()
    targets[targets < 2] = -100
    flat = F.cross_entropy(
        logits[:, :-1].reshape(-1, logits.shape[-1]), targets.reshape(-1), reduction="none", ignore_index=-100
    )
    nll = flat.reshape(targets.shape).sum(dim=1)
    return nll, flat.sum() / len(targets[targets != -100])
""",
    "look_back": """
def look_back(lengths, T, window):
    result = torch.zeros(len(lengths), T, T, dtype=torch.bool)
    for b, length in enumerate(lengths.tolist()):
        for t in range(T - length, T):
            result[b, t, max(T - length, t - window + 1) : t + 1] = True
    return result
""",
    "attend": """
def attend(q, k, v, mask):
    scores = torch.einsum("...td,...sd->...ts", q, k) * q.shape[-1] ** -0.5
    scores = torch.where(mask, scores, torch.tensor(-float("inf"), dtype=scores.dtype))
    highest = scores.amax(-1, keepdim=True).detach()
    highest = torch.where(highest.isinf(), torch.zeros_like(highest), highest)
    powers = torch.exp(scores - highest)
    total = powers.sum(-1, keepdim=True)
    weights = powers / torch.where(total == 0, torch.ones_like(total), total)
    return torch.einsum("...ts,...sd->...td", weights, v), weights
""",
    "grouped_heads": """
def grouped_heads(x, W_q, W_k, W_v, W_o, h, g, mask, attend):
    d = W_q.shape[1] // h
    heads = []
    for i in range(h):
        j = i // (h // g)
        q = x @ W_q[:, i * d : (i + 1) * d]
        k = x @ W_k[:, j * d : (j + 1) * d]
        v = x @ W_v[:, j * d : (j + 1) * d]
        heads.append(attend(q, k, v, mask)[0])
    return torch.cat(heads, dim=-1) @ W_o
""",
    "beam_search": """
def beam_search(next_log_probs, width, max_length, alpha):
    alive, best = {(): torch.tensor(0.0).double()}, (None, -math.inf)
    length = 0
    while alive and length < max_length:
        length += 1
        candidates = {}
        for prefix, total in alive.items():
            steps = next_log_probs(prefix)
            for s in range(len(steps)):
                if torch.isfinite(steps[s]) and (s == END or length < max_length):
                    candidates[prefix + (s,)] = total + steps[s].double()
        chosen = sorted(candidates, key=lambda y: float(candidates[y]), reverse=True)[:width]
        alive = {}
        for y in chosen:
            if y[-1] != END:
                alive[y] = candidates[y]
                continue
            score = candidates[y] / ((5 + len(y)) / 6) ** alpha
            if score > best[1]:
                best = y, score
    return best
""",
    "better_than_truth": "KL is never negative; some lamps see themselves; sum the probabilities of all signals.",
}
