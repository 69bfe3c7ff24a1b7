"""The causal normalisation all the way: a model that is trained with it is exported and reads along what is shown."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tiny_runs import config, words

from signet_export.bundle import export_bundle
from signet_runtime import Translator
from signet_runtime.bundle import Bundle
from signet_runtime.engines.encoder import Encoded
from signet_runtime.engines.onnx import OnnxEncoder
from signet_runtime.errors import CheckpointError
from signet_runtime.pose.sequence import PoseSequence
from signet_runtime.sentences.keypoints import PoseStream
from signet_runtime.sentences.segmenter import PosedFrame
from signet_train.checkpoint import load_checkpoint
from signet_train.config import TrainConfig
from signet_train.data.batches.cache import fingerprint
from signet_train.data.batches.dataset import PoseDataset, load_rows
from signet_train.data.spelled.clips import Pace, spell
from signet_train.stages.run import run_stage


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stage I on a few words."""
    root = tmp_path_factory.mktemp("causal")
    manifest = words(root / "words.jsonl", train=8, dev=2, sign_languages=("ase",))
    changes = {"data": {"normalisation": "causal"}, "optimisation": {"epochs": 1}}
    run_stage(config("pretrain", manifest, **changes), root / "run", "cpu")
    return root / "run" / "best"


@pytest.fixture(scope="module")
def bundle(run: Path) -> Bundle:
    export_bundle(load_checkpoint(run), run.parent / "bundle")
    return Bundle.load(run.parent / "bundle")


@pytest.fixture(scope="module")
def signing() -> PoseSequence:
    """A word, at the model's clock."""
    return spell("wonderful", "ase", Pace()).resample(6.25)


def test_training_prepares_its_data_by_the_normalisation_it_states(run: Path) -> None:
    checkpoint = load_checkpoint(run)
    assert checkpoint.experts[0].normalisation == checkpoint.config.data.normalisation == "causal"
    rows = load_rows(checkpoint.config.data, "dev")
    found = PoseDataset(rows, checkpoint.config, training=False)[0, 0].regions
    unisign = checkpoint.config.model_copy(
        update={"data": checkpoint.config.data.model_copy(update={"normalisation": "unisign"})}
    )
    other = PoseDataset(rows, unisign, training=False)[0, 0].regions
    assert not np.array_equal(found["body"], other["body"])
    np.testing.assert_array_equal(found["body"][-1], other["body"][-1])
    keys = [fingerprint(c, checkpoint.model.experts, {"dev": rows}) for c in (checkpoint.config, unisign)]
    assert keys[0] != keys[1]  # of caches


def test_experts_of_another_normalisation_are_refused(run: Path) -> None:
    checkpoint = load_checkpoint(run)
    settings: TrainConfig = config(
        "finetune", checkpoint.config.data.manifests[0], experts=[run], start_from=run, model=checkpoint.config.model
    )
    assert settings.data.normalisation == "unisign"
    with pytest.raises(CheckpointError, match=r"normalisation causal, and data\.normalisation states unisign"):
        run_stage(settings, run.parent / "finetune", "cpu")


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, int]]:
    """When the experts were run, and on how many frames."""
    noted: list[tuple[float, int]] = []
    features = OnnxEncoder.features

    def noting(self: OnnxEncoder, clip: dict[str, np.ndarray]) -> np.ndarray:
        noted.append((time.perf_counter(), len(clip["body"])))
        return features(self, clip)

    monkeypatch.setattr(OnnxEncoder, "features", noting)
    return noted


@pytest.mark.parametrize("whole", [0, None])
def test_what_is_shown_is_read_along(
    bundle: Bundle,
    signing: PoseSequence,
    read: list[tuple[float, int]],
    whole: int | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    states: list[Encoded] = []
    original = OnnxEncoder.read

    def noting(self: OnnxEncoder, features: np.ndarray, mask: np.ndarray) -> Encoded:
        states.append(original(self, features, mask))
        return states[-1]

    def arriving() -> Iterator[PosedFrame]:
        for i, (keypoints, scores) in enumerate(zip(signing.keypoints, signing.scores, strict=True)):
            time.sleep(0.002)
            yield PosedFrame(i / signing.fps, keypoints, scores, 1, time.perf_counter())
        ended.append(time.perf_counter())

    ended: list[float] = []
    monkeypatch.setattr(OnnxEncoder, "read", noting)
    with Translator(bundle, num_beams=1) as translator:
        stream = PoseStream(arriving(), signing.fps, signing.size, signing.source)
        (found,) = translator.sentences(stream, whole=whole)
        sentence = signing.take(np.arange(round(found.start * signing.fps), round(found.end * signing.fps)))
        expected = translator.translate_poses([sentence])[0]
    assert (found.text, found.frames) == (expected.text, expected.frames)
    along, at_once = states
    np.testing.assert_allclose(along.hidden_states, at_once.hidden_states, atol=1e-5, rtol=0)
    assert sum(moment < ended[0] for moment, _ in read) >= 2  # before the last frame
    assert read[-1][1] < found.frames  # and then not all again


def test_keypoints_that_are_there_are_read_at_once(
    bundle: Bundle, signing: PoseSequence, read: list[tuple[float, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "signet_runtime.engines.incremental._AT_ONCE", 60.0
    )  # nothing is late, however busy the machine
    with Translator(bundle, num_beams=1) as translator:
        (found,) = translator.sentences(signing, whole=None)
    assert [frames for _, frames in read] == [found.frames]
