"""Weights and results: what is saved comes back, and a damaged or foreign file is named, not half-loaded."""

import json

import pytest
import torch
from torch import nn

from course_utils import results
from course_utils.results import WeightsError, load_weights, record, save_weights, table


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "WEIGHTS", tmp_path / "weights")
    monkeypatch.setattr(results, "TABLES", {"full": tmp_path / "full.csv", "quick": tmp_path / "build" / "quick.csv"})
    return tmp_path


def model(width=3):
    return nn.Sequential(nn.Linear(2, width), nn.BatchNorm1d(width))


def snapshot(module):
    return {key: value.clone() for key, value in module.state_dict().items()}


def test_weights_and_card_come_back(places):
    saved, loaded = model(), model()
    save_weights(saved, "08_toy", {"dataset": "digits", "epochs": 3})
    card = load_weights(loaded, "08_toy")
    assert all(
        torch.equal(a, b) for a, b in zip(saved.state_dict().values(), loaded.state_dict().values(), strict=True)
    )
    assert card["epochs"] == 3
    assert card["parameters"] == sum(p.numel() for p in saved.parameters())
    assert {p.suffix for p in (places / "weights").iterdir()} == {".safetensors", ".json"}
    assert all(p.stat().st_mode & 0o777 == 0o644 for p in (places / "weights").iterdir())


def test_a_card_that_json_cannot_hold_writes_nothing(places):
    with pytest.raises(TypeError):
        save_weights(model(), "08_toy", {"loss": torch.tensor(1.0)})
    assert not (places / "weights").exists()


def test_missing_weights_name_those_that_exist():
    save_weights(model(), "08_toy", {})
    with pytest.raises(WeightsError, match=r"no weights named '08_other'.*there are: 08_toy"):
        load_weights(model(), "08_other")


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"\xff" * 8 + b[8:], lambda b: b""])
def test_a_damaged_file_is_named_and_the_model_unchanged(damage):
    path = save_weights(model(), "08_toy", {})
    path.write_bytes(damage(path.read_bytes()))
    target = model()
    before = snapshot(target)
    with pytest.raises(WeightsError, match="damaged"):
        load_weights(target, "08_toy")
    assert all(torch.equal(before[key], value) for key, value in target.state_dict().items())


def test_a_damaged_card_is_named():
    path = save_weights(model(), "08_toy", {})
    path.with_suffix(".json").write_text('{"dataset": ')
    with pytest.raises(WeightsError, match="damaged"):
        load_weights(model(), "08_toy")


def test_weights_of_another_architecture_are_named_and_the_model_unchanged():
    save_weights(model(3), "08_toy", {})
    target = model(4)
    before = snapshot(target)
    with pytest.raises(WeightsError, match=r"another architecture: .*0\.bias: model \(4,\), file \(3,\)"):
        load_weights(target, "08_toy")
    assert all(torch.equal(before[key], value) for key, value in target.state_dict().items())


ROW = {"kind": "bound", "budget": "quick"}


def test_a_result_replaces_the_earlier_one_of_the_same_key():
    record("08", "VAE", "digits", "nll", 95.0, "nats", **ROW)
    record("08", "VAE", "digits", "nll", 91.25, "nats", seconds=12.0, parameters=10, **ROW)
    record("08", "VAE", "digits", "nll", 80.0, "nats", kind="estimate", budget="full")
    rows = table()
    assert sorted(rows["value"]) == [80.0, 91.25]
    assert table("quick")["lecture"].tolist() == ["08"]
    assert table("quick")["value"].tolist() == [91.25]


def test_an_empty_table_has_its_columns():
    assert list(table().columns) == results.COLUMNS
    assert len(table("full")) == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "guess"}, "expected one of exact, bound, estimate"),
        ({"budget": "huge"}, "expected one of full, quick"),
        ({"value": float("nan")}, "not a finite number"),
    ],
)
def test_a_wrong_result_is_refused_and_the_table_unchanged(changes, message):
    record("08", "VAE", "digits", "nll", 95.0, "nats", **ROW)
    arguments = {"value": 90.0, **ROW, **changes}
    with pytest.raises(ValueError, match=message):
        record("08", "VAE", "digits", "nll", unit="nats", **arguments)
    assert table()["value"].tolist() == [95.0]
    with pytest.raises(ValueError, match="or None for both"):
        table("huge")


def test_an_interrupted_write_leaves_the_old_table(places, monkeypatch):
    import pandas as pd

    record("08", "VAE", "digits", "nll", 95.0, "nats", **ROW)

    def full_disk(self, path, **options):
        path.write_text("lecture,mod")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_csv", full_disk)
    with pytest.raises(OSError, match="No space left"):
        record("08", "VAE", "digits", "nll", 90.0, "nats", **ROW)
    assert table()["value"].tolist() == [95.0]
    assert [p.name for p in (places / "build").iterdir()] == ["quick.csv"]


def test_shipped_weights_have_cards_that_say_what_they_are():
    for path in (results.ROOT / "data" / "weights").glob("*.safetensors"):
        card = json.loads(path.with_suffix(".json").read_text())
        assert {"dataset", "parameters", "date", "machine"} <= card.keys(), path.name
