"""What keypoints and rows know of themselves is written down by who trains on them, and compared by who comes after."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from keypoint_corpus import corpus
from tiny_runs import FUSION, MODEL, config

from signet_runtime.errors import CheckpointError, ConfigError, InputError
from signet_train.checkpoint import load_checkpoint
from signet_train.data.batches.dataset import PoseDataset, load_rows
from signet_train.data.manifest import read_manifest, write_manifest
from signet_train.data.provenance import same_estimator, same_rate
from signet_train.stages.assemble import new_expert
from signet_train.stages.plan import fitting_experts, plan_stage
from signet_train.stages.run import run_stage

UNSET = {"frame_rate": None}


@pytest.mark.parametrize(("source", "rate", "language"), [("rtmpose-balanced", 30.0, "zh"), ("mediapipe", 25.0, "en")])
def test_a_model_knows_what_it_was_trained_on(tmp_path: Path, source: str, rate: float, language: str) -> None:
    manifest = corpus(tmp_path, sources=[source], rates=[rate], language=language)
    expert = new_expert(plan_stage(config("pretrain", manifest, data=UNSET)), "expert")
    assert (expert.config.card.pose_estimator, expert.config.card.language) == (source, language)
    assert (expert.experts[0].pose_estimator, expert.experts[0].frame_rate) == (source, rate)


def test_what_is_stated_must_be_what_the_data_are(tmp_path: Path) -> None:
    manifest = corpus(tmp_path)
    with pytest.raises(
        ConfigError, match=r"card\.pose_estimator is rtmpose-x, and those of row 'clip00' are mediapipe"
    ):
        plan_stage(config("pretrain", manifest, card={"pose_estimator": "rtmpose-x"}))
    with pytest.raises(ConfigError, match=r"card\.language is fr, and there is text in de"):
        plan_stage(config("pretrain", manifest, card={"language": "fr"}))
    for card in ({"language": "de-CH"}, {"language": "mul"}, {"pose_estimator": "mediapipe"}):
        plan_stage(config("pretrain", manifest, card=card))


def test_a_mix_of_estimators_is_refused_or_asked_for_by_name(tmp_path: Path) -> None:
    manifest = corpus(tmp_path, sources=["mediapipe", "mediapipe", "rtmpose-balanced"])
    with pytest.raises(
        ConfigError, match="keypoints are mediapipe's, and those of row 'clip02' are rtmpose-balanced's"
    ):
        plan_stage(config("pretrain", manifest))
    with pytest.raises(ConfigError, match="say which of mediapipe, rtmpose-balanced"):
        plan_stage(config("pretrain", manifest, allow_mix=["pose_estimator"]))
    asked = config("pretrain", manifest, allow_mix=["pose_estimator"], card={"pose_estimator": "mediapipe"})
    assert plan_stage(asked).config.card.pose_estimator == "mediapipe"


def test_a_clip_that_no_survey_saw_is_refused_when_it_is_loaded(tmp_path: Path) -> None:
    manifest = corpus(tmp_path)
    trained = plan_stage(config("pretrain", manifest)).config
    corpus(tmp_path, sources=["rtmpose-x"])  # somebody extracts anew, with another estimator
    rows = load_rows(trained.data, "train")
    with pytest.raises(
        InputError, match=r"row 'clip00': .*keypoints of rtmpose-x, and the model reads those of mediapipe"
    ):
        PoseDataset(rows, trained, training=True)[0, 0]
    allowed = trained.model_copy(update={"allow_mix": ("pose_estimator",)})
    assert PoseDataset(rows, allowed, training=True)[0, 0].id == "clip00"


def test_experts_of_another_clock_or_estimator_are_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first, second = corpus(tmp_path / "a"), corpus(tmp_path / "b", sources=["rtmpose-x"], rates=[50.0])
    run_stage(config("pretrain", first, data=UNSET, optimisation={"epochs": 1}), tmp_path / "expert", "cpu")
    expert = tmp_path / "expert" / "best"
    assert load_checkpoint(expert).experts[0].frame_rate == 25.0
    alone = {"model": {**MODEL, "fusion": {**FUSION, "top_k": 1}}}
    fused = config("finetune", second, experts=[expert], start_from=expert, data=UNSET, **alone)
    plan = plan_stage(fused)
    with pytest.raises(CheckpointError, match="was trained on keypoints of mediapipe, and this run's are of rtmpose-x"):
        fitting_experts(plan.config, plan.clock)
    other_clock = plan.config.model_copy(update={"allow_mix": ("pose_estimator",)})
    with pytest.raises(
        CheckpointError, match=r"trained at 25 frames a second, and this run's data have 50: set data\."
    ):
        fitting_experts(other_clock, plan.clock)
    mixed = {"data": {"frame_rate": 25.0}, "allow_mix": ["pose_estimator"]}
    slowed = config("finetune", second, experts=[expert], **mixed, **alone)
    assert plan_stage(slowed).clock == 25.0
    assert fitting_experts(slowed, 25.0)


def test_recordings_of_several_rates_without_a_clock_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    manifest = corpus(tmp_path, rates=[25.0, 60.0])
    with caplog.at_level(logging.WARNING):
        assert plan_stage(config("pretrain", manifest, data=UNSET)).clock is None
    assert "25 to 60 frames a second, and data.frame_rate is not set" in caplog.text


def test_keypoints_that_name_a_family_are_of_any_of_its_variants(tmp_path: Path) -> None:
    assert same_estimator("rtmpose", "rtmpose-x") and same_estimator("rtmpose-x", "rtmpose")
    assert not same_estimator("rtmpose-x", "rtmpose-balanced") and not same_estimator("mediapipe", "rtmpose")
    assert same_rate(24.97, 25) and not same_rate(24, 25)
    manifest = corpus(tmp_path, sources=["rtmpose"])
    # A bundle has to name one that can be loaded.
    assert plan_stage(config("pretrain", manifest)).config.card.pose_estimator == "rtmpose-lightweight"


def test_texts_of_several_languages_are_mul(tmp_path: Path) -> None:
    manifest = corpus(tmp_path)
    rows = read_manifest(manifest).rows
    write_manifest(manifest, [*rows[:-1], type(rows[0])(**{**_fields(rows[-1]), "language": "zh"})])
    data = {"validation": "test"}
    assert plan_stage(config("pretrain", manifest, data=data)).config.card.language == "mul"


def _fields(row: object) -> dict[str, object]:
    import dataclasses

    return dataclasses.asdict(row)  # type: ignore[call-overload]
