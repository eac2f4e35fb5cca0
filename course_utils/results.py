"""Trained weights and the table of results.

Weights are safetensors files in ``data/weights``, each with a JSON card beside it that says what was trained, how, on
what, and with what result. Results are rows of a table: those of full-budget runs are shipped in ``data/results.csv``,
those of quick runs stay in ``_build/results.csv``, which git does not see.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from course_utils import ROOT

if TYPE_CHECKING:
    import pandas as pd
    import torch

WEIGHTS = ROOT / "data" / "weights"
TABLES = {"full": ROOT / "data" / "results.csv", "quick": ROOT / "_build" / "results.csv"}
KINDS = ("exact", "bound", "estimate")
COLUMNS = (
    "lecture", "model", "dataset", "metric", "value", "spread", "unit", "kind", "budget", "seconds", "parameters",
    "date", "machine", "note",
)  # fmt: skip
KEY = ["lecture", "model", "dataset", "metric", "budget"]


class WeightsError(RuntimeError):
    """A weights file is missing, damaged, or does not fit the model."""


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path; rename it to `path` if all went well, so that `path` is never half-written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def machine() -> str:
    """Return in a few words what this code runs on."""
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {sys.version.split()[0]}"


def save_weights(model: torch.nn.Module, name: str, card: dict[str, Any]) -> Path:
    """Write the weights and their card to ``data/weights/{name}.safetensors`` and ``.json``.

    Args:
        model: its `state_dict` is saved.
        name: starts with the lecture's number: ``"08_vae_binarized_mnist"``.
        card: what was trained, how, on what, with what result; JSON values only.

    Raises:
        TypeError: if the card holds something that JSON cannot; nothing is written then.
    """
    from safetensors.torch import save_file

    card = {**card, "parameters": sum(p.numel() for p in model.parameters()), "date": date.today().isoformat()}
    text = json.dumps({**card, "machine": machine()}, indent=2, ensure_ascii=False) + "\n"
    path = WEIGHTS / f"{name}.safetensors"
    with _replacing(path) as temporary:
        save_file({key: value.contiguous().cpu() for key, value in model.state_dict().items()}, temporary)
    with _replacing(path.with_suffix(".json")) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def load_weights(model: torch.nn.Module, name: str) -> dict[str, Any]:
    """Load weights saved by `save_weights` into `model`, in place, and return their card.

    Raises:
        WeightsError: if the file is missing (the message names those that exist), damaged, or of another architecture
            (the message names the tensors that differ). The model is unchanged then.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = WEIGHTS / f"{name}.safetensors"
    if not path.exists():
        names = ", ".join(sorted(p.stem for p in WEIGHTS.glob("*.safetensors"))) or "none"
        raise WeightsError(f"no weights named {name!r} in {WEIGHTS}; there are: {names}. `make full` trains them.")
    try:
        state = load_file(path)
        card = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{path} or its card is damaged ({error}); restore both from git, or retrain") from error
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    saved = {key: tuple(value.shape) for key, value in state.items()}
    if shapes != saved:
        differing = sorted(key for key in shapes.keys() | saved.keys() if shapes.get(key) != saved.get(key))
        detail = "; ".join(f"{key}: model {shapes.get(key)}, file {saved.get(key)}" for key in differing[:5])
        raise WeightsError(f"{path.name} is of another architecture: {len(differing)} tensors differ ({detail})")
    model.load_state_dict(state)
    return card


def record(
    lecture: str,
    model: str,
    dataset: str,
    metric: str,
    value: float,
    unit: str,
    *,
    kind: str,
    budget: str,
    seconds: float | None = None,
    parameters: int | None = None,
    spread: float | None = None,
    note: str = "",
) -> None:
    """Put a result in the table, in place of an earlier one of the same lecture, model, data set, metric and budget.

    Args:
        lecture: its number, ``"08"``.
        model, dataset, metric: what was measured.
        value, unit: the figure and its unit: nats per example for images, nats per character for text.
        kind: ``"exact"``, ``"bound"`` (an upper bound on a loss) or ``"estimate"``.
        budget: ``"quick"`` or ``"full"``: which table.
        seconds: training time, wall clock.
        parameters: how many numbers were learned.
        spread: standard error, or standard deviation over seeds; the note says which.
        note: one line on how it was measured.

    Raises:
        ValueError: if `kind` or `budget` is another one, or the value is not finite.
    """
    import pandas as pd

    if kind not in KINDS:
        raise ValueError(f"kind={kind!r}; expected one of {', '.join(KINDS)}")
    if budget not in TABLES:
        raise ValueError(f"budget={budget!r}; expected one of {', '.join(TABLES)}")
    if not abs(value) < float("inf"):
        raise ValueError(f"value={value} of {model} on {dataset} is not a finite number")
    row = {
        "lecture": str(lecture), "model": model, "dataset": dataset, "metric": metric, "value": round(float(value), 6),
        "spread": spread, "unit": unit, "kind": kind, "budget": budget, "seconds": seconds, "parameters": parameters,
        "date": date.today().isoformat(), "machine": machine(), "note": note,
    }  # fmt: skip
    old = _read(budget)
    same = (old[KEY] == [row[key] for key in KEY]).all(axis=1)
    rows = pd.DataFrame([*old[~same].to_dict("records"), row], columns=COLUMNS).sort_values(KEY, kind="stable")
    with _replacing(TABLES[budget]) as temporary:
        rows.to_csv(temporary, index=False)


def _read(budget: str) -> pd.DataFrame:
    import pandas as pd

    path = TABLES[budget]
    if not path.exists():
        return pd.DataFrame(columns=COLUMNS)
    return pd.read_csv(path, dtype={"lecture": str}, keep_default_na=True).reindex(columns=COLUMNS)


def table(budget: str | None = None) -> pd.DataFrame:
    """Return the results: of the ``"quick"`` runs on this machine, of the ``"full"`` runs shipped, or of both.

    Raises:
        ValueError: if `budget` is another one.
    """
    import pandas as pd

    if budget is not None and budget not in TABLES:
        raise ValueError(f"budget={budget!r}; expected one of {', '.join(TABLES)}, or None for both")
    parts = [part for part in map(_read, [budget] if budget else TABLES) if len(part)]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=COLUMNS)
