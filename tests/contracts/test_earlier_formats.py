"""Bundles, checkpoints and configurations that were written before still load, and the other way round."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from signet_runtime.bundle import Bundle, EngineBuild, Manifest, ShapeRange, demo_bundle_path, write_manifest
from signet_train.checkpoint import ExpertCard, demo_checkpoint_path, load_cards, load_checkpoint, save_checkpoint
from signet_train.config import DataConfig, TrainConfig, load_config

BUILD = {"version": "1.7.1.116", "target": "sm86", "profiles": {"frames": [1, 64, 512]}, "executed": False}


def edit(path: Path, change: Any) -> None:
    contents = json.loads(path.read_text())
    change(contents)
    path.write_text(json.dumps(contents))


def test_the_demo_as_it_lies_in_the_package() -> None:
    manifest = json.loads((demo_bundle_path() / "signet.json").read_text())
    assert manifest["schema_version"] == 1 and manifest["profile"] == "unisign"
    assert Bundle.load(verify=True).manifest.normalisation == "unisign"
    cards = [json.loads((demo_checkpoint_path() / "experts" / str(i) / "config.json").read_text()) for i in range(3)]
    assert [card["profile"] for card in cards] == ["unisign"] * 3
    checkpoint = load_checkpoint(demo_checkpoint_path())
    assert [card.normalisation for card in checkpoint.experts] == ["unisign"] * 3
    assert checkpoint.config.data.normalisation == "unisign"


def test_a_bundle_of_before_loads_and_is_written_as_before(tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(demo_bundle_path(), tmp_path / "bundle"))
    files = ("encoder.onnx", "decoder_model.onnx", "decoder_with_past_model.onnx")
    parts = dict(zip(("encoder", "decoder", "decoder_with_past"), files, strict=True))
    engine = {"kind": "tensorrt-rtx", "precision": "fp32", "build": BUILD, **parts}

    def add(contents: dict[str, Any]) -> None:
        contents["profile"] = "causal"
        contents["engines"].append(engine)

    edit(bundle / "signet.json", add)
    manifest = Bundle.load(bundle).manifest
    assert manifest.normalisation == "causal"
    build = manifest.engines[1].build
    assert build is not None and build.shapes == ShapeRange(frames=(1, 64, 512))

    before = json.loads((bundle / "signet.json").read_text())
    assert write_manifest(bundle, manifest) == manifest
    written = json.loads((bundle / "signet.json").read_text())
    assert written["profile"] == "causal" and written["engines"][1]["build"]["profiles"]["frames"] == [1, 64, 512]
    assert written.keys() == before.keys()  # which the package of before takes, and no others
    assert written["engines"][1]["build"].keys() == BUILD.keys()


def test_a_checkpoint_of_before_loads_and_is_written_as_before(tmp_path: Path) -> None:
    old = Path(shutil.copytree(demo_checkpoint_path(), tmp_path / "old"))
    edit(old / "config.json", lambda contents: contents["data"].update(profile="causal"))
    for i in range(3):
        edit(old / "experts" / str(i) / "config.json", lambda contents: contents.update(profile="causal"))
    checkpoint = load_checkpoint(old)
    assert checkpoint.config.data.normalisation == "causal"
    assert {card.normalisation for card in checkpoint.experts} == {"causal"}

    save_checkpoint(tmp_path / "new", checkpoint)
    written = json.loads((tmp_path / "new" / "config.json").read_text())["data"]
    card = json.loads((tmp_path / "new" / "experts" / "0" / "config.json").read_text())
    assert written["profile"] == card["profile"] == "causal"
    assert "normalisation" not in written.keys() | card.keys()
    assert load_cards(tmp_path / "new") == checkpoint.experts


def test_a_configuration_by_either_name(tmp_path: Path) -> None:
    found = []
    for name in ("profile", "normalisation"):
        file = tmp_path / f"{name}.toml"
        file.write_text(f'stage = "pretrain"\n[data]\nmanifests = ["m.jsonl"]\n{name} = "causal"\n')
        found.append(load_config(file))
    assert found[0] == found[1]
    assert found[0].data.normalisation == "causal"
    assert TrainConfig.model_validate(found[0].model_dump()) == found[0]


@pytest.mark.parametrize(
    ("model", "fields"),
    [
        (DataConfig, {"manifests": (), "profile": "unisign", "normalisation": "unisign"}),
        (EngineBuild, {**BUILD, "shapes": {}}),
        (Manifest, {"profile": "unisign", "normalisation": "unisign"}),
    ],
)
def test_both_names_at_once_are_one_too_many(model: Any, fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        model.model_validate(fields)


def test_a_card_without_the_field_is_of_the_first_normalisation() -> None:
    card = json.loads((demo_checkpoint_path() / "experts" / "0" / "config.json").read_text())
    del card["profile"]
    assert ExpertCard.model_validate(card).normalisation == "unisign"


def test_settings_that_came_later_are_written_where_they_are_chosen_alone() -> None:
    later = {
        "model": {"fusion": {"adapter_start": "redrawn", "attention_dropout": 0.1}},
        "data": {"manifests": ["m.jsonl"], "long_clips": "first"},
        "optimisation": {"learn_temperature": False},
    }
    plain = TrainConfig.model_validate({"stage": "align", "model": {"fusion": {}}, "data": {"manifests": ["m.jsonl"]}})
    chosen = TrainConfig.model_validate({"stage": "align", **later})
    for table, keys in later.items():
        settings = keys.get("fusion", keys)
        for key in settings.keys() - {"manifests"}:
            assert f'"{key}"' not in plain.model_dump_json() and f'"{key}"' in chosen.model_dump_json(), (table, key)
    for config in (plain, chosen):
        assert TrainConfig.model_validate_json(config.model_dump_json(by_alias=True)) == config
