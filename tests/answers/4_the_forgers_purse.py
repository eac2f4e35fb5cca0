"""Assignment 4: mistakes that students make, each with the one test that it fails, and a second correct solution."""

MISTAKES = {
    ("evidence", "the other direction"): """
def evidence(p, g, odds):
    if np.any((p == 0) & (g > 0)):
        return math.inf, 1
    kl = float(np.sum(p[p > 0] * np.log(p[p > 0] / np.maximum(g[p > 0], 1e-300))))
    return kl, max(1, math.ceil(math.log(odds) / kl)) if kl > 1e-12 else math.inf
""",
    ("evidence", "sign"): """
def evidence(p, g, odds):
    seen = g > 0
    if np.any(p[seen] == 0):
        return math.inf, 1
    kl = float(np.sum(g[seen] * np.log(p[seen] / g[seen])))
    return kl, max(1, math.ceil(math.log(odds) / abs(kl))) if abs(kl) > 1e-12 else math.inf
""",
    ("evidence", "bits"): """
def evidence(p, g, odds):
    seen = g > 0
    if np.any(p[seen] == 0):
        return math.inf, 1
    kl = float(np.sum(g[seen] * np.log2(g[seen] / p[seen])))
    return kl, max(1, math.ceil(math.log2(odds) / kl)) if kl > 1e-12 else math.inf
""",
    ("evidence", "rounded to the nearest"): """
def evidence(p, g, odds):
    seen = g > 0
    if np.any(p[seen] == 0):
        return math.inf, 1
    kl = float(np.sum(g[seen] * np.log(g[seen] / p[seen])))
    return kl, max(1, round(math.log(odds) / kl)) if kl > 1e-12 else math.inf
""",
    ("evidence", "infinite wherever the mint strikes nothing"): """
def evidence(p, g, odds):
    if np.any(p == 0):
        return math.inf, 1
    kl = float(np.sum(g[g > 0] * np.log(g[g > 0] / p[g > 0])))
    return kl, max(1, math.ceil(math.log(odds) / kl)) if kl > 1e-12 else math.inf
""",
    ("best_discriminator", "missing one half"): """
def best_discriminator(p, g):
    return np.where(p + g > 0, p / np.maximum(p + g, 1e-300), 0.5)

def proven_js(p, g, D):
    with np.errstate(all="ignore"):
        return np.where(p > 0, p * np.log(D), 0).sum() + np.where(g > 0, g * np.log(1 - D), 0).sum() + math.log(4)
""",
    ("best_discriminator", "real and false swapped"): """
def best_discriminator(p, g):
    return np.where(p + g > 0, g / np.maximum(p + g, 1e-300), 0.5)

def proven_js(p, g, D):
    with np.errstate(all="ignore"):
        V = np.where(p > 0, p * np.log(1 - D), 0).sum() + np.where(g > 0, g * np.log(D), 0).sum()
    return (V + math.log(4)) / 2
""",
    ("best_discriminator", "0 log 0 is nan"): """
def best_discriminator(p, g):
    return np.where(p + g > 0, p / np.maximum(p + g, 1e-300), 0.5)

def proven_js(p, g, D):
    return (np.sum(p * np.log(D)) + np.sum(g * np.log(1 - D)) + math.log(4)) / 2
""",
    ("best_discriminator", "certain and wrong costs little"): """
def best_discriminator(p, g):
    return np.where(p + g > 0, p / np.maximum(p + g, 1e-300), 0.5)

def proven_js(p, g, D):
    return (np.sum(p * np.log(D + 1e-12)) + np.sum(g * np.log(1 - D + 1e-12)) + math.log(4)) / 2
""",
    ("best_discriminator", "the best inspector's bound, whatever D is"): """
def best_discriminator(p, g):
    return np.where(p + g > 0, p / np.maximum(p + g, 1e-300), 0.5)

def proven_js(p, g, D):
    with np.errstate(all="ignore"):
        return 0.5 * np.nansum(p * np.log(2 * p / (p + g))) + 0.5 * np.nansum(g * np.log(2 * g / (p + g)))
""",
    ("best_discriminator", "D is clipped in place"): """
def best_discriminator(p, g):
    return np.where(p + g > 0, p / np.maximum(p + g, 1e-300), 0.5)

def proven_js(p, g, D):
    if np.any((p > 0) & (D == 0)) or np.any((g > 0) & (D == 1)):
        return -math.inf
    D[D == 0], D[D == 1] = 1e-300, 1 - 1e-16
    D[p + g == 0] = 0.5
    return (np.sum(p * np.log(D)) + np.sum(g * np.log(1 - D)) + math.log(4)) / 2
""",
    ("wasserstein_1d", "difference of the means"): """
def wasserstein_1d(x, y):
    return abs(np.mean(x) - np.mean(y))
""",
    ("wasserstein_1d", "squared"): """
def wasserstein_1d(x, y):
    a, b = np.sort(np.repeat(x, len(y))), np.sort(np.repeat(y, len(x)))
    return np.mean((a - b) ** 2)
""",
    ("wasserstein_1d", "interpolated quantiles"): """
def wasserstein_1d(x, y):
    u = (np.arange(1000) + 0.5) / 1000
    return np.abs(np.quantile(x, u) - np.quantile(y, u)).mean()
""",
    ("wasserstein_1d", "equal values counted once"): """
def wasserstein_1d(x, y):
    places = np.unique(np.concatenate([x, y]))
    a, b = np.unique(x), np.unique(y)
    F_x = np.searchsorted(a, places[:-1], side="right") / len(a)
    F_y = np.searchsorted(b, places[:-1], side="right") / len(b)
    return np.sum(np.abs(F_x - F_y) * np.diff(places))
""",
    ("wasserstein_1d", "levels of different width weigh the same"): """
def wasserstein_1d(x, y):
    n, m = len(x), len(y)
    levels = np.unique(np.concatenate([np.arange(n) / n, np.arange(m) / m]))
    i, j = (np.floor(levels * k + 1e-9).astype(int) for k in (n, m))
    return np.abs(np.sort(x)[i] - np.sort(y)[j]).mean()
""",
    ("wasserstein_1d", "trapezoids"): """
def wasserstein_1d(x, y):
    places = np.sort(np.concatenate([x, y]))
    F_x = np.searchsorted(np.sort(x), places, side="right") / len(x)
    F_y = np.searchsorted(np.sort(y), places, side="right") / len(y)
    return np.trapezoid(np.abs(F_x - F_y), places)
""",
    ("frechet_parts", "the trace of the root is subtracted once"): """
def frechet_parts(real, fake):
    x, y = real / real.std(0), fake / real.std(0)
    A, B = np.cov(x.T, bias=True), np.cov(y.T, bias=True)
    root = np.sqrt(np.linalg.eigvals(A @ B).real.clip(0)).sum()
    return np.sum((x.mean(0) - y.mean(0)) ** 2), np.trace(A + B) - root
""",
    ("frechet_parts", "root of each entry"): """
def frechet_parts(real, fake):
    x, y = real / real.std(0), fake / real.std(0)
    A, B = np.cov(x.T, bias=True), np.cov(y.T, bias=True)
    return np.sum((x.mean(0) - y.mean(0)) ** 2), np.trace(A + B - 2 * np.sqrt(np.abs(A @ B)))
""",
    ("frechet_parts", "deviations only, no correlation"): """
def frechet_parts(real, fake):
    x, y = real / real.std(0), fake / real.std(0)
    return np.sum((x.mean(0) - y.mean(0)) ** 2), np.sum((x.std(0) - y.std(0)) ** 2)
""",
    ("frechet_parts", "not scaled"): """
def frechet_parts(real, fake):
    A, B = np.cov(real.T, bias=True), np.cov(fake.T, bias=True)
    root = np.sqrt(np.linalg.eigvals(A @ B).real.clip(0)).sum()
    return np.sum((real.mean(0) - fake.mean(0)) ** 2), np.trace(A + B) - 2 * root
""",
    ("frechet_parts", "eigenvalues as if the product were symmetric"): """
def frechet_parts(real, fake):
    x, y = real / real.std(0), fake / real.std(0)
    A, B = np.cov(x.T, bias=True), np.cov(y.T, bias=True)
    root = np.sqrt(np.linalg.eigvalsh(A @ B).clip(0)).sum()
    return np.sum((x.mean(0) - y.mean(0)) ** 2), np.trace(A + B) - 2 * root
""",
    ("frechet_parts", "product of the roots"): """
def frechet_parts(real, fake):
    from scipy.linalg import sqrtm
    x, y = real / real.std(0), fake / real.std(0)
    A, B = np.cov(x.T, bias=True), np.cov(y.T, bias=True)
    return np.sum((x.mean(0) - y.mean(0)) ** 2), np.trace(A + B - 2 * sqrtm(A) @ sqrtm(B)).real
""",
    ("frechet_parts", "scaled in place"): """
def frechet_parts(real, fake):
    scale = real.std(0)
    real /= scale
    fake /= scale
    A, B = np.cov(real.T, bias=True), np.cov(fake.T, bias=True)
    root = np.sqrt(np.linalg.eigvals(A @ B).real.clip(0)).sum()
    return np.sum((real.mean(0) - fake.mean(0)) ** 2), np.trace(A + B) - 2 * root
""",
    ("generator_losses", "logarithm of a sigmoid"): """
def generator_losses(logit):
    D = torch.sigmoid(logit)
    return torch.log(1 - D), -torch.log(D), -logit
""",
    ("generator_losses", "D is clipped"): """
def generator_losses(logit):
    D = torch.sigmoid(logit).clamp(1e-7, 1 - 1e-7)
    return torch.log(1 - D), -torch.log(D), -logit
""",
    ("generator_losses", "exchanged"): """
def generator_losses(logit):
    return F.softplus(-logit), -F.softplus(logit), -logit
""",
    ("generator_losses", "mean over the batch"): """
def generator_losses(logit):
    return -F.softplus(logit).mean(), F.softplus(-logit).mean(), -logit.mean()
""",
    ("slope_penalty", "one norm for the whole batch"): """
def slope_penalty(critic, real, fake, t, limit):
    t = t.reshape(-1, *[1] * (real.dim() - 1))
    x = ((1 - t) * real.detach() + t * fake.detach()).requires_grad_()
    (gradient,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
    return (gradient.norm() - limit).clamp(min=0) ** 2
""",
    ("slope_penalty", "two-sided"): """
def slope_penalty(critic, real, fake, t, limit):
    t = t.reshape(-1, *[1] * (real.dim() - 1))
    x = ((1 - t) * real.detach() + t * fake.detach()).requires_grad_()
    (gradient,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
    return ((gradient.flatten(1).norm(dim=1) - limit) ** 2).mean()
""",
    ("slope_penalty", "no graph of the gradient"): """
def slope_penalty(critic, real, fake, t, limit):
    t = t.reshape(-1, *[1] * (real.dim() - 1))
    x = ((1 - t) * real.detach() + t * fake.detach()).requires_grad_()
    (gradient,) = torch.autograd.grad(critic(x).sum(), x)
    return (gradient.flatten(1).norm(dim=1) - limit).clamp(min=0).square().mean()
""",
    ("slope_penalty", "norm over the last dimension only"): """
def slope_penalty(critic, real, fake, t, limit):
    t = t.reshape(-1, *[1] * (real.dim() - 1))
    x = ((1 - t) * real.detach() + t * fake.detach()).requires_grad_()
    (gradient,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
    return (gradient.norm(dim=-1) - limit).clamp(min=0).square().mean()
""",
    ("slope_penalty", "only generated coins are detached"): """
def slope_penalty(critic, real, fake, t, limit):
    t = t.reshape(-1, *[1] * (real.dim() - 1))
    x = ((1 - t) * real + t * fake.detach()).requires_grad_()
    (gradient,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
    return (gradient.flatten(1).norm(dim=1) - limit).clamp(min=0).square().mean()
""",
    ("play_round", "not detached"): """
def play_round(G, D, opt_G, opt_D, real, z_D, z_G, smooth):
    opt_D.zero_grad()
    a, b = D(real), D(G(z_D))
    loss_D = (smooth * F.softplus(-a) + (1 - smooth) * F.softplus(a)).mean() + F.softplus(b).mean()
    loss_D.backward()
    opt_D.step()
    opt_G.zero_grad()
    loss_G = F.softplus(-D(G(z_G))).mean()
    loss_G.backward()
    opt_G.step()
    return loss_D.item(), loss_G.item()
""",
    ("play_round", "labels exchanged"): """
def play_round(G, D, opt_G, opt_D, real, z_D, z_G, smooth):
    opt_D.zero_grad()
    a, b = D(G(z_D).detach()), D(real)
    loss_D = (smooth * F.softplus(-a) + (1 - smooth) * F.softplus(a)).mean() + F.softplus(b).mean()
    loss_D.backward()
    opt_D.step()
    opt_G.zero_grad()
    loss_G = F.softplus(-D(G(z_G))).mean()
    loss_G.backward()
    opt_G.step()
    return loss_D.item(), loss_G.item()
""",
    ("play_round", "saturating"): """
def play_round(G, D, opt_G, opt_D, real, z_D, z_G, smooth):
    opt_D.zero_grad()
    a, b = D(real), D(G(z_D).detach())
    loss_D = (smooth * F.softplus(-a) + (1 - smooth) * F.softplus(a)).mean() + F.softplus(b).mean()
    loss_D.backward()
    opt_D.step()
    opt_G.zero_grad()
    loss_G = -F.softplus(D(G(z_G))).mean()
    loss_G.backward()
    opt_G.step()
    return loss_D.item(), loss_G.item()
""",
    ("play_round", "old gradients are kept"): """
def play_round(G, D, opt_G, opt_D, real, z_D, z_G, smooth):
    a, b = D(real), D(G(z_D).detach())
    loss_D = (smooth * F.softplus(-a) + (1 - smooth) * F.softplus(a)).mean() + F.softplus(b).mean()
    loss_D.backward()
    opt_D.step()
    loss_G = F.softplus(-D(G(z_G))).mean()
    loss_G.backward()
    opt_G.step()
    return loss_D.item(), loss_G.item()
""",
    ("play_round", "both losses before either step"): """
def play_round(G, D, opt_G, opt_D, real, z_D, z_G, smooth):
    a, b = D(real), D(G(z_D).detach())
    loss_D = (smooth * F.softplus(-a) + (1 - smooth) * F.softplus(a)).mean() + F.softplus(b).mean()
    loss_G = F.softplus(-D(G(z_G))).mean()
    grads_D = torch.autograd.grad(loss_D, list(D.parameters()))
    grads_G = torch.autograd.grad(loss_G, list(G.parameters()))
    for player, grads in ((D, grads_D), (G, grads_G)):
        for parameter, grad in zip(player.parameters(), grads):
            parameter.grad = grad
    opt_D.step()
    opt_G.step()
    return loss_D.item(), loss_G.item()
""",
    ("play_round", "the same coins in both turns"): """
def play_round(G, D, opt_G, opt_D, real, z_D, z_G, smooth):
    fake = G(z_D)
    a, b = D(real), D(fake.detach())
    loss_D = (smooth * F.softplus(-a) + (1 - smooth) * F.softplus(a)).mean() + F.softplus(b).mean()
    opt_D.zero_grad()
    loss_D.backward()
    opt_D.step()
    loss_G = F.softplus(-D(fake)).mean()
    opt_G.zero_grad()
    loss_G.backward()
    opt_G.step()
    return loss_D.item(), loss_G.item()
""",
    ("play_round", "probabilities"): """
def play_round(G, D, opt_G, opt_D, real, z_D, z_G, smooth):
    bce = nn.BCELoss()
    opt_D.zero_grad()
    a, b = torch.sigmoid(D(real)), torch.sigmoid(D(G(z_D).detach()))
    loss_D = bce(a, torch.full_like(a, smooth)) + bce(b, torch.zeros_like(b))
    loss_D.backward()
    opt_D.step()
    opt_G.zero_grad()
    c = torch.sigmoid(D(G(z_G)))
    loss_G = bce(c, torch.ones_like(c))
    loss_G.backward()
    opt_G.step()
    return loss_D.item(), loss_G.item()
""",
    ("play_round", "the inspector stays frozen"): """
def play_round(G, D, opt_G, opt_D, real, z_D, z_G, smooth):
    opt_D.zero_grad()
    a, b = D(real), D(G(z_D).detach())
    loss_D = (smooth * F.softplus(-a) + (1 - smooth) * F.softplus(a)).mean() + F.softplus(b).mean()
    loss_D.backward()
    opt_D.step()
    D.requires_grad_(False)
    opt_G.zero_grad()
    loss_G = F.softplus(-D(G(z_G))).mean()
    loss_G.backward()
    opt_G.step()
    return loss_D.item(), loss_G.item()
""",
    ("play_round", "both labels smoothed"): """
def play_round(G, D, opt_G, opt_D, real, z_D, z_G, smooth):
    opt_D.zero_grad()
    a, b = D(real), D(G(z_D).detach())
    loss_D = F.binary_cross_entropy_with_logits(a, torch.full_like(a, smooth))
    loss_D = loss_D + F.binary_cross_entropy_with_logits(b, torch.full_like(b, 1 - smooth))
    loss_D.backward()
    opt_D.step()
    opt_G.zero_grad()
    loss_G = F.softplus(-D(G(z_G))).mean()
    loss_G.backward()
    opt_G.step()
    return loss_D.item(), loss_G.item()
""",
    ("play_round", "sums"): """
def play_round(G, D, opt_G, opt_D, real, z_D, z_G, smooth):
    opt_D.zero_grad()
    a, b = D(real), D(G(z_D).detach())
    loss_D = (smooth * F.softplus(-a) + (1 - smooth) * F.softplus(a)).sum() + F.softplus(b).sum()
    loss_D.backward()
    opt_D.step()
    opt_G.zero_grad()
    loss_G = F.softplus(-D(G(z_G))).sum()
    loss_G.backward()
    opt_G.step()
    return loss_D.item(), loss_G.item()
""",
}

OTHERWISE = {
    "evidence": """
def evidence(p, g, odds):
    kl = 0.0
    for a, b in zip(p, g):
        if b > 0 and a == 0:
            return math.inf, 1
        if b > 0:
            kl += b * (math.log(b) - math.log(a))
    if kl < 1e-12:
        return kl, math.inf
    n = 1
    while n * kl < math.log(odds):
        n += 1
    return kl, n
""",
    "best_discriminator": """
def best_discriminator(p, g):
    return np.array([a / (a + b) if a + b > 0 else 0.5 for a, b in zip(p, g)])

def proven_js(p, g, D):
    from scipy.special import xlogy
    return 0.5 * (xlogy(p, D).sum() + xlogy(g, 1 - D).sum()) + math.log(2)
""",
    "wasserstein_1d": """
def wasserstein_1d(x, y):
    left, right = sorted(x), sorted(y)
    i, j, u, total = 0, 0, 0.0, 0.0
    while i < len(left) and j < len(right):
        level = min((i + 1) / len(left), (j + 1) / len(right))
        total += (level - u) * abs(left[i] - right[j])
        u = level
        if (i + 1) * len(right) <= (j + 1) * len(left):
            if (i + 1) * len(right) == (j + 1) * len(left):
                j += 1
            i += 1
        else:
            j += 1
    return total
""",
    "frechet_parts": """
def frechet_parts(real, fake):
    from scipy.linalg import sqrtm
    scale = np.sqrt(np.mean((real - real.mean(0)) ** 2, axis=0))
    x, y = real / scale, fake / scale
    m, w = x.mean(0), y.mean(0)
    A, B = (x - m).T @ (x - m) / len(x), (y - w).T @ (y - w) / len(y)
    return (m - w) @ (m - w), np.trace(A) + np.trace(B) - 2 * np.trace(sqrtm(A @ B)).real
""",
    "generator_losses": """
def generator_losses(logit):
    f = logit.double()  # in double precision, whatever comes
    zero = torch.zeros_like(f)
    saturating = -torch.logaddexp(zero, f)
    other = torch.logaddexp(zero, -f)
    return saturating, other, saturating + other
""",
    "slope_penalty": """
def slope_penalty(critic, real, fake, t, limit):
    n = real.shape[0]
    with torch.no_grad():
        between = torch.stack([a + weight * (b - a) for a, b, weight in zip(real, fake, t)])
    between.requires_grad_(True)
    values = critic(between)
    gradient = torch.autograd.grad(values, between, grad_outputs=torch.ones_like(values), create_graph=True)[0]
    slopes = (gradient.reshape(n, -1) ** 2).sum(dim=1).sqrt()
    return torch.where(slopes > limit, (slopes - limit) ** 2, torch.zeros_like(slopes)).sum() / n
""",
    "play_round": """
def play_round(G, D, opt_G, opt_D, real, z_D, z_G, smooth):
    bce = nn.BCEWithLogitsLoss()
    with torch.no_grad():
        fake = G(z_D)
    D.zero_grad()
    judged, caught = D(real), D(fake)
    first = bce(judged, smooth * torch.ones_like(judged)) + bce(caught, torch.zeros_like(caught))
    first.backward()
    opt_D.step()
    for parameter in D.parameters():
        parameter.requires_grad_(False)
    G.zero_grad()
    fooled = D(G(z_G))
    second = bce(fooled, torch.ones_like(fooled))
    second.backward()
    opt_G.step()
    for parameter in D.parameters():
        parameter.requires_grad_(True)
    return float(first.detach()), float(second.detach())
""",
    "boast": "Only a lower bound, here 0; freeze the generator and train a better inspector on held-out coins; the statistician's bag, seen by JS.",
}
