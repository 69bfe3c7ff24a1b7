"""Settings: each is explained, set from the command line, and a wrong one names the nearest."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from signet_runtime.errors import ConfigError
from signet_train.cli import main
from signet_train.config import TrainConfig, all_settings, load_config


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "c.toml"
    path.write_text('stage = "finetune"\n[data]\nmanifests = ["m.jsonl"]\n[optimisation]\nepochs = 7\n[model.fusion]\n')
    return path


def explain(*key: str) -> str:
    result = CliRunner().invoke(main, ["config", "--explain", *key])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_every_setting_is_explained() -> None:
    told = explain()
    for name, field in all_settings():
        assert field.description and field.description.strip().endswith((".", ").")), name
        assert f"\n{name}  (" in f"\n{told}" or f"[{name}]" in told, name
    assert "model.fusion.top_k  (whole number from 1 to 256; default 2)" in told and "(Eq. 8, Table 8)" in told
    assert 'optimisation.precision  ("no" or "bf16"; default "no")' in told
    assert "data.manifests  (list of path; needed)" in told and "mt5  (text; default unset)" in told


def test_one_setting_or_one_section() -> None:
    assert explain("optimisation.lr").startswith("optimisation.lr  (number from 0 to 10; default 0.0003)\n")
    section = explain("model.fusion")
    assert section.startswith("[model.fusion]") and "model.fusion.router_hidden" in section
    assert "optimisation" not in section
    wrong = CliRunner().invoke(main, ["config", "--explain", "model.fusion.topk"])
    assert wrong.exit_code == 4 and "did you mean model.fusion.top_k" in wrong.stderr


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("optimisation.epochs=3", lambda c: c.optimisation.epochs == 3),
        ("optimisation.lr = 1e-2", lambda c: c.optimisation.lr == 0.01),
        ("mt5=google/mt5-base", lambda c: c.mt5 == "google/mt5-base"),
        ('mt5="a=b"', lambda c: c.mt5 == "a=b"),
        ("model.fusion.top_k=1", lambda c: c.model.fusion.top_k == 1),
        ('experts=["a", "b"]', lambda c: c.experts == (Path("a"), Path("b"))),
        ("data.vary_signer=true", lambda c: c.data.vary_signer is True),
        ("card.language=de", lambda c: c.card.language == "de"),
        ("data.profile=causal", lambda c: c.data.normalisation == "causal"),
    ],
)
def test_a_setting_is_set(file: Path, change: str, found: object) -> None:
    assert found(load_config(file, [change]))  # type: ignore[operator]
    assert load_config(file).optimisation.epochs == 7


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("optimisation.epoch=3", r"optimisation\.epoch: there is no such setting; did you mean optimisation\.epochs"),
        ("optimization.epochs=3", r"optimization: there is no such setting; did you mean optimisation"),
        ("model.fusion.topk=1", r"did you mean model\.fusion\.top_k"),
        ("zzzzz=1", r"zzzzz: there is no such setting$"),
        ("optimisation.epochs=many", r'optimisation\.epochs is "many": has to be a whole number from 1 to 100,000'),
        ("optimisation.epochs", r"--set optimisation\.epochs: is not section\.key=value"),
        ("stage.x=1", r"--set stage\.x=1: stage is a setting and no section"),
        ('experts=["a"]', r"model\.fusion\.top_k is 2: a clip is sent to no more experts than there are, 1"),
        ("stage=pretrain", r"model\.fusion: Stage I trains a single expert"),
        ("model.backbone.embedding=64", r"backbone\.embedding is 64 and language_model\.d_model is 768: "),
        ("optimisation.min_lr=1e-3", r"optimisation: min_lr is 0\.001 and lr is 0\.0003: "),
        ("model.backbone.temporal_channels=[]", r"model\.backbone\.temporal_channels is a list of 0: has to name one"),
        ("model.backbone.temporal_kernel=4", r"temporal_kernel is 4: has to be an odd number .*no middle frame"),
        ("tokenize=14a", r'tokenize is "14a": input should be .13a.'),
        ("data=3", r"data is 3: has to be a section"),
    ],
)
def test_a_setting_that_cannot_be_is_said(file: Path, change: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(file, [change])


def test_stages_take_settings(file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[TrainConfig] = []

    def stop(config: TrainConfig, *_: object) -> None:
        seen.append(config)
        raise ConfigError("enough")

    monkeypatch.setattr("signet_train.stages.run.run_stage", stop)
    monkeypatch.setattr("signet_train.stages.caching.cache_features", stop)
    for command in (["finetune", str(file), "--out", str(tmp_path / "x")], ["cache", str(file)]):
        result = CliRunner().invoke(main, [*command, "--set", "optimisation.epochs=3", "--set", "seed=9"])
        assert result.exit_code == 4
    assert [(config.optimisation.epochs, config.seed) for config in seen] == [(3, 9)] * 2
