"""Fixtures around a bundle that is as small as a bundle can be."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from rtmpose_models import write_detector, write_pose
from tiny_bundle import FakeEstimator, TinyBundle, make_tiny_bundle, random_poses
from translate_command import Translate

from signet_runtime import translator as translator_module
from signet_runtime.bundle import Bundle
from signet_runtime.commands.translate import main
from signet_runtime.pose.files import write_keypoints
from signet_runtime.translator import Translator


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyBundle:
    return make_tiny_bundle(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """RTMPose's two models, small ones of their interface."""
    directory = tmp_path_factory.mktemp("rtmpose")
    write_detector(directory / "detector.onnx")
    write_pose(directory / "pose.onnx")
    return directory


@pytest.fixture
def bundle_copy(tiny: TinyBundle, tmp_path: Path) -> Path:
    """One to damage."""
    return Path(shutil.copytree(tiny.path, tmp_path / "bundle"))


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Which bundles were verified is remembered per user: not by tests, and not between them."""
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    return cache


@pytest.fixture(scope="session")
def loaded(tiny: TinyBundle) -> Bundle:
    return Bundle.load(tiny.path)


@pytest.fixture
def write_video(tmp_path: Path) -> Callable[..., Path]:
    """Write a small video of a moving bar; ``frames`` pictures and, with ``sound``, a track of silence."""

    def write(
        name: str, frames: int = 12, fps: int = 25, size: tuple[int, int] = (96, 64), sound: bool = False
    ) -> Path:
        import av

        with av.open(str(tmp_path / name), "w") as container:
            if frames:
                stream = container.add_stream("mpeg4", rate=fps)
                stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
            if sound:
                audio = container.add_stream("aac", rate=16000)
                silence = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
                silence.sample_rate = 16000
                for packet in (*audio.encode(silence), *audio.encode(None)):
                    container.mux(packet)
            for n in range(frames):
                picture = np.full((size[1], size[0], 3), 40, np.uint8)
                picture[:, n * 3 % size[0] : n * 3 % size[0] + 8] = 200
                for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                    container.mux(packet)
            if frames:
                for packet in stream.encode(None):
                    container.mux(packet)
        return tmp_path / name

    return write


@pytest.fixture
def translate(tiny: TinyBundle, monkeypatch: pytest.MonkeyPatch) -> Translate:
    """Run the command on the tiny bundle; in every video somebody is seen to sign."""
    monkeypatch.setattr(translator_module, "load_estimator", lambda *args, **options: FakeEstimator())

    def run(*arguments: object, bundle: Path = tiny.path) -> Result:
        return CliRunner().invoke(main, ["--bundle", str(bundle), *map(str, arguments)])

    return run


@pytest.fixture
def clips(tmp_path: Path) -> list[Path]:
    """Keypoint files with different texts."""
    paths = [tmp_path / f"{seed}.npz" for seed in (0, 1, 2)]
    for seed, path in enumerate(paths):
        write_keypoints(path, random_poses(seed))
    return paths


@pytest.fixture(scope="session")
def texts(tiny: TinyBundle) -> list[str]:
    """What the clips say."""
    texts = [t.text for t in Translator.from_bundle(tiny.path).translate_poses([random_poses(s) for s in (0, 1, 2)])]
    assert len(set(texts)) > 1
    return texts
