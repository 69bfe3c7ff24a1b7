"""Where RTMPose's weights come from: what is here, what is pulled, and what is refused."""

from __future__ import annotations

import hashlib
import io
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import pytest
from hub_server import hub_server
from rtmpose_models import SIZE, check, paint, person

import signet_runtime.models.fetch
import signet_runtime.pose.rtmpose.weights as weight_files
from signet_runtime.errors import EngineError
from signet_runtime.pose.estimators import load_estimator
from signet_runtime.pose.rtmpose.estimator import RTMPoseEstimator
from signet_runtime.pose.rtmpose.weights import find_weights, import_rtmlib


def test_rtmlibs_cache_is_found_by_its_own_names(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("TORCH_HOME", raising=False)
    monkeypatch.delenv("SIGNET_RTMPOSE", raising=False)
    checkpoints = tmp_path / "rtmlib" / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    assert find_weights("performance") == {"det": None, "pose": None}
    detector = checkpoints / "yolox_m_8xb8-300e_humanart-c2c7a14a.onnx"
    pose = checkpoints / "rtmw-dw-x-l_simcc-cocktail14_270e-384x288_20231122.onnx"
    detector.touch(), pose.touch()
    assert find_weights("performance") == {"det": detector, "pose": pose}


def test_a_downloaded_archive_in_the_cache_is_unpacked_without_the_network(tmp_path, monkeypatch, weights):
    import zipfile

    from rtmlib import Wholebody

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("TORCH_HOME", raising=False)
    monkeypatch.delenv("SIGNET_RTMPOSE", raising=False)
    checkpoints = tmp_path / "rtmlib" / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    monkeypatch.setattr(weight_files, "KNOWN", {})  # the archives hold models of our own
    for part, own in (("det", "detector.onnx"), ("pose", "pose.onnx")):
        with zipfile.ZipFile(checkpoints / Path(Wholebody.MODE["lightweight"][part]).name, "w") as archive:
            archive.write(weights / own, "some/where/end2end.onnx")
    estimator = RTMPoseEstimator("lightweight", offline=True)
    check(next(estimator.estimate([paint(SIZE, {"green": person(150, 50)})])), person(150, 50))


def in_directory(directory, weights, mode):
    """Our own models under the names of published ones."""
    directory.mkdir()
    for part, own in (("det", "detector.onnx"), ("pose", "pose.onnx")):
        name = Path(weight_files.model_set(mode)[part]).stem + ".onnx"
        (directory / name).write_bytes((weights / own).read_bytes())
    return directory


def test_a_published_name_with_other_content_is_refused(tmp_path, weights):
    directory = in_directory(tmp_path / "there", weights, "lightweight")
    with pytest.raises(EngineError, match=r"yolox_tiny.*\.onnx: not the published file.*SHA-256") as error:
        RTMPoseEstimator("lightweight", offline=True, weights=directory)
    assert "\n" not in str(error.value)


def test_a_known_file_is_used_and_an_unknown_one_named(tmp_path, weights, monkeypatch, caplog):
    directory = in_directory(tmp_path / "there", weights, "lightweight")
    pose = next(directory.glob("rtmw*"))
    monkeypatch.setattr(weight_files, "KNOWN", {pose.name: hashlib.sha256(pose.read_bytes()).hexdigest()})
    RTMPoseEstimator("lightweight", offline=True, weights=directory)
    (warning,) = caplog.messages
    assert "yolox_tiny" in warning and "not known" in warning


@pytest.fixture
def nothing_here(tmp_path, monkeypatch):
    """A machine without weights, and with nothing that says where some are."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("SIGNET_MODELS", str(tmp_path / "models"))
    for name in ("TORCH_HOME", "SIGNET_RTMPOSE", "SIGNET_OFFLINE", "SIGNET_RTMPOSE_X", "SIGNET_CATALOGUE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server(nothing_here):
    with hub_server() as hub:
        yield hub


def zipped(model: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("20231122/rtmw/end2end.onnx", model)
        archive.writestr("20231122/rtmw/deploy.json", "{}")
    return packed.getvalue()


def own_catalogue(server, tmp_path, monkeypatch, weights, mode, hashes=True) -> None:
    """The catalogue's entry with our own models at the server, under the names of the published ones."""
    lines = [f"[models.rtmpose-{mode}]", "kind = 'pose-estimator'", "format = 'zipped-onnx'"]
    lines += ["summary = 'ours'", "licence = 'mmpose'"]
    for part, own in (("det", "detector.onnx"), ("pose", "pose.onnx")):
        name, content = Path(weight_files.model_set(mode)[part]).stem, (weights / own).read_bytes()
        server.pages[f"/{name}.zip"] = zipped(content)
        lines += [f"[[models.rtmpose-{mode}.files]]", f"path = '{name}.onnx'", f"url = '{server.url}/{name}.zip'"]
        digest = hashlib.sha256(content).hexdigest()
        lines += [f"sha256 = '{digest}'"] if hashes else []
        monkeypatch.setitem(weight_files.KNOWN, f"{name}.onnx", digest)  # of the built-in catalogue
    (tmp_path / "own.toml").write_text("\n".join(lines))
    monkeypatch.setenv("SIGNET_CATALOGUE", str(tmp_path / "own.toml"))


def test_the_catalogue_has_rtmlibs_urls() -> None:
    from signet_runtime.models.catalogue import built_in

    for mode in ("lightweight", "balanced", "performance"):
        files = built_in().entry(f"rtmpose-{mode}").files
        urls = weight_files.model_set(mode)
        assert [f.url for f in files] == [urls["det"], urls["pose"]]
        assert [f.path for f in files] == [Path(urls[part]).stem + ".onnx" for part in ("det", "pose")]


def test_weights_are_pulled_checked_and_then_found_without_a_network(server, tmp_path, monkeypatch, weights) -> None:
    own_catalogue(server, tmp_path, monkeypatch, weights, "lightweight")
    for offline in (False, True):
        estimator = RTMPoseEstimator("lightweight", offline=offline)
        check(next(estimator.estimate([paint(SIZE, {"green": person(150, 50)})])), person(150, 50))
        server.pages.clear()
    assert find_weights("lightweight")["pose"].is_relative_to(tmp_path / "models" / "rtmpose-lightweight")


@pytest.mark.parametrize("fault", ["wrong bytes", "html", "always cut", "refuse"])
def test_weights_that_come_wrong_are_one_line_and_not_used(server, tmp_path, monkeypatch, weights, fault) -> None:
    own_catalogue(server, tmp_path, monkeypatch, weights, "balanced")
    server.fault = fault
    with pytest.raises(EngineError, match="cannot download the RTMPose weights for rtmpose-balanced") as error:
        RTMPoseEstimator("balanced", offline=False)
    assert "\n" not in str(error.value)
    assert find_weights("balanced") == {"det": None, "pose": None}
    server.fault = None
    RTMPoseEstimator("balanced", offline=False)


def test_weights_without_a_known_hash_are_held_to_the_first(server, tmp_path, monkeypatch, weights, caplog) -> None:
    own_catalogue(server, tmp_path, monkeypatch, weights, "balanced", hashes=False)
    for name in [
        Path(url).stem + ".onnx" for url in weight_files.model_set("balanced").values() if isinstance(url, str)
    ]:
        monkeypatch.delitem(weight_files.KNOWN, name)
    RTMPoseEstimator("balanced", offline=False)
    assert sum("nobody vouches for" in message for message in caplog.messages) == 2
    caplog.clear()
    RTMPoseEstimator("balanced", offline=True)
    assert caplog.messages == []
    pose = find_weights("balanced")["pose"]
    pose.write_bytes(pose.read_bytes() + b"x")
    with pytest.raises(EngineError, match="not the published file"):
        RTMPoseEstimator("balanced", offline=True)


def test_the_x_size_model_comes_from_a_directory_or_a_url(nothing_here, server, tmp_path, weights, monkeypatch):
    for directory in (weights, in_directory(tmp_path / "there", weights, "x")):
        estimator = RTMPoseEstimator("x", offline=True, weights=directory)
        assert estimator.name == "rtmpose-x"
        check(next(estimator.estimate([paint(SIZE, {"green": person(150, 50)})])), person(150, 50))

    with pytest.raises(EngineError, match=r"rtmlib has no weights for rtmpose-x.*rtmw-x_simcc.*SIGNET_RTMPOSE_X"):
        weight_files.get_weights("x", offline=False)
    # Its detector is that of "performance", whose URL is rtmlib's.
    detector = "yolox_m_8xb8-300e_humanart-c2c7a14a"
    performance = {**weight_files.model_set("performance"), "det": f"{server.url}/{detector}.zip"}
    monkeypatch.setattr(import_rtmlib().Wholebody, "MODE", {"performance": performance})
    monkeypatch.setenv("SIGNET_RTMPOSE_X", f"{server.url}/mine.zip")
    server.pages[f"/{detector}.zip"] = zipped((weights / "detector.onnx").read_bytes())
    server.pages["/mine.zip"] = zipped((weights / "pose.onnx").read_bytes())
    found = weight_files.get_weights("x", offline=False)
    assert found["pose"].name == "mine.onnx" and found["pose"].read_bytes() == (weights / "pose.onnx").read_bytes()


@pytest.mark.parametrize("how", ["argument", "environment"])
def test_missing_weights_while_offline_name_the_files_and_never_download(nothing_here, monkeypatch, how):
    import rtmlib.tools.file as downloads

    monkeypatch.setattr(downloads, "download_url_to_file", lambda *_, **__: pytest.fail("tried to download"))
    monkeypatch.setattr(signet_runtime.models.fetch, "download", lambda *_, **__: pytest.fail("tried to download"))
    if how == "environment":
        monkeypatch.setenv("SIGNET_OFFLINE", "1")
    with pytest.raises(EngineError, match=r"yolox_m.*\.onnx into .*checkpoints") as error:
        load_estimator("rtmpose-balanced", "mediapipe", offline=how == "argument")
    assert error.value.exit_code == 5 and "\n" not in str(error.value)


def test_a_failed_download_is_one_line(nothing_here, monkeypatch):
    def fail(*_, **__):
        raise urllib.error.URLError("no route to host\nat all")

    monkeypatch.setattr(urllib.request, "urlopen", fail)
    with pytest.raises(EngineError, match=r"cannot download.*no route to host") as error:
        load_estimator("rtmpose-lightweight", "mediapipe", offline=False)
    assert "\n" not in str(error.value)


def test_unusable_weights_are_one_line(tmp_path):
    (tmp_path / "detector.onnx").write_bytes(b"not a model")
    (tmp_path / "pose.onnx").write_bytes(b"not a model")
    with pytest.raises(EngineError, match=r"detector\.onnx: not an RTMPose model") as error:
        RTMPoseEstimator("balanced", offline=True, weights=tmp_path)
    assert "\n" not in str(error.value)
    with pytest.raises(EngineError, match="not a directory"):
        RTMPoseEstimator("balanced", offline=True, weights=tmp_path / "none")
