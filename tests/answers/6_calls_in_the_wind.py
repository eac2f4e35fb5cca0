"""Assignment 6: mistakes that students make, each with the one test that it fails, and a second correct solution."""

MISTAKES = {
    ("schedule", "decibels of amplitudes"): """
def schedule(decibels):
    snr = 10 ** (decibels / 20)
    alpha_bar = np.concatenate([[1.0], snr / (1 + snr)])
    return alpha_bar, 1 - alpha_bar[1:] / alpha_bar[:-1]
""",
    ("schedule", "all noise so far in place of beta"): """
def schedule(decibels):
    snr = 10 ** (decibels / 10)
    alpha_bar = np.concatenate([[1.0], snr / (1 + snr)])
    return alpha_bar, 1 - alpha_bar[1:]
""",
    ("schedule", "no level 0"): """
def schedule(decibels):
    snr = 10 ** (decibels / 10)
    alpha_bar = snr / (1 + snr)
    return alpha_bar, 1 - alpha_bar[1:] / alpha_bar[:-1]
""",
    ("noisy_log_prob", "the logarithm of a sum that underflows"): """
def noisy_log_prob(x, ab, pi, mu, var):
    v = ab * var + 1 - ab
    square = np.sum((x[:, None] - math.sqrt(ab) * mu) ** 2, axis=2)
    with np.errstate(divide="ignore"):
        return np.log(np.sum(pi * np.exp(-square / (2 * v)) / (2 * math.pi * v) ** (x.shape[1] / 2), axis=1))
""",
    ("noisy_log_prob", "no root of alpha_bar in the mean"): """
def noisy_log_prob(x, ab, pi, mu, var):
    v = ab * var + 1 - ab
    square = np.sum((x[:, None] - ab * mu) ** 2, axis=2)
    return np.logaddexp.reduce(np.log(pi) - 0.5 * (x.shape[1] * np.log(2 * math.pi * v) + square / v), axis=1)
""",
    ("noisy_log_prob", "the constant of one dimension"): """
def noisy_log_prob(x, ab, pi, mu, var):
    v = ab * var + 1 - ab
    square = np.sum((x[:, None] - math.sqrt(ab) * mu) ** 2, axis=2)
    return np.logaddexp.reduce(np.log(pi) - 0.5 * (np.log(2 * math.pi * v) + square / v), axis=1)
""",
    ("noisy_log_prob", "no shares"): """
def noisy_log_prob(x, ab, pi, mu, var):
    v = ab * var + 1 - ab
    square = np.sum((x[:, None] - math.sqrt(ab) * mu) ** 2, axis=2)
    return np.logaddexp.reduce(-0.5 * (x.shape[1] * np.log(2 * math.pi * v) + square / v), axis=1)
""",
    ("noisy_score", "sign"): """
def noisy_score(x, ab, pi, mu, var):
    v = ab * var + 1 - ab
    pull = x[:, None] - math.sqrt(ab) * mu
    log_joint = np.log(pi) - 0.5 * x.shape[1] * np.log(v) - np.sum(pull**2, axis=2) / (2 * v)
    r = np.exp(log_joint - np.logaddexp.reduce(log_joint, axis=1, keepdims=True))
    return np.sum((r / v)[:, :, None] * pull, axis=1)
""",
    ("noisy_score", "the lecture's formula with a mean variance"): """
def noisy_score(x, ab, pi, mu, var):
    v = ab * (pi @ var) + 1 - ab
    pull = math.sqrt(ab) * mu - x[:, None]
    log_joint = np.log(pi) - np.sum(pull**2, axis=2) / (2 * v)
    r = np.exp(log_joint - np.logaddexp.reduce(log_joint, axis=1, keepdims=True))
    return np.sum(r[:, :, None] * pull, axis=1) / v
""",
    ("noisy_score", "the normalization of each part cancels no more"): """
def noisy_score(x, ab, pi, mu, var):
    v = ab * var + 1 - ab
    pull = math.sqrt(ab) * mu - x[:, None]
    log_joint = np.log(pi) - np.sum(pull**2, axis=2) / (2 * v)
    r = np.exp(log_joint - np.logaddexp.reduce(log_joint, axis=1, keepdims=True))
    return np.sum((r / v)[:, :, None] * pull, axis=1)
""",
    ("noisy_score", "zero over zero"): """
def noisy_score(x, ab, pi, mu, var):
    v = ab * var + 1 - ab
    pull = math.sqrt(ab) * mu - x[:, None]
    part = pi * np.exp(-np.sum(pull**2, axis=2) / (2 * v)) / v ** (x.shape[1] / 2)
    with np.errstate(invalid="ignore"):
        r = part / part.sum(axis=1, keepdims=True)
    return np.sum((r / v)[:, :, None] * pull, axis=1)
""",
    ("guesses", "no root of alpha_bar"): """
def guesses(x, score, ab):
    x0, noise = (x + (1 - ab) * score) / ab, -math.sqrt(1 - ab) * score
    return x0, noise, math.sqrt(ab) * noise - math.sqrt(1 - ab) * x0
""",
    ("guesses", "the noise has the sign of the score"): """
def guesses(x, score, ab):
    x0, noise = (x + (1 - ab) * score) / math.sqrt(ab), math.sqrt(1 - ab) * score
    return x0, noise, math.sqrt(ab) * noise - math.sqrt(1 - ab) * x0
""",
    ("guesses", "no root of 1 - alpha_bar"): """
def guesses(x, score, ab):
    x0, noise = (x + (1 - ab) * score) / math.sqrt(ab), -(1 - ab) * score
    return x0, noise, math.sqrt(ab) * noise - math.sqrt(1 - ab) * x0
""",
    ("guesses", "v with a plus"): """
def guesses(x, score, ab):
    x0, noise = (x + (1 - ab) * score) / math.sqrt(ab), -math.sqrt(1 - ab) * score
    return x0, noise, math.sqrt(ab) * noise + math.sqrt(1 - ab) * x0
""",
    ("ddpm_step", "beta in place of the posterior's variance"): """
def ddpm_step(x_t, x0, t, alpha_bar, noise):
    now, before = alpha_bar[t], alpha_bar[t - 1]
    alpha = now / before
    mean = (math.sqrt(alpha) * (1 - before) * x_t + math.sqrt(before) * (1 - alpha) * x0) / (1 - now)
    return mean + math.sqrt(1 - alpha) * noise * (t > 1)
""",
    ("ddpm_step", "noise in the last step"): """
def ddpm_step(x_t, x0, t, alpha_bar, noise):
    now, before = alpha_bar[t], alpha_bar[t - 1]
    alpha = now / before
    mean = (math.sqrt(alpha) * (1 - before) * x_t + math.sqrt(before) * (1 - alpha) * x0) / (1 - now)
    variance = (1 - alpha) * (1 - before) / (1 - now) if t > 1 else 1 - alpha
    return mean + math.sqrt(variance) * noise
""",
    ("ddpm_step", "the variance multiplies the noise"): """
def ddpm_step(x_t, x0, t, alpha_bar, noise):
    now, before = alpha_bar[t], alpha_bar[t - 1]
    alpha = now / before
    mean = (math.sqrt(alpha) * (1 - before) * x_t + math.sqrt(before) * (1 - alpha) * x0) / (1 - now)
    return mean + (1 - alpha) * (1 - before) / (1 - now) * noise
""",
    ("ddpm_step", "one index too far"): """
def ddpm_step(x_t, x0, t, alpha_bar, noise):
    now, before = alpha_bar[t], alpha_bar[t - 1]
    alpha = now / before
    mean = (math.sqrt(alpha) * (1 - before) * x_t + math.sqrt(now) * (1 - alpha) * x0) / (1 - now)
    return mean + math.sqrt((1 - alpha) * (1 - before) / (1 - now)) * noise
""",
    ("ddpm_step", "division by zero in the last step"): """
def ddpm_step(x_t, x0, t, alpha_bar, noise):
    before = alpha_bar[t - 1]
    alpha = alpha_bar[t] / before
    with np.errstate(all="ignore"):
        variance = 1 / (alpha / (1 - alpha) + 1 / (1 - before))
        mean = variance * (np.sqrt(alpha) / (1 - alpha) * x_t + np.sqrt(before) / (1 - before) * x0)
    return mean + np.sqrt(variance) * noise
""",
    ("ddim_step", "the point itself is mixed"): """
def ddim_step(x, noise, ab_from, ab_to):
    return math.sqrt(ab_to) * x + math.sqrt(1 - ab_to) * noise
""",
    ("ddim_step", "no root of 1 - alpha_bar"): """
def ddim_step(x, noise, ab_from, ab_to):
    x0 = (x - (1 - ab_from) * noise) / math.sqrt(ab_from)
    return math.sqrt(ab_to) * x0 + (1 - ab_to) * noise
""",
    ("ddim_step", "chance is left in it"): """
def ddim_step(x, noise, ab_from, ab_to):
    x0 = (x - math.sqrt(1 - ab_from) * noise) / math.sqrt(ab_from)
    return math.sqrt(ab_to) * x0 + math.sqrt(1 - ab_to) * rng.normal(size=x.shape)
""",
    ("step_price", "missing one half"): """
def step_price(x0, guess, t, alpha_bar, s2):
    now, before = alpha_bar[t], alpha_bar[t - 1]
    beta = 1 - now / before
    ratio = beta * (1 - before) / (1 - now) / s2
    missed = before * beta**2 / (1 - now) ** 2 * np.sum((x0 - guess) ** 2, axis=1)
    return missed / s2 + x0.shape[1] * (ratio - 1 - math.log(ratio))
""",
    ("step_price", "the variances count once"): """
def step_price(x0, guess, t, alpha_bar, s2):
    now, before = alpha_bar[t], alpha_bar[t - 1]
    beta = 1 - now / before
    ratio = beta * (1 - before) / (1 - now) / s2
    missed = before * beta**2 / (1 - now) ** 2 * np.sum((x0 - guess) ** 2, axis=1)
    return 0.5 * (missed / s2 + ratio - 1 - math.log(ratio))
""",
    ("step_price", "the ratio is upside down"): """
def step_price(x0, guess, t, alpha_bar, s2):
    now, before = alpha_bar[t], alpha_bar[t - 1]
    beta = 1 - now / before
    ratio = s2 * (1 - now) / (beta * (1 - before))
    missed = before * beta**2 / (1 - now) ** 2 * np.sum((x0 - guess) ** 2, axis=1)
    return 0.5 * (missed / s2 + x0.shape[1] * (ratio - 1 - math.log(ratio)))
""",
    ("step_price", "half the drop of the SNR, whatever the variance"): """
def step_price(x0, guess, t, alpha_bar, s2):
    snr = alpha_bar[1:] / (1 - alpha_bar[1:])
    ratio = (1 - alpha_bar[t] / alpha_bar[t - 1]) * (1 - alpha_bar[t - 1]) / (1 - alpha_bar[t]) / s2
    missed = 0.5 * (snr[t - 2] - snr[t - 1]) * np.sum((x0 - guess) ** 2, axis=1)
    return missed + 0.5 * x0.shape[1] * (ratio - 1 - math.log(ratio))
""",
    ("without", "not divided by what is left"): """
def without(score, score_k, r):
    return score - r[:, None] * score_k
""",
    ("without", "a difference with a weight"): """
def without(score, score_k, r):
    return score + r[:, None] * (score - score_k)
""",
    ("without", "the other one is taken out"): """
def without(score, score_k, r):
    return (score - (1 - r)[:, None] * score_k) / np.maximum(r, 1e-9)[:, None]
""",
}

OTHERWISE = {
    "schedule": """
def schedule(decibels):
    levels = [1.0]
    for d in decibels:
        levels.append(1 / (1 + 10.0 ** (-d / 10)))
    beta = [(a - b) / a for a, b in zip(levels, levels[1:])]
    return np.array(levels), np.array(beta)
""",
    "noisy_log_prob": """
def noisy_log_prob(x, ab, pi, mu, var):
    total = np.full(len(x), -np.inf)
    for share, m, v in zip(pi, mu, var):
        s = np.sqrt(ab * v + (1 - ab))
        z = (x - np.sqrt(ab) * m) / s
        total = np.logaddexp(total, np.log(share) - (0.5 * z**2 + np.log(s) + 0.5 * np.log(2 * np.pi)).sum(1))
    return total
""",
    "noisy_score": """
def noisy_score(x, ab, pi, mu, var):
    result = np.empty(x.shape)
    for i, point in enumerate(x):
        v = ab * var + 1 - ab
        logs = [
            np.log(share) - len(point) / 2 * np.log(s) - ((point - ab**0.5 * m) ** 2).sum() / (2 * s)
            for share, m, s in zip(pi, mu, v)
        ]
        weights = np.exp(np.array(logs) - max(logs))
        weights /= weights.sum()
        result[i] = sum(w * (ab**0.5 * m - point) / s for w, m, s in zip(weights, mu, v))
    return result
""",
    "guesses": """
def guesses(x, score, ab):
    noise = (-np.sqrt(1 - ab) * score).astype(np.float32)
    x0 = (x - np.sqrt(1 - ab) * noise) / np.sqrt(ab)
    v = (noise - np.sqrt(1 - ab) * x) / np.sqrt(ab)
    return [x0, noise, v]
""",
    "ddpm_step": """
def ddpm_step(x_t, x0, t, alpha_bar, noise):
    if t == 1:
        return x0.copy()
    a, b = alpha_bar[t], alpha_bar[t - 1]
    beta = 1 - a / b
    variance = 1 / ((1 - beta) / beta + 1 / (1 - b))
    mean = variance * (np.sqrt(1 - beta) / beta * x_t + np.sqrt(b) / (1 - b) * x0)
    return mean + variance**0.5 * noise
""",
    "ddim_step": """
def ddim_step(x, noise, ab_from, ab_to):
    scale = np.sqrt(ab_to / ab_from)
    return scale * x + (np.sqrt(1 - ab_to) - scale * np.sqrt(1 - ab_from)) * noise
""",
    "step_price": """
def step_price(x0, guess, t, alpha_bar, s2):
    snr = alpha_bar[t - 1 : t + 1] / (1 - alpha_bar[t - 1 : t + 1])
    v = (1 - alpha_bar[t] / alpha_bar[t - 1]) * (1 - alpha_bar[t - 1]) / (1 - alpha_bar[t])
    prices = []
    for a, b in zip(x0, guess):
        total = 0.0
        for i, j in zip(a, b):
            total += 0.5 * (v / s2 + np.log(s2 / v) - 1) + 0.5 * (snr[0] - snr[1]) * (i - j) ** 2 * v / s2
        prices.append(total)
    return np.array(prices)
""",
    "without": """
def without(score, score_k, r):
    odds = (r / (1 - r)).reshape(-1, 1)
    return score + odds * (score - score_k)
""",
    "her_network": "The conditional variance is left; 0.04 / 0.4 = 0.1; guidance narrows: measure the spread.",
}
