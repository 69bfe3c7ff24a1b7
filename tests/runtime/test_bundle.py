"""A bundle is whole, or it is an error that says what is wrong with which file."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from tiny_bundle import TinyBundle

from signet_runtime.bundle import (
    Bundle,
    Engine,
    Manifest,
    ShapeRange,
    demo_bundle_path,
    new_bundle,
    read_manifest,
    write_manifest,
)
from signet_runtime.errors import BundleError, EngineError

ENGINE = {
    "kind": "onnx",
    "precision": "fp32",
    "encoder": "encoder.onnx",
    "decoder": "decoder_model.onnx",
    "decoder_with_past": "decoder_with_past_model.onnx",
}
BUILD = {"version": "1.7.1.116", "target": "sm86", "profiles": {"frames": [1, 128, 512]}, "executed": False}
TRT = {
    "kind": "tensorrt-rtx",
    "precision": "fp32",
    "encoder": "encoder.engine",
    "decoder": "decoder.engine",
    "decoder_with_past": "decoder_with_past.engine",
    "build": BUILD,
}


def flip_byte(path: Path, keep_times: bool = False) -> None:
    times = path.stat()
    contents = bytearray(path.read_bytes())
    contents[len(contents) // 2] ^= 1
    path.write_bytes(contents)
    if keep_times:
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def edit_manifest(bundle: Path, **changes: object) -> None:
    path = bundle / "signet.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_load_gives_the_manifest_and_the_files(tiny: TinyBundle) -> None:
    bundle = Bundle.load(str(tiny.path))
    assert bundle.manifest.language == "mul"
    assert [expert.name for expert in bundle.manifest.experts] == ["ase", "gsg", "csl"]
    assert bundle.file("encoder.onnx").read_bytes() == (tiny.path / "encoder.onnx").read_bytes()
    assert set(bundle.manifest.files) == {f.name for f in tiny.path.iterdir()} - {"signet.json"}
    with pytest.raises(BundleError, match=r"does not list the file 'other\.onnx'"):
        bundle.file("other.onnx")


def test_a_flipped_byte_is_found_at_first_use(bundle_copy: Path) -> None:
    flip_byte(bundle_copy / "decoder_model.onnx")
    with pytest.raises(BundleError, match=r"decoder_model\.onnx: damaged"):
        Bundle.load(bundle_copy)


@pytest.mark.parametrize("keep_times", [False, True])
def test_a_byte_flipped_later_is_found(bundle_copy: Path, keep_times: bool) -> None:
    Bundle.load(bundle_copy)
    flip_byte(bundle_copy / "decoder_model.onnx", keep_times)
    with pytest.raises(BundleError, match=r"decoder_model\.onnx: damaged"):
        Bundle.load(bundle_copy)


def test_contents_are_read_at_first_use_and_on_request_only(bundle_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checks = []
    check = Bundle._check_hashes
    monkeypatch.setattr(Bundle, "_check_hashes", lambda self: (checks.append(self.path), check(self)))
    Bundle.load(bundle_copy)
    Bundle.load(bundle_copy)
    assert len(checks) == 1
    Bundle.load(bundle_copy, verify=True)
    assert len(checks) == 2


def test_a_cache_that_cannot_be_written_is_no_obstacle(
    bundle_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    Bundle.load(bundle_copy)
    flip_byte(bundle_copy / "spiece.model")
    with pytest.raises(BundleError, match="damaged"):
        Bundle.load(bundle_copy)


def test_a_truncated_and_a_missing_file(bundle_copy: Path) -> None:
    Bundle.load(bundle_copy)
    encoder = bundle_copy / "encoder.onnx"
    encoder.write_bytes(encoder.read_bytes()[:-1])
    with pytest.raises(BundleError, match=rf"encoder\.onnx: has {encoder.stat().st_size} bytes, .* made with"):
        Bundle.load(bundle_copy)
    encoder.unlink()
    with pytest.raises(BundleError, match=r"encoder\.onnx: missing"):
        Bundle.load(bundle_copy)


@pytest.mark.parametrize("version", [2, "1", None])
def test_an_unknown_schema_version_names_both(bundle_copy: Path, version: object) -> None:
    # Another version may mean anything by the other fields: only the version may be looked at.
    edit_manifest(bundle_copy, schema_version=version, experts="something new")
    with pytest.raises(BundleError, match=rf"schema version {version!r}, this signet-slt reads version 1; install"):
        Bundle.load(bundle_copy)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_frames": 0}, "max_frames: "),
        ({"profile": "unknown"}, "profile: "),
        ({"beam": 4}, "beam: Extra inputs are not permitted"),
        ({"experts": []}, "experts: "),
        ({"routing": {"mode": "topk", "k": 4}}, r"routing\.k is 4 but there are 3 experts"),
        ({"files": {"../outside": {"size": 1, "sha256": "0" * 64}}}, r"'\.\./outside' leaves the bundle"),
        ({"files": {"/etc/hostname": {"size": 1, "sha256": "0" * 64}}}, "'/etc/hostname' leaves the bundle"),
        ({"files": {}}, "does not list the file 'encoder.onnx'"),
        ({"engines": [ENGINE | {"build": BUILD}]}, r"engines\.0: .*kind onnx must not say how it was built"),
        ({"engines": [ENGINE, TRT | {"build": None}]}, r"engines\.1: .*kind tensorrt-rtx must say how it was built"),
        ({"engines": [TRT]}, "the first engine is not of kind onnx"),
        ({"engines": [ENGINE, TRT | {"build": BUILD | {"target": "rtx3090"}}]}, r"engines\.1\.build\.target: "),
        ({"engines": [ENGINE, TRT | {"build": BUILD | {"profiles": {"frames": [9, 8, 512]}}}]}, "not fewest, most"),
        ({"engines": [ENGINE | {"precision": "fp8"}]}, r"engines\.0\.precision: "),
        ({"engines": [ENGINE, TRT]}, r"does not list the file 'encoder\.engine'"),
    ],
)
def test_a_manifest_that_cannot_be(bundle_copy: Path, changes: dict[str, object], message: str) -> None:
    edit_manifest(bundle_copy, **changes)
    with pytest.raises(BundleError, match=message) as raised:
        Bundle.load(bundle_copy)
    assert str(bundle_copy / "signet.json") in str(raised.value)
    assert "\n" not in str(raised.value)


def test_several_engines(bundle_copy: Path) -> None:
    for name in ("encoder.engine", "decoder.engine", "decoder_with_past.engine"):
        (bundle_copy / name).write_bytes(b"an engine")
    manifest = read_manifest(bundle_copy)
    engines = [*manifest.engines, Engine.model_validate(TRT)]
    written = write_manifest(bundle_copy, manifest.model_copy(update={"engines": engines}))
    bundle = Bundle.load(bundle_copy, verify=True)
    assert bundle.manifest == written
    assert bundle.engine() == bundle.engine("onnx", "fp32") == manifest.engines[0]
    built = bundle.engine("trt").build
    assert built is not None
    assert bundle.engine("tensorrt-rtx", "fp32").build == built
    assert built.shapes == ShapeRange(frames=(1, 128, 512), clips=1, beams=4, tokens=100, prompt=0)
    # No other engine takes the place of one that was asked for.
    for asked, message in ((("tensorrt",), "no tensorrt engine"), (("trt", "fp16"), "no trt fp16 engine")):
        with pytest.raises(EngineError, match=f"{message} but onnx fp32, tensorrt-rtx fp32; ask for"):
            bundle.engine(*asked)
    (bundle_copy / "decoder.engine").write_bytes(b"an engina")
    with pytest.raises(BundleError, match=r"decoder\.engine: damaged"):
        Bundle.load(bundle_copy)


def test_two_experts_of_one_name(bundle_copy: Path) -> None:
    expert = {"name": "ase", "sign_languages": ["ase"], "corpus": "none"}
    edit_manifest(bundle_copy, experts=[expert, expert])
    with pytest.raises(BundleError, match="two experts have the same name"):
        Bundle.load(bundle_copy)


def test_a_link_out_of_the_bundle(bundle_copy: Path, tmp_path: Path) -> None:
    (bundle_copy / "config.json").rename(tmp_path / "elsewhere.json")
    (bundle_copy / "config.json").symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(BundleError, match=r"config\.json: points outside the bundle"):
        Bundle.load(bundle_copy)


def test_what_is_not_a_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="missing: no such bundle"):
        Bundle.load(tmp_path / "missing")
    with pytest.raises(BundleError, match=r"not a bundle, it has no signet\.json"):
        Bundle.load(tmp_path)
    (tmp_path / "signet.json").write_text('{"schema_version": 1')
    with pytest.raises(BundleError, match="not valid JSON"):
        Bundle.load(tmp_path)
    (tmp_path / "signet.json").write_text("[]")
    with pytest.raises(BundleError, match="schema version None"):
        Bundle.load(tmp_path)
    with pytest.raises(BundleError, match=r"cannot be read|not a bundle|a bundle is a directory"):
        Bundle.load(tmp_path / "signet.json")


def test_the_demo_is_looked_for_in_the_package() -> None:
    import signet_runtime

    assert demo_bundle_path() == Path(signet_runtime.__file__).parent / "demo"


def write_copy(draft: Path, source: Bundle) -> Manifest:
    for name in source.manifest.files:
        (draft / name).write_bytes(source.file(name).read_bytes())
    return write_manifest(draft, source.manifest)


def test_new_bundle_appears_whole(loaded: Bundle, tmp_path: Path) -> None:
    with new_bundle(tmp_path / "deep" / "new") as draft:
        write_copy(draft, loaded)
        assert not (tmp_path / "deep" / "new").exists()
    assert Bundle.load(tmp_path / "deep" / "new", verify=True).manifest == loaded.manifest
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["new"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_new_bundle_leaves_nothing_when_it_fails(loaded: Bundle, tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), new_bundle(tmp_path / "new") as draft:
        write_copy(draft, loaded)
        raise error
    assert list(tmp_path.iterdir()) == []


def test_new_bundle_needs_a_manifest(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no manifest was written"), new_bundle(tmp_path / "new") as draft:
        (draft / "encoder.onnx").touch()
    assert list(tmp_path.iterdir()) == []


def test_new_bundle_overwrites_only_when_asked_and_only_bundles(loaded: Bundle, tmp_path: Path) -> None:
    with new_bundle(tmp_path / "new") as draft:
        (draft / "leftover").write_text("old")
        write_copy(draft, loaded)
    with pytest.raises(BundleError, match="exists already"), new_bundle(tmp_path / "new"):
        pass
    with pytest.raises(RuntimeError), new_bundle(tmp_path / "new", overwrite=True) as draft:
        raise RuntimeError
    assert (tmp_path / "new" / "leftover").exists()
    with new_bundle(tmp_path / "new", overwrite=True) as draft:
        write_copy(draft, loaded)
    assert not (tmp_path / "new" / "leftover").exists()
    Bundle.load(tmp_path / "new", verify=True)

    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("years of work")
    with (
        pytest.raises(BundleError, match="is not a bundle and will not be overwritten"),
        new_bundle(tmp_path / "thesis", overwrite=True),
    ):
        pass
    assert (tmp_path / "thesis" / "thesis.tex").read_text() == "years of work"
