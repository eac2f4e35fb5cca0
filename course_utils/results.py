"""Trained weights and the table of results.

Weights are safetensors files in ``data/weights``, each with a JSON card beside it that says what was trained, how, on
what, and with what result. Results are rows of a table: those of full-budget runs are shipped in ``data/results.csv``,
those of quick runs stay in ``_build/results.csv``, which git does not see.
"""

from __future__ import annotations

import json
import os
import platform
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
KEY = ["lecture", "model", "dataset", "metric", "budget"]
COLUMNS = [*KEY, "value", "spread", "unit", "kind", "seconds", "parameters", "date", "machine", "note"]
MACHINE = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"


class WeightsError(RuntimeError):
    """A weights file is missing, damaged, or does not fit the model."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path and rename it to `path` if all went well: `path` is never half-written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        temporary.chmod(0o644)  # some writers make files that only their owner can read
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def save_weights(model: torch.nn.Module, name: str, card: dict[str, Any]) -> Path:
    """Write the model's state to ``data/weights/{name}.safetensors`` and `card` (JSON values) beside it; return the path.

    `name` starts with the lecture's number: ``"08_vae_binarized_mnist"``. The card says what was trained, how, on what,
    with what result; number of parameters, date and machine are added. Nothing is written if the card is no JSON
    (TypeError).
    """
    from safetensors.torch import save_file

    facts = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "date": date.today().isoformat(),
        "machine": MACHINE,
    }
    text = json.dumps({**card, **facts}, indent=2, ensure_ascii=False) + "\n"
    path = WEIGHTS / f"{name}.safetensors"
    with replacing(path) as temporary:
        save_file({key: value.contiguous().cpu() for key, value in model.state_dict().items()}, temporary)
    with replacing(path.with_suffix(".json")) as temporary:
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
    shapes, saved = ({key: tuple(value.shape) for key, value in s.items()} for s in (model.state_dict(), state))
    if shapes != saved:
        differing = sorted(key for key in shapes.keys() | saved.keys() if shapes.get(key) != saved.get(key))
        detail = "; ".join(f"{key}: model {shapes.get(key)}, file {saved.get(key)}" for key in differing[:5])
        raise WeightsError(f"{path.name} is of another architecture: {len(differing)} tensors differ ({detail})")
    model.load_state_dict(state)
    return card


def record(
    lecture: str, model: str, dataset: str, metric: str, value: float, unit: str, *, kind: str, budget: str,
    seconds: float | None = None, parameters: int | None = None, spread: float | None = None, note: str = "",
) -> None:  # fmt: skip
    """Put a result in the table, in place of an earlier one of the same lecture, model, data set, metric and budget.

    Args:
        lecture: its number, ``"08"``.
        value, unit: the figure; losses in nats per example for images, in nats per character for text.
        kind: ``"exact"``, ``"bound"`` (an upper bound on a loss) or ``"estimate"``.
        budget: ``"quick"`` or ``"full"``: which table.
        seconds, parameters: training time by the clock; how many numbers were learned.
        spread: standard error, or standard deviation over seeds; the note says which, and how it was measured.

    Raises:
        ValueError: if `kind` or `budget` is another one, or the value is not finite.
    """
    import pandas as pd

    if kind not in KINDS:
        raise ValueError(f"kind={kind!r}; expected one of {', '.join(KINDS)}")
    if not abs(value) < float("inf"):
        raise ValueError(f"value={value} of {model} on {dataset} is not a finite number")
    row = dict(zip(KEY, (str(lecture), model, dataset, metric, budget), strict=True))
    old = table(budget)
    same = (old[KEY] == pd.Series(row)).all(axis=1)
    row |= {"value": round(float(value), 6), "spread": spread, "unit": unit, "kind": kind, "seconds": seconds}
    row |= {"parameters": parameters, "date": date.today().isoformat(), "machine": MACHINE, "note": note}
    rows = pd.DataFrame([*old[~same].to_dict("records"), row], columns=COLUMNS).sort_values(KEY, kind="stable")
    with replacing(TABLES[budget]) as temporary:
        rows.to_csv(temporary, index=False)


def table(budget: str | None = None) -> pd.DataFrame:
    """Return the results: of the ``"quick"`` runs on this machine, the ``"full"`` runs shipped, or both (None).

    Raises:
        ValueError: if `budget` is another one.
    """
    import pandas as pd

    if budget is not None and budget not in TABLES:
        raise ValueError(f"budget={budget!r}; expected one of {', '.join(TABLES)}, or None for both")
    paths = [TABLES[name] for name in ([budget] if budget else TABLES) if TABLES[name].exists()]
    parts = [pd.read_csv(path, dtype={"lecture": str}).reindex(columns=COLUMNS) for path in paths]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=COLUMNS)
