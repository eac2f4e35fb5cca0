"""Assignment 2: mistakes that students make, each with the one test that it fails, and a second correct solution."""

MISTAKES = {
    ("gibbs", "both from the old state"): """
def gibbs(P, x, n):
    y, pairs = rng.choice(P.shape[1], p=P[x] / P[x].sum()), []
    for _ in range(n):
        x, y = (
            rng.choice(P.shape[0], p=P[:, y] / P[:, y].sum()),
            rng.choice(P.shape[1], p=P[x] / P[x].sum()),
        )
        pairs.append((x, y))
    return np.array(pairs)
""",
    ("gibbs", "rows and columns exchanged"): """
def gibbs(P, x, n):
    pairs = []
    for _ in range(n):
        y = rng.choice(P.shape[1], p=P[:, x] / P[:, x].sum())
        x = rng.choice(P.shape[0], p=P[y] / P[y].sum())
        pairs.append((x, y))
    return np.array(pairs)
""",
    ("gibbs", "not normalized"): """
def gibbs(P, x, n):
    pairs = []
    for _ in range(n):
        y = rng.choice(P.shape[1], p=P[x])
        x = rng.choice(P.shape[0], p=P[:, y])
        pairs.append((x, y))
    return np.array(pairs)
""",
    ("gibbs", "the old x with the new y"): """
def gibbs(P, x, n):
    pairs = []
    for _ in range(n):
        y = rng.choice(P.shape[1], p=P[x] / P[x].sum())
        pairs.append((x, y))
        x = rng.choice(P.shape[0], p=P[:, y] / P[:, y].sum())
    return np.array(pairs)
""",
    ("gibbs", "normalizes the table itself"): """
def gibbs(P, x, n):
    pairs = []
    for _ in range(n):
        row = P[x]
        row /= row.sum()
        y = rng.choice(P.shape[1], p=row)
        x = rng.choice(P.shape[0], p=P[:, y] / P[:, y].sum())
        pairs.append((x, y))
    return np.array(pairs)
""",
    ("gibbs", "the same numbers at every call"): """
def gibbs(P, x, n):
    rng, pairs = np.random.default_rng(0), []
    for _ in range(n):
        y = rng.choice(P.shape[1], p=P[x] / P[x].sum())
        x = rng.choice(P.shape[0], p=P[:, y] / P[:, y].sum())
        pairs.append((x, y))
    return np.array(pairs)
""",
    ("init_RBM", "all weights zero"): """
def init_RBM(p, q):
    return RBM(np.zeros((p, q)), np.zeros(p), np.zeros(q))
""",
    ("init_RBM", "uniform"): """
def init_RBM(p, q):
    return RBM(0.02 * rng.random((p, q)), np.zeros(p), np.zeros(q))
""",
    ("in_out", "overflow"): """
def in_out(rbm, X):
    return 1 / (1 + np.exp(-(X @ rbm.W + rbm.b)))


RBM.in_out = in_out
""",
    ("in_out", "np.where computes what overflows"): """
def in_out(rbm, X):
    c = X @ rbm.W + rbm.b
    return np.where(c >= 0, 1 / (1 + np.exp(-c)), np.exp(c) / (1 + np.exp(c)))


RBM.in_out = in_out
""",
    ("in_out", "no bias"): """
def in_out(rbm, X):
    return 0.5 * (1 + np.tanh(0.5 * (X @ rbm.W)))


RBM.in_out = in_out
""",
    ("in_out", "sign"): """
def in_out(rbm, X):
    return 0.5 * (1 - np.tanh(0.5 * (X @ rbm.W + rbm.b)))


RBM.in_out = in_out
""",
    ("out_in", "bias of the other layer"): """
def out_in(rbm, H):
    return 0.5 * (1 + np.tanh(0.5 * (H @ rbm.W.T + rbm.b[0])))


RBM.out_in = out_in
""",
    ("out_in", "overflow"): """
def out_in(rbm, H):
    return 1 / (1 + np.exp(-(H @ rbm.W.T + rbm.a)))


RBM.out_in = out_in
""",
    ("free_energy", "one number for all rows"): """
def free_energy(rbm, X):
    return -X @ rbm.a - np.logaddexp(0, X @ rbm.W + rbm.b).sum()
""",
    ("free_energy", "log of 1 + exp overflows"): """
def free_energy(rbm, X):
    return -X @ rbm.a - np.log(1 + np.exp(X @ rbm.W + rbm.b)).sum(1)
""",
    ("free_energy", "visible biases forgotten"): """
def free_energy(rbm, X):
    return -np.logaddexp(0, X @ rbm.W + rbm.b).sum(1)
""",
    ("free_energy", "sign"): """
def free_energy(rbm, X):
    return X @ rbm.a + np.logaddexp(0, X @ rbm.W + rbm.b).sum(1)
""",
    ("train", "sum instead of mean"): """
def train(rbm, X, size_batch, eps, epoch):
    for _ in range(epoch):
        for rows in np.array_split(rng.permutation(X), range(size_batch, len(X), size_batch)):
            P = rbm.in_out(rows)
            V = draw(rbm.out_in(draw(P)))
            Q = rbm.in_out(V)
            rbm.W += eps * (rows.T @ P - V.T @ Q)
            rbm.a += eps * (rows - V).sum(0)
            rbm.b += eps * (P - Q).sum(0)
    return rbm


RBM.train = train
""",
    ("train", "dreams minus data"): """
def train(rbm, X, size_batch, eps, epoch):
    for _ in range(epoch):
        for rows in np.array_split(rng.permutation(X), range(size_batch, len(X), size_batch)):
            P = rbm.in_out(rows)
            V = draw(rbm.out_in(draw(P)))
            Q = rbm.in_out(V)
            rbm.W -= eps / len(rows) * (rows.T @ P - V.T @ Q)
            rbm.a -= eps * (rows - V).mean(0)
            rbm.b -= eps * (P - Q).mean(0)
    return rbm


RBM.train = train
""",
    ("train", "the last rows are dropped"): """
def train(rbm, X, size_batch, eps, epoch):
    for _ in range(epoch):
        order = rng.permutation(len(X))
        for k in range(len(X) // size_batch):
            rows = X[order[k * size_batch : (k + 1) * size_batch]]
            P = rbm.in_out(rows)
            V = draw(rbm.out_in(draw(P)))
            Q = rbm.in_out(V)
            rbm.W += eps / len(rows) * (rows.T @ P - V.T @ Q)
            rbm.a += eps * (rows - V).mean(0)
            rbm.b += eps * (P - Q).mean(0)
    return rbm


RBM.train = train
""",
    ("train", "hidden units are not drawn"): """
def train(rbm, X, size_batch, eps, epoch):
    for _ in range(epoch):
        order = rng.permutation(len(X))
        for start in range(0, len(X), size_batch):
            V = X[order[start : start + size_batch]]
            P = rbm.in_out(V)
            H = P
            V_dream = draw(rbm.out_in(H))
            P_dream = rbm.in_out(V_dream)
            rbm.W += eps / len(V) * (V.T @ P - V_dream.T @ P_dream)
            rbm.a += eps * (V - V_dream).mean(0)
            rbm.b += eps * (P - P_dream).mean(0)
    return rbm


RBM.train = train
""",
    ("train", "dreams are not drawn"): """
def train(rbm, X, size_batch, eps, epoch):
    for _ in range(epoch):
        order = rng.permutation(len(X))
        for start in range(0, len(X), size_batch):
            V = X[order[start : start + size_batch]]
            P = rbm.in_out(V)
            H = draw(P)
            V_dream = rbm.out_in(H)
            P_dream = rbm.in_out(V_dream)
            rbm.W += eps / len(V) * (V.T @ P - V_dream.T @ P_dream)
            rbm.a += eps * (V - V_dream).mean(0)
            rbm.b += eps * (P - P_dream).mean(0)
    return rbm


RBM.train = train
""",
    ("train", "draws in the update"): """
def train(rbm, X, size_batch, eps, epoch):
    for _ in range(epoch):
        order = rng.permutation(len(X))
        for start in range(0, len(X), size_batch):
            V = X[order[start : start + size_batch]]
            P = rbm.in_out(V)
            H = draw(P)
            V_dream = draw(rbm.out_in(H))
            P_dream = rbm.in_out(V_dream)
            rbm.W += eps / len(V) * (V.T @ H - V_dream.T @ P_dream)
            rbm.a += eps * (V - V_dream).mean(0)
            rbm.b += eps * (H - P_dream).mean(0)
    return rbm


RBM.train = train
""",
    ("train", "no shuffling"): """
def train(rbm, X, size_batch, eps, epoch):
    for _ in range(epoch):
        order = np.arange(len(X))
        for start in range(0, len(X), size_batch):
            V = X[order[start : start + size_batch]]
            P = rbm.in_out(V)
            H = draw(P)
            V_dream = draw(rbm.out_in(H))
            P_dream = rbm.in_out(V_dream)
            rbm.W += eps / len(V) * (V.T @ P - V_dream.T @ P_dream)
            rbm.a += eps * (V - V_dream).mean(0)
            rbm.b += eps * (P - P_dream).mean(0)
    return rbm


RBM.train = train
""",
    ("train", "shuffled once for all epochs"): """
def train(rbm, X, size_batch, eps, epoch):
    order = rng.permutation(len(X))
    for _ in range(epoch):
        for start in range(0, len(X), size_batch):
            V = X[order[start : start + size_batch]]
            P = rbm.in_out(V)
            H = draw(P)
            V_dream = draw(rbm.out_in(H))
            P_dream = rbm.in_out(V_dream)
            rbm.W += eps / len(V) * (V.T @ P - V_dream.T @ P_dream)
            rbm.a += eps * (V - V_dream).mean(0)
            rbm.b += eps * (P - P_dream).mean(0)
    return rbm


RBM.train = train
""",
    ("train", "W divides by the size of a full batch"): """
def train(rbm, X, size_batch, eps, epoch):
    for _ in range(epoch):
        order = rng.permutation(len(X))
        for start in range(0, len(X), size_batch):
            V = X[order[start : start + size_batch]]
            P = rbm.in_out(V)
            H = draw(P)
            V_dream = draw(rbm.out_in(H))
            P_dream = rbm.in_out(V_dream)
            rbm.W += eps / size_batch * (V.T @ P - V_dream.T @ P_dream)
            rbm.a += eps * (V - V_dream).mean(0)
            rbm.b += eps * (P - P_dream).mean(0)
    return rbm


RBM.train = train
""",
    ("train", "a new machine is trained"): """
import copy


def train(rbm, X, size_batch, eps, epoch):
    rbm = copy.deepcopy(rbm)
    for _ in range(epoch):
        order = rng.permutation(len(X))
        for start in range(0, len(X), size_batch):
            V = X[order[start : start + size_batch]]
            P = rbm.in_out(V)
            H = draw(P)
            V_dream = draw(rbm.out_in(H))
            P_dream = rbm.in_out(V_dream)
            rbm.W += eps / len(V) * (V.T @ P - V_dream.T @ P_dream)
            rbm.a += eps * (V - V_dream).mean(0)
            rbm.b += eps * (P - P_dream).mean(0)
    return rbm


RBM.train = train
""",
    ("complete", "clamped at the end only"): """
def complete(rbm, X, known, n_steps):
    V = np.where(known, X, draw(np.full(X.shape, 0.5)))
    for _ in range(n_steps):
        V = draw(rbm.out_in(draw(rbm.in_out(V))))
    return np.where(known, X, V)
""",
    ("complete", "starts from what is lost"): """
def complete(rbm, X, known, n_steps):
    V = X.copy()
    for _ in range(n_steps):
        V = np.where(known, X, draw(rbm.out_in(draw(rbm.in_out(V)))))
    return V
""",
    ("complete", "probabilities instead of draws, in X itself"): """
def complete(rbm, X, known, n_steps):
    for _ in range(n_steps):
        X[:, ~known] = rbm.out_in(rbm.in_out(X))[:, ~known]
    return X
""",
    ("complete", "hidden units are not drawn"): """
def complete(rbm, X, known, n_steps):
    V = np.where(known, X, draw(np.full(X.shape, 0.5)))
    for _ in range(n_steps):
        V = np.where(known, X, draw(rbm.out_in(rbm.in_out(V))))
    return V
""",
    ("complete", "starts from gray"): """
def complete(rbm, X, known, n_steps):
    V = np.where(known, X, 0.5)
    for _ in range(n_steps):
        V = np.where(known, X, draw(rbm.out_in(draw(rbm.in_out(V)))))
    return V
""",
}

OTHERWISE = {
    "gibbs": """
def gibbs(P, x, n):
    result = []
    for _ in range(n):
        given_x = np.cumsum(P[x]) / np.sum(P[x])
        y = min(int(np.searchsorted(given_x, rng.random())), P.shape[1] - 1)
        given_y = np.cumsum(P[:, y]) / np.sum(P[:, y])
        x = min(int(np.searchsorted(given_y, rng.random())), P.shape[0] - 1)
        result.append([x, y])
    return np.asarray(result)
""",
    "init_RBM": """
def init_RBM(p, q):
    W = rng.normal(loc=0, scale=0.01, size=(p, q))
    return RBM(W=W, b=np.zeros(q), a=np.zeros(p))
""",
    "in_out": """
def in_out(rbm, X):
    c = np.dot(X, rbm.W) + rbm.b[None, :]
    e = np.exp(-np.abs(c))
    return np.where(c >= 0, 1 / (1 + e), e / (1 + e))


RBM.in_out = in_out
""",
    "out_in": """
def out_in(rbm, H):
    c = np.einsum("ij,nj->ni", rbm.W, H) + rbm.a
    return np.exp(-np.logaddexp(0, -c))


RBM.out_in = out_in
""",
    "free_energy": """
def free_energy(rbm, X):
    F = []
    for v in X:
        c = rbm.b + v @ rbm.W
        softplus = np.maximum(c, 0) + np.log1p(np.exp(-np.abs(c)))
        F.append(-(v @ rbm.a) - softplus.sum())
    return np.array(F)
""",
    "train": """
def train(rbm, X, size_batch, eps, epoch):
    for _ in range(epoch):
        X = X[rng.permutation(len(X))]
        k = 0
        while k < len(X):
            batch = X[k : k + size_batch]
            k += size_batch
            n = len(batch)
            up = rbm.in_out(batch)
            dream = draw(rbm.out_in(draw(up)))
            up_again = rbm.in_out(dream)
            dW = np.zeros_like(rbm.W)
            for i in range(n):
                dW += np.outer(batch[i], up[i]) - np.outer(dream[i], up_again[i])
            rbm.W = rbm.W + eps * dW / n
            rbm.a = rbm.a + eps * (batch.sum(0) - dream.sum(0)) / n
            rbm.b = rbm.b + eps * (up.sum(0) - up_again.sum(0)) / n
    return rbm


RBM.train = train
""",
    "complete": """
def complete(rbm, X, known, n_steps):
    V = X.copy()
    lost = ~known
    V[:, lost] = rng.integers(0, 2, size=(len(X), lost.sum()))
    for _ in range(n_steps):
        H = draw(rbm.in_out(V))
        V[:, lost] = draw(rbm.out_in(H))[:, lost]
    return V
""",
    "progress": "One step back to the data says nothing about the probability of data; log Z is missing.",
}
