"""`fit`: it learns, keeps the best weights, stops early, resumes to the same result, and says what is wrong."""

import numpy as np
import pytest
import torch
from torch import nn

from course_utils.training import History, fit, mean_loss, pick_device, seed_everything


def squared_error(model, batch):
    x, y = batch
    return ((model(x) - y) ** 2).mean()


@pytest.fixture
def line():
    """y = 2x − 1 with noise, 200 examples, and a linear model that starts at zero."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 1, generator=generator)
    y = 2 * x - 1 + 0.1 * torch.randn(200, 1, generator=generator)
    return x, y


def zero_model():
    model = nn.Linear(1, 1)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    return model


def test_fit_reaches_the_least_squares_solution(line):
    x, y = line
    model = zero_model()
    history = fit(model, squared_error, line, epochs=60, batch_size=20, lr=0.05, progress=False)
    design = torch.cat([x, torch.ones_like(x)], dim=1)
    best = torch.linalg.lstsq(design, y).solution.flatten()
    found = torch.tensor([model.weight.item(), model.bias.item()])
    assert torch.allclose(found, best, atol=0.02)
    assert len(history.train) == 60
    assert history.seconds > 0


def test_mean_loss_weighs_a_short_last_batch_by_its_size(line):
    model = zero_model()
    assert mean_loss(model, squared_error, line, batch_size=150) == pytest.approx(
        (line[1] ** 2).mean().item(), rel=1e-6
    )


def test_the_weights_with_the_best_validation_loss_are_kept(line):
    model, seen = zero_model(), []

    def loss(model, batch):
        if not model.training:
            seen.append((model.weight.item(), squared_error(model, batch).item()))
        return squared_error(model, batch)

    history = fit(model, loss, line, line, epochs=8, batch_size=200, lr=2.0, progress=False)
    weight, value = min(seen, key=lambda pair: pair[1])
    assert model.weight.item() == weight
    assert history.best == pytest.approx(value)
    assert history.best_epoch == int(np.argmin(history.valid)) + 1
    assert history.best_epoch < 8  # the last weights are not the best: the step is too long
    assert not model.training


def test_early_stopping_waits_for_patience_and_no_longer(line):
    x, y = line
    other = (x, -y)  # what helps on the training set hurts here
    history = fit(zero_model(), squared_error, line, other, epochs=50, batch_size=20, patience=3, progress=False)
    assert len(history.valid) == history.best_epoch + 3


def test_an_interrupted_run_resumes_to_the_same_result(line, tmp_path):
    def run(epochs, checkpoint=None):
        model = nn.Sequential(nn.Linear(1, 4), nn.Dropout(0.5), nn.Linear(4, 1))
        for parameter in model.parameters():
            nn.init.constant_(parameter, 0.3)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2)
        history = fit(
            model, squared_error, line, line, epochs=epochs, batch_size=20, optimizer=optimizer, scheduler=scheduler,
            checkpoint=checkpoint, progress=False,
        )  # fmt: skip
        return model.state_dict(), history

    straight, history = run(6)
    path = tmp_path / "run.pt"
    run(3, path)
    resumed, again = run(6, path)
    assert again.train == history.train
    assert again.valid == history.valid
    assert all(torch.equal(straight[key], resumed[key]) for key in straight)
    assert [p.name for p in tmp_path.iterdir()] == ["run.pt"]  # nothing half-written is left


def test_a_failing_checkpoint_keeps_the_old_one_whole(line, tmp_path, monkeypatch):
    path = tmp_path / "run.pt"
    fit(zero_model(), squared_error, line, epochs=1, batch_size=20, checkpoint=path, progress=False)
    whole = path.read_bytes()

    def full_disk(state, file):
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="No space left"):
        fit(zero_model(), squared_error, line, epochs=2, batch_size=20, checkpoint=path, progress=False)
    assert path.read_bytes() == whole
    assert [p.name for p in tmp_path.iterdir()] == ["run.pt"]


def test_the_form_of_a_batch_is_the_form_of_the_data():
    forms = []

    def loss(model, batch):
        forms.append(type(batch))
        return model(batch).pow(2).mean()

    fit(nn.Linear(2, 1), loss, torch.randn(10, 2), epochs=1, batch_size=4, progress=False)
    assert forms == [torch.Tensor] * 3


def test_fit_says_what_is_wrong(line):
    x, y = line
    with pytest.raises(ValueError, match="patience needs a validation set"):
        fit(zero_model(), squared_error, line, epochs=1, batch_size=20, patience=1)
    with pytest.raises(ValueError, match=r"lengths \[200, 3\]"):
        fit(zero_model(), squared_error, (x, y[:3]), epochs=1, batch_size=20)
    with pytest.raises(FloatingPointError, match="try a smaller lr"):
        fit(
            zero_model(), lambda m, b: squared_error(m, b) * float("nan"), line, epochs=1, batch_size=20, progress=False
        )


def test_seeding_repeats_every_generator():
    import random

    def draw():
        seed_everything(3)
        return random.random(), np.random.rand(), torch.rand(()).item()  # noqa: NPY002

    assert draw() == draw()


def test_the_device_exists():
    torch.zeros(1, device=pick_device())


def test_best_without_validation_is_the_last_training_loss():
    assert History(train=[2.0, 1.0], best_epoch=2).best == 1.0
