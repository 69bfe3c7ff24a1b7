"""A bundle as a model repository of Triton Inference Server: every graph a model, its shapes in a `config.pbtxt`.

```
REPOSITORY/
  NAME_encoder/config.pbtxt, 1/model.onnx   regions -> states, for the decoders; with NAME_features where that is apart
  NAME_decoder/…                            the first step of the search
  NAME_decoder_with_past/…                  every later one
```

What is before and after the graphs stays with the client: keypoints, normalisation, the search and the tokenizer, as in
`signet_runtime`. What the client has to know of the bundle stands in the encoder's parameters.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from signet_runtime.bundle import Bundle
from signet_runtime.directories import whole_directory
from signet_runtime.engines.session import create_session
from signet_runtime.errors import BundleError, OutputError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, NodeArg

# Of ONNX Runtime's types, what Triton calls them.
_TYPES = {
    "tensor(bool)": "TYPE_BOOL",
    "tensor(float)": "TYPE_FP32",
    "tensor(float16)": "TYPE_FP16",
    "tensor(int32)": "TYPE_INT32",
    "tensor(int64)": "TYPE_INT64",
}


class Tensor(NamedTuple):
    """An input or an output; dims are without the batch, -1 for those that vary."""

    name: str
    data_type: str
    dims: tuple[int, ...]


def export_triton(bundle: Bundle, out: Path, *, precision: str | None = None, clips: int = 8) -> list[str]:
    """Write a model repository.

    Args:
        out: a directory that is not there yet, or empty.
        precision: of the bundle's ONNX engine; None is the first one.
        clips: the largest batch that a client may send; beams count as clips for the decoders.

    Returns:
        the names of its models.

    Raises:
        BundleError: a graph cannot be read, or has inputs or outputs that Triton has no type for.
        EngineError: the bundle has no ONNX engine of that precision.
        OutputError: ``out`` is taken, or cannot be written.
    """
    engine = bundle.engine("onnx", precision)
    graphs = {"encoder": engine.encoder, "decoder": engine.decoder, "decoder_with_past": engine.decoder_with_past}
    if engine.features is not None:
        graphs["features"] = engine.features
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"{out}: exists already; choose another directory")
    name = re.sub(r"[^A-Za-z0-9_-]", "_", bundle.manifest.name)
    beams = clips * bundle.manifest.generation.num_beams
    models = {f"{name}_{part}": file for part, file in graphs.items()}
    placed: dict[Path, Path] = {}
    try:
        with whole_directory(out, replace=False) as draft:
            for model, file in models.items():
                most = clips if model.removeprefix(f"{name}_") in ("encoder", "features") else beams
                text = _config(model, create_session(bundle.file(file), "cpu", prepack=False), most)
                if model.endswith("_encoder"):
                    text += _parameters(bundle)
                version = draft / model / "1"
                version.mkdir(parents=True)
                (draft / model / "config.pbtxt").write_text(text, encoding="utf-8")
                shutil.copyfile(bundle.file(file), version / "model.onnx")
                for weights in _weights(bundle, bundle.file(file)):
                    _place(weights, version / weights.name, placed)
    except OSError as error:
        raise OutputError(f"{out}: cannot be written ({error.strerror or error})") from error
    return list(models)


def tensors(values: Sequence[NodeArg]) -> list[Tensor]:
    """Return a graph's inputs or outputs as Triton describes them.

    Raises:
        BundleError: one has no batch, or a type that Triton has no name for.
    """
    found = []
    for value in values:
        shape = list(value.shape)
        if value.type not in _TYPES or not shape or isinstance(shape[0], int):
            raise BundleError(f"{value.name}: {value.type} {shape} is no batch of numbers that Triton could serve")
        dims = tuple(size if isinstance(size, int) else -1 for size in shape[1:])
        found.append(Tensor(value.name, _TYPES[value.type], dims))
    return found


def _config(name: str, session: InferenceSession, most: int) -> str:
    lines = [f"name: {_quoted(name)}", 'backend: "onnxruntime"', f"max_batch_size: {most}"]
    for kind, values in (("input", session.get_inputs()), ("output", session.get_outputs())):
        entries = [
            f"  {{ name: {_quoted(t.name)}, data_type: {t.data_type}, dims: [ {', '.join(map(str, t.dims))} ] }}"
            for t in tensors(values)
        ]
        lines += [f"{kind} [", ",\n".join(entries), "]"]
    return "\n".join(lines) + "\n"


def _parameters(bundle: Bundle) -> str:
    manifest = bundle.manifest
    told = {
        "experts": ", ".join(expert.name for expert in manifest.experts),
        "frame_rate": "" if manifest.frame_rate is None else f"{manifest.frame_rate:g}",
        "language": manifest.language,
        "max_frames": str(manifest.max_frames),
        "max_new_tokens": str(manifest.generation.max_new_tokens),
        "normalisation": manifest.normalisation,
        "notice": manifest.notice or "",
        "num_beams": str(manifest.generation.num_beams),
        "pose_estimator": manifest.pose_estimator,
    }
    entries = [
        f"  {{ key: {_quoted(key)}, value: {{ string_value: {_quoted(value)} }} }}" for key, value in told.items()
    ]
    return "parameters [\n" + ",\n".join(entries) + "\n]\n"


def _quoted(text: str) -> str:
    # Protocol buffers' text has JSON's escapes for what a line cannot hold.
    return json.dumps(text, ensure_ascii=False)


def _weights(bundle: Bundle, graph: Path) -> list[Path]:
    """Return the files of a bundle that a graph keeps its weights in, beside itself."""
    import onnx

    model = onnx.load(graph, load_external_data=False)
    names = {
        entry.value for tensor in model.graph.initializer for entry in tensor.external_data if entry.key == "location"
    }
    return [bundle.file(name) for name in sorted(names)]


def _place(source: Path, target: Path, placed: dict[Path, Path]) -> None:
    """Copy a file, once; what both decoders share is one file with two names where the file system has that."""
    if source in placed:
        with contextlib.suppress(OSError):
            os.link(placed[source], target)
            return
    shutil.copyfile(source, target)
    placed[source] = target
