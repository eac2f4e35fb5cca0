"""Assignment 3: mistakes that students make, each with the one test that it fails, and a second correct solution."""

MISTAKES = {
    ("pca", "not centered"): """
def pca(X, k):
    _, s, rows = np.linalg.svd(X, full_matrices=False)
    return X.mean(0), rows[:k], s[:k] ** 2 / len(X)
""",
    ("pca", "singular values"): """
def pca(X, k):
    _, s, rows = np.linalg.svd(X - X.mean(0), full_matrices=False)
    return X.mean(0), rows[:k], s[:k]
""",
    ("pca", "columns, smallest first"): """
def pca(X, k):
    values, columns = np.linalg.eigh(np.cov(X.T, bias=True))
    return X.mean(0), columns[:, :k].T, values[:k]
""",
    ("pca", "columns taken for rows"): """
def pca(X, k):
    _, s, rows = np.linalg.svd(X - X.mean(0), full_matrices=False)
    return X.mean(0), rows.T[:k], s[:k] ** 2 / len(X)
""",
    ("pca", "centers X itself"): """
def pca(X, k):
    mean = X.mean(0)
    X -= mean
    _, s, rows = np.linalg.svd(X, full_matrices=False)
    return mean, rows[:k], s[:k] ** 2 / len(X)
""",
    ("pca", "divides by n - 1"): """
def pca(X, k):
    values, columns = np.linalg.eigh(np.cov(X.T))
    return X.mean(0), columns[:, ::-1].T[:k], values[::-1][:k]
""",
    ("reconstruct", "the mean is not added again"): """
def reconstruct(X, mean, A):
    return (X - mean) @ A.T @ A
""",
    ("reconstruct", "not centered"): """
def reconstruct(X, mean, A):
    return X @ A.T @ A + mean
""",
    ("reconstruct", "takes the mean of what it gets"): """
def reconstruct(X, mean, A):
    return X.mean(0) + (X - X.mean(0)) @ A.T @ A
""",
    ("gaussian_log_prob", "missing one half"): """
def gaussian_log_prob(X, m, C):
    d = X - m
    return -(X.shape[1] * math.log(2 * math.pi) + np.linalg.slogdet(C)[1] + np.sum(d @ np.linalg.inv(C) * d, axis=1))
""",
    ("gaussian_log_prob", "the determinant overflows"): """
def gaussian_log_prob(X, m, C):
    d = X - m
    norm = math.log(2 * math.pi) * X.shape[1] + np.log(np.linalg.det(C))
    return -0.5 * (norm + np.sum(d @ np.linalg.inv(C) * d, axis=1))
""",
    ("gaussian_log_prob", "the diagonal only"): """
def gaussian_log_prob(X, m, C):
    v = np.diag(C)
    return -0.5 * np.sum(np.log(2 * math.pi * v) + (X - m) ** 2 / v, axis=1)
""",
    ("gaussian_log_prob", "half the log-determinant of a Cholesky factor"): """
def gaussian_log_prob(X, m, C):
    L = np.linalg.cholesky(C)
    white = np.linalg.solve(L, (X - m).T)
    return -0.5 * (np.log(np.diag(L)).sum() + (white**2).sum(0) + len(C) * np.log(2 * np.pi))
""",
    ("gaussian_log_prob", "the number of rows for d"): """
def gaussian_log_prob(X, m, C):
    d = X - m
    norm = len(X) * math.log(2 * math.pi) + np.linalg.slogdet(C)[1]
    return -0.5 * (norm + np.sum(d @ np.linalg.inv(C) * d, axis=1))
""",
    ("kl_to_prior", "missing one half"): """
def kl_to_prior(mu, log_var):
    return np.sum(mu**2 + np.exp(log_var) - 1 - log_var, axis=1)
""",
    ("kl_to_prior", "sign"): """
def kl_to_prior(mu, log_var):
    return 0.5 * np.sum(1 + log_var - mu**2 - np.exp(log_var), axis=1)
""",
    ("kl_to_prior", "log of the deviation"): """
def kl_to_prior(mu, log_var):
    return 0.5 * np.sum(mu**2 + np.exp(2 * log_var) - 1 - 2 * log_var, axis=1)
""",
    ("kl_to_prior", "one number for all"): """
def kl_to_prior(mu, log_var):
    return 0.5 * np.sum(mu**2 + np.exp(log_var) - 1 - log_var)
""",
    ("kl_to_prior", "from the prior to q"): """
def kl_to_prior(mu, log_var):
    return 0.5 * np.sum((1 + mu**2) / np.exp(log_var) - 1 + log_var, axis=1)
""",
    ("kl_to_prior", "mean over the codes"): """
def kl_to_prior(mu, log_var):
    return 0.5 * np.mean(mu**2 + np.exp(log_var) - 1 - log_var, axis=1)
""",
    ("reparametrize", "half the variance"): """
def reparametrize(mu, log_var, noise):
    return mu + 0.5 * np.exp(log_var) * noise
""",
    ("reparametrize", "noise of its own"): """
def reparametrize(mu, log_var, noise):
    return rng.normal(mu, np.exp(0.5 * log_var))
""",
    ("reparametrize", "variance instead of deviation"): """
def reparametrize(mu, log_var, noise):
    return mu + np.exp(log_var) * noise
""",
    ("elbo", "the spread of q is forgotten"): """
def elbo(X, W, b, s2, mu, log_var, kl):
    missed = np.sum((X - b - mu @ W.T) ** 2, axis=1)
    return -0.5 * X.shape[1] * math.log(2 * math.pi * s2) - missed / (2 * s2) - kl
""",
    ("elbo", "plus KL"): """
def elbo(X, W, b, s2, mu, log_var, kl):
    missed = np.sum((X - b - mu @ W.T) ** 2, axis=1) + np.exp(log_var) @ np.sum(W**2, axis=0)
    return -0.5 * X.shape[1] * math.log(2 * math.pi * s2) - missed / (2 * s2) + kl
""",
    ("elbo", "constants dropped"): """
def elbo(X, W, b, s2, mu, log_var, kl):
    missed = np.sum((X - b - mu @ W.T) ** 2, axis=1) + np.exp(log_var) @ np.sum(W**2, axis=0)
    return -missed / (2 * s2) - kl
""",
    ("elbo", "sigma instead of its square"): """
def elbo(X, W, b, s2, mu, log_var, kl):
    missed = np.sum((X - b - mu @ W.T) ** 2, axis=1) + np.exp(log_var) @ np.sum(W**2, axis=0)
    return -0.5 * X.shape[1] * math.log(2 * math.pi * s2) - missed / (2 * math.sqrt(s2)) - kl
""",
    ("elbo", "the spread is not divided by the noise"): """
def elbo(X, W, b, s2, mu, log_var, kl):
    missed = np.sum((X - b - mu @ W.T) ** 2, axis=1) / s2 + np.exp(log_var) @ np.sum(W**2, axis=0)
    return -0.5 * X.shape[1] * math.log(2 * math.pi * s2) - missed / 2 - kl
""",
    ("elbo", "codes counted instead of instruments"): """
def elbo(X, W, b, s2, mu, log_var, kl):
    missed = np.sum((X - b - mu @ W.T) ** 2, axis=1) + np.exp(log_var) @ np.sum(W**2, axis=0)
    return -0.5 * mu.shape[1] * math.log(2 * math.pi * s2) - missed / (2 * s2) - kl
""",
    ("elbo", "all spread times all weights"): """
def elbo(X, W, b, s2, mu, log_var, kl):
    missed = np.sum((X - b - mu @ W.T) ** 2, axis=1) + np.exp(log_var).sum(1) * np.sum(W**2)
    return -0.5 * X.shape[1] * math.log(2 * math.pi * s2) - missed / (2 * s2) - kl
""",
    ("posterior", "least squares"): """
def posterior(X, W, b, s2):
    M = np.linalg.inv(W.T @ W)
    return (X - b) @ W @ M, s2 * M
""",
    ("posterior", "the covariance lacks the noise"): """
def posterior(X, W, b, s2):
    M = np.linalg.inv(W.T @ W + s2 * np.eye(W.shape[1]))
    return (X - b) @ W @ M, M
""",
    ("posterior", "the identity without the noise"): """
def posterior(X, W, b, s2):
    M = np.linalg.inv(W.T @ W + np.eye(W.shape[1]))
    return (X - b) @ W @ M, s2 * M
""",
    ("posterior", "s2 added to every entry"): """
def posterior(X, W, b, s2):
    M = np.linalg.inv(W.T @ W + s2)
    return (X - b) @ W @ M, s2 * M
""",
    ("posterior", "the mean of x is not subtracted"): """
def posterior(X, W, b, s2):
    M = np.linalg.inv(W.T @ W + s2 * np.eye(W.shape[1]))
    return X @ W @ M, s2 * M
""",
}

OTHERWISE = {
    "pca": """
def pca(X, k):
    m = np.sum(X, 0) / X.shape[0]
    values, columns = np.linalg.eigh(np.cov(X, rowvar=False, bias=True))
    order = np.argsort(values)[::-1][:k]
    return m, columns.T[order], values[order]
""",
    "reconstruct": """
def reconstruct(X, mean, A):
    result = []
    for x in X:
        code = [a @ (x - mean) for a in A]
        result.append(mean + sum(c * a for c, a in zip(code, A)))
    return np.array(result)
""",
    "gaussian_log_prob": """
def gaussian_log_prob(X, m, C):
    L = np.linalg.cholesky(C)
    white = np.linalg.solve(L, (X - m).T)
    return -np.log(np.diag(L)).sum() - 0.5 * (white**2).sum(0) - len(C) / 2 * np.log(2 * np.pi)
""",
    "kl_to_prior": """
def kl_to_prior(mu, log_var):
    sigma = np.exp(log_var / 2)
    per_unit = -np.log(sigma) + (sigma**2 + mu**2) / 2 - 1 / 2
    return per_unit.sum(-1)
""",
    "reparametrize": """
def reparametrize(mu, log_var, noise):
    return noise * np.sqrt(np.exp(log_var)) + mu
""",
    "elbo": """
def elbo(X, W, b, s2, mu, log_var, kl):
    result = np.zeros(len(X))
    for i, x in enumerate(X):
        total = 0.0
        for r in range(len(b)):
            center = b[r] + W[r] @ mu[i]
            variance = W[r] ** 2 @ np.exp(log_var[i])
            total -= 0.5 * np.log(2 * np.pi * s2) + ((x[r] - center) ** 2 + variance) / (2 * s2)
        result[i] = total - kl[i]
    return result
""",
    "posterior": """
def posterior(X, W, b, s2):
    k = W.shape[1]
    precision = np.eye(k) + W.T @ W / s2
    S = np.linalg.inv(precision)
    return (X - b) @ W @ S.T / s2, S
""",
    "two_numbers": "The KL of the decoder and the gap of the encoder; use importance samples; the code is not used.",
}
