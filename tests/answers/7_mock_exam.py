"""The mock exam: mistakes that students make, each with the one test that it fails, and a second correct solution."""

MISTAKES = {
    ("merge_loss", "zero times infinity"): """
def merge_loss(p, q, f):
    with np.errstate(all="ignore"):
        P, Q = np.bincount(f, p), np.bincount(f, q)
        return np.sum(p * np.log(p / q)) - np.sum(P * np.log(P / Q))
""",
    ("merge_loss", "the other direction"): """
def merge_loss(p, q, f):
    def kl(p, q):
        return np.sum(q * np.log(q / np.maximum(p, 1e-12)))

    return kl(p, q) - kl(np.bincount(f, p), np.bincount(f, q))
""",
    ("merge_loss", "what is left in place of what is lost"): """
def merge_loss(p, q, f):
    P, Q = np.bincount(f, p), np.bincount(f, q)
    seen = P > 0
    return np.sum(P[seen] * np.log(P[seen] / Q[seen]))
""",
    ("merge_loss", "groups without their weights"): """
def merge_loss(p, q, f):
    total = 0.0
    for y in set(f.tolist()):
        P, Q = p[f == y] / p[f == y].sum(), q[f == y] / q[f == y].sum()
        total += np.sum(P[P > 0] * np.log(P[P > 0] / Q[P > 0]))
    return total
""",
    ("free_energy", "hidden units of zero and one"): """
def free_energy(V, W, a, b):
    return -V @ a - np.logaddexp(0, V @ W + b).sum(axis=1)
""",
    ("free_energy", "cosh overflows"): """
def free_energy(V, W, a, b):
    with np.errstate(over="ignore"):
        return -V @ a - np.log(2 * np.cosh(V @ W + b)).sum(axis=1)
""",
    ("free_energy", "two is forgotten"): """
def free_energy(V, W, a, b):
    c = np.abs(V @ W + b)
    return -V @ a - (c + np.log1p(np.exp(-2 * c)) - math.log(2)).sum(axis=1)
""",
    ("free_energy", "the sign"): """
def free_energy(V, W, a, b):
    c = V @ W + b
    return V @ a + np.logaddexp(c, -c).sum(axis=1)
""",
    ("top_bound", "the exponential underflows"): """
def top_bound(log_joint, m):
    with np.errstate(divide="ignore"):
        return np.log(np.sort(np.exp(log_joint), axis=1)[:, -m:].sum(axis=1))
""",
    ("top_bound", "the same values for all"): """
def top_bound(log_joint, m):
    best = np.argsort(log_joint.sum(axis=0))[-m:]
    return np.logaddexp.reduce(log_joint[:, best], axis=1)
""",
    ("top_bound", "the first values"): """
def top_bound(log_joint, m):
    return np.logaddexp.reduce(log_joint[:, :m], axis=1)
""",
    ("top_bound", "no entropy"): """
def top_bound(log_joint, m):
    top = np.sort(log_joint, axis=1)[:, -m:]
    q = np.exp(top - top.max(axis=1, keepdims=True))
    return np.sum(q / q.sum(axis=1, keepdims=True) * top, axis=1)
""",
    ("game_value", "both shares are one half"): """
def game_value(real, fake, share):
    return -0.5 * np.logaddexp(0, -real).mean() - 0.5 * np.logaddexp(0, fake).mean()
""",
    ("game_value", "weighted by the numbers of examples"): """
def game_value(real, fake, share):
    return -(np.logaddexp(0, -real).sum() + np.logaddexp(0, fake).sum()) / (len(real) + len(fake))
""",
    ("game_value", "the logarithm of zero"): """
def game_value(real, fake, share):
    with np.errstate(over="ignore", divide="ignore"):
        D_real, D_fake = 1 / (1 + np.exp(-real)), 1 / (1 + np.exp(-fake))
        return share * np.log(D_real).mean() + (1 - share) * np.log(1 - D_fake).mean()
""",
    ("game_value", "a loss in place of the value"): """
def game_value(real, fake, share):
    return share * np.logaddexp(0, -real).mean() + (1 - share) * np.logaddexp(0, fake).mean()
""",
    ("block_masks", "the output sees its own block"): """
def block_masks(block, degrees):
    return block[None, :] <= degrees[:, None], degrees[None, :] <= block[:, None]
""",
    ("block_masks", "the hidden unit sees too little"): """
def block_masks(block, degrees):
    return block[None, :] < degrees[:, None], degrees[None, :] < block[:, None]
""",
    ("block_masks", "every coordinate a block"): """
def block_masks(block, degrees):
    order = np.arange(1, len(block) + 1)
    return order[None, :] <= degrees[:, None], degrees[None, :] < order[:, None]
""",
    ("block_masks", "transposed"): """
def block_masks(block, degrees):
    return block[:, None] <= degrees[None, :], degrees[:, None] < block[None, :]
""",
    ("linear_attention", "not causal"): """
def linear_attention(Q, K, V):
    return Q @ (K.T @ V)
""",
    ("linear_attention", "not itself"): """
def linear_attention(Q, K, V):
    S, Y = np.zeros((K.shape[1], V.shape[1])), np.empty(V.shape)
    for t in range(len(Q)):
        Y[t] = Q[t] @ S
        S += np.outer(K[t], V[t])
    return Y
""",
    ("linear_attention", "a large matrix"): """
def linear_attention(Q, K, V):
    return np.tril(Q @ K.T) @ V
""",
    ("linear_attention", "divided by a root"): """
def linear_attention(Q, K, V):
    S, Y = np.zeros((K.shape[1], V.shape[1])), np.empty(V.shape)
    for t in range(len(Q)):
        S += np.outer(K[t], V[t])
        Y[t] = Q[t] @ S / math.sqrt(Q.shape[1])
    return Y
""",
    ("best_guess", "early noise is not shrunk"): """
def best_guess(x, a, b):
    return np.tanh(np.prod(a) * x / np.sum(b**2))
""",
    ("best_guess", "shrunk by a, not by its square"): """
def best_guess(x, a, b):
    A, S = 1.0, 0.0
    for a_t, b_t in zip(a, b):
        A, S = a_t * A, a_t * S + b_t**2
    return np.tanh(A * x / S)
""",
    ("best_guess", "the deviation in place of the variance"): """
def best_guess(x, a, b):
    A, S = 1.0, 0.0
    for a_t, b_t in zip(a, b):
        A, S = a_t * A, a_t**2 * S + b_t**2
    return np.tanh(A * x / math.sqrt(S))
""",
    ("best_guess", "the exponential overflows"): """
def best_guess(x, a, b):
    A, S = 1.0, 0.0
    for a_t, b_t in zip(a, b):
        A, S = a_t * A, a_t**2 * S + b_t**2
    with np.errstate(all="ignore"):
        up, down = np.exp(A * x / S), np.exp(-A * x / S)
        return (up - down) / (up + down)
""",
    ("wasserstein", "not sorted"): """
def wasserstein(x, y, w):
    u = np.sort(np.concatenate([x, y]))[:-1]
    F = np.searchsorted(x, u, side="right") / len(x)
    G = np.append(0, np.cumsum(w))[np.searchsorted(y, u, side="right")]
    return np.sum(np.abs(F - G) * np.diff(np.sort(np.concatenate([x, y]))))
""",
    ("wasserstein", "the difference of means"): """
def wasserstein(x, y, w):
    return abs(x.mean() - y @ w)
""",
    ("wasserstein", "the weights are ignored"): """
def wasserstein(x, y, w):
    u = np.sort(np.concatenate([x, y]))
    F, G = (np.searchsorted(np.sort(s), u[:-1], side="right") / len(s) for s in (x, y))
    return np.sum(np.abs(F - G) * np.diff(u))
""",
    ("wasserstein", "the weights stay where they were"): """
def wasserstein(x, y, w):
    u = np.sort(np.concatenate([x, y]))
    F, G = np.mean(x <= u[:-1, None], axis=1), (np.sort(y) <= u[:-1, None]) @ w
    return np.abs(F - G) @ np.diff(u)
""",
    ("wasserstein", "the functions are not weighted by width"): """
def wasserstein(x, y, w):
    u = np.sort(np.concatenate([x, y]))
    F, G = np.mean(x <= u[:, None], axis=1), (y <= u[:, None]) @ w
    return np.sum(np.abs(F - G))
""",
}

OTHERWISE = {
    "proof1": "Jensen's inequality for the concave logarithm; the chain rule of the KL; ratios that are constant on groups.",
    "merge_loss": """
def merge_loss(p, q, f):
    loss = 0.0
    for x in range(len(p)):
        if p[x] > 0:
            same = [k for k in range(len(p)) if f[k] == f[x]]
            inside_p, inside_q = p[x] / sum(p[same]), q[x] / sum(q[same])
            loss += p[x] * math.log(inside_p / inside_q)
    return loss
""",
    "proof2": "Substitute h = 2s - 1: a machine with units of 0 and 1, weights 2w, biases 2b, and a shifted by the row sums of w.",
    "free_energy": """
def free_energy(V, W, a, b):
    result = []
    for v in V:
        c = np.abs(b + W.T @ v)
        result.append(-float(a @ v) - sum(c + np.log1p(np.exp(-2 * c))))
    return np.array(result)
""",
    "proof3": "Jensen's inequality on the sum over S, with its case of equality.",
    "top_bound": """
def top_bound(log_joint, m):
    top = -np.partition(-log_joint, m - 1, axis=1)[:, :m]
    largest = top.max(axis=1, keepdims=True)
    return (largest + np.log(np.exp(top - largest).sum(axis=1, keepdims=True)))[:, 0]
""",
    "proof4": "V(D*) - V(D) is the mean under m of the KL of two coins, as in lecture 11.",
    "game_value": """
def game_value(real, fake, share):
    def log_sigmoid(u):
        return np.minimum(u, 0) - np.log1p(np.exp(-np.abs(u)))

    return sum(share / len(real) * log_sigmoid(real)) + sum((1 - share) / len(fake) * log_sigmoid(-fake))
""",
    "proof5": "The product of the masks has an entry only below the blocks; sum out the last block.",
    "block_masks": """
def block_masks(block, degrees):
    first = np.zeros((len(degrees), len(block)), dtype=bool)
    second = np.ones((len(block), len(degrees)), dtype=bool)
    for k, m in enumerate(degrees):
        for i, beta in enumerate(block):
            first[k, i] = not beta > m
            second[i, k] = not first[k, i]
    return [first, second]
""",
    "proof6": "Associativity; T > d; the state has d e numbers.",
    "linear_attention": """
def linear_attention(Q, K, V):
    states = np.cumsum(K[:, :, None] * V[:, None, :], axis=0)
    return np.einsum("td,tde->te", Q, states)
""",
    "proof7": "Unroll the recursion; the noises are independent.",
    "best_guess": """
def best_guess(x, a, b):
    A = math.prod(a)
    S = sum((b[s] * math.prod(a[s + 1 :])) ** 2 for s in range(len(a)))
    return 2 / (1 + np.exp(np.clip(-2 * A * np.asarray(x) / S, -700, 700))) - 1
""",
    "proof8": "Quantiles: cX has c times the quantiles of X.",
    "wasserstein": """
def wasserstein(x, y, w):
    x, pairs = sorted(x), sorted(zip(y, w))
    i = j = 0
    left, right, total = 1 / len(x), pairs[0][1], 0.0
    while True:
        mass = min(left, right)
        total += mass * abs(x[i] - pairs[j][0])
        left, right = left - mass, right - mass
        if left < 1e-12:
            i, left = i + 1, 1 / len(x)
        if right < 1e-12:
            j, right = j + 1, pairs[j + 1][1] if j + 1 < len(pairs) else 0.0
        if i == len(x) or j == len(pairs):
            return total
""",
}
