"""Seeding, the choice of a device, and one training loop for the lectures in which the loop is not the lesson."""

from __future__ import annotations

import copy
import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

    Batch = torch.Tensor | tuple[torch.Tensor, ...]


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
    """What `fit` saw: mean losses per epoch, seconds spent in all, and the epoch (from 1) whose weights were kept."""

    train: list[float] = field(default_factory=list)
    valid: list[float] = field(default_factory=list)
    seconds: float = 0.0
    best_epoch: int = 0

    @property
    def best(self) -> float:
        """The loss at the kept epoch: on the validation set if there was one, else on the training set."""
        return (self.valid or self.train)[self.best_epoch - 1]


def _tensors(data: Batch, name: str) -> tuple[torch.Tensor, ...]:
    tensors = data if isinstance(data, tuple) else (data,)
    lengths = [len(tensor) for tensor in tensors]
    if not lengths or len(set(lengths)) != 1 or lengths[0] == 0:
        raise ValueError(f"{name} holds tensors of lengths {lengths}; expected one common length, at least 1")
    return tensors


def _batches(data: Batch, batch_size: int, device: torch.device, order: torch.Tensor | None) -> Iterator[Batch]:
    """Cut `data` in batches on `device`, in the given order of examples; the form (tensor or tuple) is kept."""
    tensors = _tensors(data, "data")
    for start in range(0, len(tensors[0]), batch_size):
        rows = slice(start, start + batch_size) if order is None else order[start : start + batch_size]
        batch = tuple(tensor[rows].to(device) for tensor in tensors)
        yield batch if isinstance(data, tuple) else batch[0]


def mean_loss(model: torch.nn.Module, loss: Callable, data: Batch, batch_size: int = 500) -> float:
    """Return the mean of ``loss(model, batch)`` per example over `data`, in evaluation mode, without gradients."""
    import torch

    device = next(model.parameters()).device
    n = len(_tensors(data, "data")[0])
    was_training = model.training
    model.eval()
    with torch.no_grad():
        total = sum(
            loss(model, batch).item() * len(batch[0] if isinstance(batch, tuple) else batch)
            for batch in _batches(data, batch_size, device, None)
        )
    model.train(was_training)
    return total / n


def _save_atomically(state: dict[str, Any], path: Path) -> None:
    """Write beside `path`, then rename: an interruption leaves the old file or the new one, never half of one."""
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        torch.save(state, temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def fit(
    model: torch.nn.Module,
    loss: Callable[[torch.nn.Module, Batch], torch.Tensor],
    train: Batch,
    valid: Batch | None = None,
    *,
    epochs: int,
    batch_size: int,
    lr: float = 1e-3,
    optimizer: torch.optim.Optimizer | None = None,
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None,
    patience: int | None = None,
    checkpoint: str | Path | None = None,
    device: torch.device | None = None,
    seed: int = 0,
    progress: bool = True,
) -> History:
    """Minimize a loss by mini-batch gradient descent and keep the weights that did best on the validation set.

    Args:
        model: changed in place; ends in evaluation mode, on `device`, with the kept weights.
        loss: ``loss(model, batch)`` gives a scalar tensor, the mean per example; `batch` has the form of `train`.
        train, valid: a tensor, or a tuple of tensors, whose first dimension is the examples.
        epochs: passes over the training set, in all (a resumed run does those that are missing).
        batch_size: examples in a step.
        lr: step size of Adam, if no `optimizer` is given.
        optimizer: any torch optimizer over the model's parameters.
        scheduler: stepped once an epoch.
        patience: stop after so many epochs without a better validation loss.
        checkpoint: a file written after each epoch; if it exists, training goes on from it.
        device: where to train; the model's own device if not given.
        seed: order of the examples and the model's own randomness.
        progress: show a bar (never where no one watches: with ``COURSE_STATIC=1`` there is none).

    Returns:
        The `History`, losses in the unit of `loss`.

    Raises:
        ValueError: if tensors differ in length, or `patience` comes without `valid`.
        FloatingPointError: if the training loss is no longer finite; the model then holds its best weights so far.
    """
    import torch
    from tqdm.auto import tqdm

    _tensors(train, "train")
    if valid is not None:
        _tensors(valid, "valid")
    if patience is not None and valid is None:
        raise ValueError("patience needs a validation set: pass valid=…")
    device = device or next(model.parameters()).device
    model.to(device)
    optimizer = optimizer or torch.optim.Adam(model.parameters(), lr=lr)
    history, best = History(), copy.deepcopy(model.state_dict())
    torch.manual_seed(seed)
    checkpoint = Path(checkpoint) if checkpoint else None
    if checkpoint and checkpoint.exists():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        if scheduler:
            scheduler.load_state_dict(state["scheduler"])
        history, best = History(**state["history"]), state["best"]
        torch.set_rng_state(state["rng"].cpu())
    n = len(_tensors(train, "train")[0])
    quiet = not progress or os.environ.get("COURSE_STATIC") == "1"
    bar = tqdm(range(len(history.train), epochs), initial=len(history.train), total=epochs, disable=quiet)
    try:
        for epoch in bar:
            if patience is not None and epoch - history.best_epoch >= patience:
                break
            start, total = time.perf_counter(), 0.0
            model.train()
            for batch in _batches(train, batch_size, device, torch.randperm(n)):
                optimizer.zero_grad()
                value = loss(model, batch)
                if not torch.isfinite(value):
                    raise FloatingPointError(f"the loss is {value.item()} in epoch {epoch + 1}: try a smaller lr")
                value.backward()
                optimizer.step()
                total += value.item() * len(batch[0] if isinstance(batch, tuple) else batch)
            if scheduler:
                scheduler.step()
            history.train.append(total / n)
            if valid is not None:
                history.valid.append(mean_loss(model, loss, valid, batch_size))
            history.seconds += time.perf_counter() - start
            if valid is None or history.valid[-1] <= min(history.valid):
                history.best_epoch, best = epoch + 1, copy.deepcopy(model.state_dict())
            bar.set_postfix_str(" ".join(f"{losses[-1]:.4g}" for losses in (history.train, history.valid) if losses))
            if checkpoint:
                state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "history": asdict(history)}
                state |= {"best": best, "rng": torch.get_rng_state()}
                state |= {"scheduler": scheduler.state_dict()} if scheduler else {}
                _save_atomically(state, checkpoint)
    finally:
        model.load_state_dict(best)
        model.eval()
    return history
