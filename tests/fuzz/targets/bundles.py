"""Bundles and models by name: manifests, settings, vocabularies, graphs, archives, catalogues and records."""

from __future__ import annotations

import functools
import io
import json
import os
import random
import shutil
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import zstandard

from signet_export.inspect import describe
from signet_export.verification import read_verification
from signet_runtime.boundary import read_json
from signet_runtime.bundle import (
    Bundle,
    Engine,
    Expert,
    Manifest,
    Routing,
    demo_bundle_path,
    read_manifest,
    write_manifest,
)
from signet_runtime.confidence.calibration import Reliability, load_calibration
from signet_runtime.engines.onnx import OnnxEncoder
from signet_runtime.engines.session import create_session
from signet_runtime.errors import ConfigError
from signet_runtime.generation.settings import SearchSettings
from signet_runtime.generation.tokenizer import Tokenizer
from signet_runtime.models.catalogue import built_in, parse_catalogue
from signet_runtime.models.convert import unpack_bundle
from signet_runtime.models.home import DESCRIPTION, Home
from signet_runtime.models.reference import refer
from signet_runtime.onnx_file import references
from signet_runtime.regions import extract_regions
from signet_runtime.remote_code import refuse_remote_code
from tests.fuzz.mutations import edit_bytes, edit_json
from tests.fuzz.target import Target, as_file, scratch

DEMO = demo_bundle_path()


def _demo(*names: str) -> Callable[[], list[bytes]]:
    return functools.cache(lambda: [(DEMO / name).read_bytes() for name in names])


def _directory(name: str) -> Path:
    """Return a bundle like the demo's, of which one file is to be another."""
    directory = scratch() / name
    if not directory.exists():
        shutil.copytree(DEMO, directory, copy_function=os.symlink)
        for link in directory.iterdir():  # links out of a bundle are refused
            content = link.read_bytes()
            link.unlink()
            link.write_bytes(content)
    return directory


def _manifest(data: bytes) -> None:
    as_file(data, "manifest/signet.json")
    read_manifest(scratch() / "manifest")
    directory = _directory("bundle")
    (directory / "signet.json").write_bytes(data)
    describe(Bundle.load(directory)).encode()


def _settings(data: bytes) -> None:
    settings = SearchSettings.read(as_file(data, "settings/generation_config.json").parent)
    sorted(settings.marks)
    float(3**settings.length_penalty) + settings.earliest_end


@functools.cache
def _vocabulary() -> bytes:
    """Train a SentencePiece model as small as one can be."""
    import sentencepiece

    with tempfile.TemporaryDirectory() as folder:
        words = [
            "hand",
            "name",
            "water",
            "school",
            "morning",
            "friend",
            "house",
            "where",
            "when",
            "dog",
            "cat",
            "bread",
        ] * 4
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(words),
            model_prefix=f"{folder}/m",
            vocab_size=40,
            hard_vocab_limit=False,
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=-1,
            minloglevel=2,
        )
        return Path(folder, "m.model").read_bytes()


def _spell(directory: Path) -> None:
    tokenizer = Tokenizer.read(directory)
    for tokens in ([0, 1, 2, 3, 4, 20, 39], list(range(60)), [10**6]):
        tokenizer.decode(tokens).encode("utf-8", "surrogatepass")
        tokenizer.pieces(tokens)


def _tokenizer_config(data: bytes) -> None:
    as_file(_vocabulary(), "words/spiece.model")
    _spell(as_file(data, "words/tokenizer_config.json").parent)


def _pieces(data: bytes) -> None:
    as_file((DEMO / "tokenizer_config.json").read_bytes(), "pieces/tokenizer_config.json")
    _spell(as_file(data, "pieces/spiece.model").parent)


def _language_model(data: bytes) -> None:
    refuse_remote_code(as_file(data, "mt5/config.json").parent, ConfigError)


def _confidence(data: bytes) -> None:
    from signet_runtime.generation.hypothesis import Hypothesis

    judge = Reliability(load_calibration(as_file(data, "confidence.json")))
    clip, text = _clip(), Hypothesis.of([5, 6], np.array([-0.1, -0.2], np.float32), None, frozenset())
    assert 0 <= judge(text, [0.7, 0.3, 0.0], clip) <= 1


@functools.cache
def _clip() -> dict[str, np.ndarray]:
    from signet_runtime.pose.sequence import PoseSequence

    rng = np.random.default_rng(1)
    points, scores = rng.uniform(0.2, 0.8, (6, 133, 2)), rng.uniform(0.4, 1, (6, 133))
    return extract_regions(PoseSequence(points, scores, 25.0, (64, 48), "mediapipe"))


def _verification(data: bytes) -> None:
    found = read_verification(as_file(data, "verification.json"))
    f"{found.largest:.1e} {found.relative:.1e} {[f'{share:.0%}' for share in found.same_tokens.values()]}"


def _graph(data: bytes) -> None:
    path = as_file(data, "encoder.onnx")
    references(path)
    encoder = OnnxEncoder(create_session(path, "cpu"))
    found = encoder([_clip()])
    assert found.hidden_states.shape[:2] == found.attention_mask.shape


@functools.cache
def _graph_seeds() -> list[bytes]:
    from tests.runtime.tiny_bundle import _make_encoder

    with tempfile.TemporaryDirectory() as folder:
        _make_encoder(Path(folder, "encoder.onnx"))
        return [Path(folder, "encoder.onnx").read_bytes()]


def _references(data: bytes) -> None:
    references(as_file(data, "decoder.onnx"))


def _archive(data: bytes) -> None:
    out = scratch() / "unpacked"
    shutil.rmtree(out, ignore_errors=True)
    unpack_bundle(as_file(data, "a.signet"), out)


@functools.cache
def _archive_seeds() -> list[bytes]:
    """Pack a bundle whose graphs are graphs of nothing, so that it is small."""
    names = ("encoder.onnx", "decoder_model.onnx", "decoder_with_past_model.onnx")
    encoder, decoder, later = names
    manifest = Manifest(
        name="nothing",
        language="en",
        experts=[Expert(name="one", sign_languages=["ase"], corpus="none")],
        routing=Routing(k=1),
        normalisation="unisign",
        pose_estimator="mediapipe",
        engines=[Engine(kind="onnx", precision="fp32", encoder=encoder, decoder=decoder, decoder_with_past=later)],
    )
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            Path(folder, name).write_bytes(b"\x32\x06nobody")
        write_manifest(Path(folder), manifest)
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            for name in ("signet.json", *names):
                archive.add(Path(folder, name), f"nothing/{name}", filter=_nobody)
    return [zstandard.compress(packed.getvalue())]


def _nobody(info: tarfile.TarInfo) -> tarfile.TarInfo:
    """Make it the same bytes whoever runs this, and whenever."""
    info.uid = info.gid = info.mtime = 0
    info.uname = info.gname = ""
    return info


def _edit_archive(rng: random.Random, data: bytes) -> bytes:
    try:
        plain = zstandard.ZstdDecompressor().decompress(data, max_output_size=1 << 20)
    except zstandard.ZstdError:
        return edit_bytes(rng, data)
    return zstandard.compress(edit_bytes(rng, plain))


def _catalogue(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    catalogue = parse_catalogue(text, "catalogue.toml", built_in())
    for entry in catalogue.models.values():
        entry.download_size()
    str(built_in().with_own(catalogue)).encode("utf-8", "backslashreplace")


def _reference(data: bytes) -> None:
    reference = refer(data.decode("utf-8", "surrogateescape"), built_in())
    os.fsencode(reference.name)


_REFERENCES = (
    *(b"openasl", b"hf:team/asl", b"hf:team/asl@main", b"hf:team/asl@" + b"a" * 40),
    b"https://example.org/a/b.signet#sha256=" + b"0" * 64,
)


def _model(data: bytes) -> None:
    as_file(data, f"home/openasl/{DESCRIPTION}")
    home = Home(scratch() / "home")
    home.installed("openasl")
    home.all_installed()


def _records(data: bytes) -> None:
    as_file(data, "home/records.json")
    Home(scratch() / "home").records()


_RECORD = {"size": 3, "sha256": "0" * 64}
_MODEL = {
    "name": "openasl",
    "kind": "translator",
    "product": "bundle",
    "source": "hub:a/b@c",
    "licence": "mit",
    "sources": {"a.pth": _RECORD},
    "when": "2026-11-27T00:00:00+00:00",
}
_RECORDS = {"files": {"hub:a": _RECORD}, "revisions": {"a/b@main": "c"}, "licences": {"mit": "now"}}


def _json(*contents: object) -> Callable[[], list[bytes]]:
    return lambda: [json.dumps(content).encode() for content in contents]


def _plain_json(data: bytes) -> None:
    read_json(as_file(data, "a.json"), "settings_bytes")


TARGETS = (
    Target("bundle-manifest", _manifest, _demo("signet.json"), edit_json, share=300),
    Target("search-settings", _settings, _demo("generation_config.json"), edit_json),
    Target("tokenizer-config", _tokenizer_config, _demo("tokenizer_config.json"), edit_json),
    Target("tokenizer-pieces", _pieces, lambda: [_vocabulary()]),
    Target("language-model-config", _language_model, _demo("config.json", "special_tokens_map.json"), edit_json),
    Target("confidence", _confidence, _demo("confidence.json"), edit_json, share=200),
    Target("verification", _verification, _demo("verification.json"), edit_json),
    Target("onnx-encoder", _graph, _graph_seeds),
    Target("onnx-references", _references, _demo("decoder_with_past_model.onnx"), share=200),
    Target("bundle-archive", _archive, _archive_seeds, _edit_archive),
    Target("catalogue", _catalogue, lambda: [_CATALOGUE.encode()]),
    Target("model-reference", _reference, lambda: list(_REFERENCES)),
    Target("model-description", _model, _json(_MODEL), edit_json),
    Target("model-records", _records, _json(_RECORDS), edit_json),
    Target("json", _plain_json, _json({"a": [1, 2.5, None, True, "x"], "b": {"c": []}}), edit_json),
)

_CATALOGUE = """
[repositories.mine]
hub = "team/asl"

[licences.mine]
terms = "free"
says = "mine"

[models.mine]
kind = "translator"
format = "bundle"
summary = "a model"
repository = "mine"
licence = "mine"
max_frames = 128
frame_rate = 12.5
files = [{ path = "signet.json", size = 12, about = 13, optional = false }]
"""
