"""Seeding, the choice of a device, and one training loop for the lectures in which the loop is not the lesson."""

from __future__ import annotations

import copy
import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from course_utils.results import replacing

if TYPE_CHECKING:
    import torch

    Batch = torch.Tensor | tuple[torch.Tensor, ...]  # the first dimension is the examples


def seed_everything(seed: int) -> None:
    """Seed Python's, NumPy's and torch's global generators, so that a notebook gives the same result every run."""
    import torch

    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)


def pick_device() -> torch.device:
    """Return the fastest device at hand: CUDA, else Apple's MPS, else the CPU."""
    import torch

    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


@dataclass
class History:
    """What `fit` saw: mean loss per epoch, seconds spent in all, and the epoch (from 1) whose weights were kept."""

    train: list[float] = field(default_factory=list)
    valid: list[float] = field(default_factory=list)
    seconds: float = 0.0
    best_epoch: int = 0

    @property
    def best(self) -> float:
        """The loss at the kept epoch: on the validation set if there was one, else on the training set."""
        return (self.valid or self.train)[self.best_epoch - 1]


def _length(data: Batch, name: str) -> int:
    lengths = [len(tensor) for tensor in (data if isinstance(data, tuple) else (data,))]
    if len(set(lengths)) != 1 or lengths[0] == 0:
        raise ValueError(f"{name} holds tensors of lengths {lengths}; expected one common length, at least 1")
    return lengths[0]


def _batches(data: Batch, batch_size: int, device: torch.device, order: torch.Tensor) -> Iterator[tuple[Batch, int]]:
    """Yield the batches, in the form of `data`, each with its number of examples."""
    for rows in order.split(batch_size):
        batch = tuple(t[rows].to(device) for t in data) if isinstance(data, tuple) else data[rows].to(device)
        yield batch, len(rows)


def mean_loss(model: torch.nn.Module, loss: Callable, data: Batch, batch_size: int = 500) -> float:
    """Return the mean of ``loss(model, batch)`` per example of `data`, in evaluation mode, without gradients."""
    import torch

    device, n, was_training = next(model.parameters()).device, _length(data, "data"), model.training
    model.eval()
    with torch.no_grad():
        total = sum(loss(model, batch).item() * m for batch, m in _batches(data, batch_size, device, torch.arange(n)))
    model.train(was_training)
    return total / n


def fit(
    model: torch.nn.Module, loss: Callable[[torch.nn.Module, Batch], torch.Tensor], train: Batch,
    valid: Batch | None = None, *, epochs: int, batch_size: int, lr: float = 1e-3,
    optimizer: torch.optim.Optimizer | None = None, scheduler: torch.optim.lr_scheduler.LRScheduler | None = None,
    patience: int | None = None, checkpoint: str | Path | None = None, device: torch.device | None = None,
    seed: int = 0, progress: bool = True,
) -> History:  # fmt: skip
    """Minimize a loss by mini-batch gradient descent and keep the weights that did best on the validation set.

    Args:
        model: changed in place; ends in evaluation mode, on `device`, with the kept weights.
        loss: ``loss(model, batch)`` gives a scalar tensor, the mean per example; `batch` has the form of `train`.
        train, valid: a tensor, or a tuple of tensors, whose first dimension is the examples.
        epochs: passes over the training set, in all (a resumed run does those that are missing).
        lr, optimizer: Adam's step size, or any torch optimizer over the model's parameters.
        scheduler: stepped once an epoch.
        patience: stop after so many epochs without a better validation loss.
        checkpoint: a file written after each epoch; if it exists, training goes on from it.
        device: where to train; the model's own device if not given.
        seed: order of the examples and the model's own randomness.
        progress: show a bar (but never with ``COURSE_STATIC=1``, where no one watches).

    Returns:
        The `History`, losses in the unit of `loss`.

    Raises:
        ValueError: if tensors differ in length, or `patience` comes without `valid`.
        FloatingPointError: if the training loss is no longer finite; the model then holds its best weights so far.
    """
    import torch
    from tqdm.auto import tqdm

    n = _length(train, "train")
    if valid is not None:
        _length(valid, "valid")
    elif patience is not None:
        raise ValueError("patience needs a validation set: pass valid=…")
    device = device or next(model.parameters()).device
    model.to(device)
    optimizer = optimizer or torch.optim.Adam(model.parameters(), lr=lr)
    history, best = History(), copy.deepcopy(model.state_dict())
    parts = {"model": model, "optimizer": optimizer, **({"scheduler": scheduler} if scheduler else {})}
    torch.manual_seed(seed)
    if checkpoint and Path(checkpoint).exists():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(state[name])
        history, best = History(**state["history"]), state["best"]
        torch.set_rng_state(state["rng"].cpu())
    quiet = not progress or os.environ.get("COURSE_STATIC") == "1"
    bar = tqdm(range(len(history.train), epochs), initial=len(history.train), total=epochs, disable=quiet)
    try:
        for epoch in bar:
            if patience is not None and epoch - history.best_epoch >= patience:
                break
            start, total = time.perf_counter(), 0.0
            model.train()
            for batch, m in _batches(train, batch_size, device, torch.randperm(n)):
                optimizer.zero_grad()
                value = loss(model, batch)
                if not torch.isfinite(value):
                    raise FloatingPointError(f"the loss is {value.item()} in epoch {epoch + 1}: try a smaller lr")
                value.backward()
                optimizer.step()
                total += value.item() * m
            if scheduler:
                scheduler.step()
            history.train.append(total / n)
            if valid is not None:
                history.valid.append(mean_loss(model, loss, valid, batch_size))
            if valid is None or history.valid[-1] <= min(history.valid):
                history.best_epoch, best = epoch + 1, copy.deepcopy(model.state_dict())
            history.seconds += time.perf_counter() - start
            bar.set_postfix_str(" ".join(f"{losses[-1]:.4g}" for losses in (history.train, history.valid) if losses))
            if checkpoint:
                state = {name: part.state_dict() for name, part in parts.items()}
                with replacing(Path(checkpoint)) as temporary:
                    torch.save(
                        {**state, "history": asdict(history), "best": best, "rng": torch.get_rng_state()}, temporary
                    )
    finally:
        model.load_state_dict(best)
        model.eval()
    return history
