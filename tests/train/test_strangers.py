"""Checkpoints, runs, caches and published weights from strangers: whatever stands in them, the answer is one line."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file
from tiny_runs import FUSION, MODEL, config, words

from signet_runtime.errors import CheckpointError, InputError, SignetError
from signet_train.checkpoint import (
    Checkpoint,
    ExpertCard,
    load_checkpoint,
    load_expert,
    load_mt5,
    load_training_state,
    save_checkpoint,
)
from signet_train.cli import main
from signet_train.data.batches.cache import read_description
from signet_train.interop.unisign import read_unisign
from signet_train.model.signet import Signet
from signet_train.report.page import write_page
from signet_train.stages.caching import cache_features
from signet_train.stages.progress import _cut_log
from signet_train.stages.run import run_stage
from signet_train.tokenizer import train_tokenizer


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "whole"
    settings = config("finetune", Path("m.jsonl"), model={**MODEL, "fusion": FUSION})
    card = ExpertCard(name="a", sign_languages=("ase",), corpus="x", source="y", backbone=settings.model.backbone)
    model = Signet(settings.model, 2)
    state = {
        "step": 3,
        "processes": 1,
        "best": float("inf"),
        "optimizer": torch.optim.AdamW([torch.zeros(2)]).state_dict(),
    }
    save_checkpoint(path, Checkpoint(model, [card, card], train_tokenizer(["abc"], 64), settings), state)
    assert load_checkpoint(path).model.state_dict().keys() == model.state_dict().keys()
    assert load_training_state(path)["step"] == 3
    return path


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "copy"))


def changed(path: Path, *keys: str | int, to: Any) -> None:
    content = inner = json.loads(path.read_text())
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = to
    path.write_text(json.dumps(content))


def refused(read: Callable[[], object], error: type[SignetError] = CheckpointError) -> str:
    with pytest.raises(error) as said:
        read()
    assert str(said.value).isprintable() and len(str(said.value)) < 1000, said.value
    return str(said.value)


HUGE = {"vocab_size": 4_000_000, "d_model": 16_384, "d_ff": 65_536, "num_layers": 256}


@pytest.mark.parametrize(
    ("file", "keys", "value", "says"),
    [
        ("config.json", ("model", "language_model", "vocab_size"), 4_000_000, "its vocab_size is 64, and model.lang"),
        ("config.json", ("model", "language_model", "vocab_size"), 10**12, "vocab_size is 1000000000000: has to be"),
        ("config.json", ("model", "backbone", "spatial_channels"), [16_384] * 9, "another backbone"),
        ("config.json", ("model", "fusion"), None, "2 experts, and no fusion"),
        ("config.json", ("model", "fusion", "top_k"), 3, "top_k is 3, of 2 experts"),
        ("config.json", ("model", "fusion", "query_hidden"), 16_384, "aggregation.query.0"),
        ("config.json", ("card", "num_beams"), -1, "card.num_beams is -1: has to be"),
        ("experts/0/config.json", ("backbone", "embedding"), 10**9, "backbone.embedding is 1000000000"),
        ("experts/1/config.json", ("frame_rate",), 0, "frame_rate is 0"),
        ("experts/1/config.json", ("name",), "\x1b[2J", r'name is "\x1b[2J"'),
        ("language_model/config.json", ("vocab_size",), 4_000_000, "weight has the shape (64, 16)"),
        ("language_model/config.json", ("num_layers",), 10**9, "num_layers is 1000000000: has to be"),
        ("language_model/config.json", ("d_model",), 1.5, "d_model is 1.5: has to be"),
        ("language_model/config.json", ("model_type",), "llama", "a llama model, where an mT5 is needed"),
        ("language_model/config.json", ("model_type",), ["mt5"], "model, where an mT5 is needed"),
        ("language_model/config.json", ("feed_forward_proj",), "gated-__import__", "feed_forward_proj"),
        ("language_model/config.json", ("pad_token_id",), 64, "pad_token_id is 64, of a vocabulary of 64"),
        ("language_model/config.json", ("auto_map",), {"AutoConfig": "evil.Evil"}, "names code of its own"),
        ("language_model/tokenizer_config.json", ("extra_ids",), 10**9, "extra_ids is 1000000000"),
        ("language_model/tokenizer_config.json", ("extra_ids",), 100, "its tokenizer has 1"),
    ],
)
def test_numbers_of_a_checkpoint_are_held_against_what_is_stored(
    copy: Path, file: str, keys: tuple[str | int, ...], value: Any, says: str
) -> None:
    changed(copy / file, *keys, to=value)
    assert says in refused(lambda: load_checkpoint(copy))


def test_a_language_model_of_huge_numbers_allocates_nothing(copy: Path) -> None:
    for name, value in HUGE.items():
        changed(copy / "language_model" / "config.json", name, to=value)
    assert "states 256 layers of the encoder, and 1 are stored" in refused(lambda: load_mt5(copy / "language_model"))
    changed(copy / "language_model" / "config.json", "num_layers", to=1)
    assert "has the shape" in refused(lambda: load_mt5(copy / "language_model"))


@pytest.mark.parametrize(
    "file", ["experts/0/model.safetensors", "fusion.safetensors", "language_model/model.safetensors"]
)
def test_weights_that_lie_are_one_line(copy: Path, file: str) -> None:
    content = (copy / file).read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    name = next(name for name in header if name != "__metadata__")
    for change in (
        {**header, name: {**header[name], "shape": [10**12]}},
        {**header, name: {**header[name], "data_offsets": [0, 10**12]}},
        {**header, "more": header[name]},
        {other: entry for other, entry in header.items() if other != name},
        {**header, name: {**header[name], "dtype": "F99"}},
        [],
    ):
        written = json.dumps(change).encode()
        (copy / file).write_bytes(len(written).to_bytes(8, "little") + written + content[8 + length :])
        assert file.rpartition("/")[2] in refused(lambda: load_checkpoint(copy))
    (copy / file).write_bytes((2**63).to_bytes(8, "little") + content[8:])
    refused(lambda: load_checkpoint(copy))
    (copy / file).unlink()
    refused(lambda: load_checkpoint(copy))


@pytest.mark.parametrize("content", [b"", b"no pieces", b"\x0a\xff\xff\xff\xff\x0f", bytes(2000)])
def test_pieces_that_are_none(copy: Path, content: bytes) -> None:
    path = copy / "language_model" / "spiece.model"
    path.write_bytes(content)
    refused(lambda: load_checkpoint(copy))
    path.write_bytes(train_tokenizer(["abc"], 64).sp_model.serialized_model_proto()[:-40])
    refused(lambda: load_checkpoint(copy))


def test_files_of_a_checkpoint_that_are_none(copy: Path) -> None:
    for content in (
        b"",
        b"[]",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"stage": "pretrain"}',
        b"9" * 5000,
        b'"\\ud800"',
        b"null",
    ):
        (copy / "config.json").write_bytes(content)
        refused(lambda: load_checkpoint(copy))
        (copy / "experts" / "1" / "config.json").write_bytes(content)
        refused(lambda: load_checkpoint(copy))
    (copy / "experts" / "x").mkdir()
    assert "whose experts lie in experts/0" in refused(lambda: load_checkpoint(copy))
    shutil.rmtree(copy / "experts" / "1")
    (copy / "experts" / "0" / "config.json").write_bytes(b"{")
    refused(lambda: load_expert(copy))


def saved(content: object, **more: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **more)
    return file.getvalue()


def bomb(content: bytes) -> bytes:
    """The same archive, compressed, with a gigabyte of zeros in it."""
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, bytes(50_000_000) if name.endswith("/0") else old.read(name))
    return packed.getvalue()


STRANGE = {
    "expanded": saved({"model": {"pose_proj.weight": torch.zeros(1).expand(10**12)}}),
    "sparse": saved(
        {"model": {"a": torch.sparse_coo_tensor(torch.zeros(1, 1, dtype=torch.int64), torch.ones(1), (10**12,))}}
    ),
    "complex": saved({"model": {"a": torch.zeros(2, dtype=torch.complex64)}}),
    "numbered": saved({"model": {3: torch.zeros(2)}}),
    "named for a terminal": saved({"model": {"\x1b[2J": torch.zeros(2)}}),
    "a list": saved([torch.zeros(2)]),
    "packed": bomb(saved({"model": {"a": torch.zeros(12_500_000)}})),
    "a class": saved({"model": {"a": torch.nn.Linear(1, 1)}}),
    "not whole": saved({"model": {"a": torch.zeros(300)}})[:900],
    "nothing": b"",
    "old, of another program": saved({"a": torch.zeros(300)}, _use_new_zipfile_serialization=False).replace(
        b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19", b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x18"
    ),
    "old and cut": saved({"model": {"a": torch.zeros(300)}}, _use_new_zipfile_serialization=False)[:500],
}


@pytest.mark.parametrize("kind", STRANGE)
def test_published_weights_and_states_that_are_none(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    path.write_bytes(STRANGE[kind])
    assert str(path) in refused(lambda: read_unisign(path))
    (tmp_path / "training_state.pt").write_bytes(STRANGE[kind])
    refused(lambda: load_training_state(tmp_path))


@pytest.mark.parametrize(
    "change",
    [{"step": -1}, {"step": "3"}, {"processes": 0}, {"best": "low"}, {"optimizer": None}, {"seconds": float("nan")}],
)
def test_a_state_of_strange_numbers_is_refused(copy: Path, change: dict[str, Any]) -> None:
    torch.save({**load_training_state(copy), **change}, copy / "training_state.pt")
    assert "training_state.pt: " in refused(lambda: load_training_state(copy))


def test_a_run_with_another_optimisers_state_does_not_go_on(tmp_path: Path) -> None:
    settings = config(
        "pretrain", words(tmp_path / "w.jsonl", train=8, sign_languages=("ase",)), optimisation={"epochs": 1}
    )
    run_stage(settings, tmp_path / "run", "cpu")
    file = tmp_path / "run" / "last" / "training_state.pt"
    state = torch.load(file, weights_only=True)
    state["optimizer"]["state"][0]["exp_avg"] = torch.zeros(3, 3)
    torch.save(state, file)
    assert "the state of this run" in refused(lambda: run_stage(settings, tmp_path / "run", "cpu", resume=True))
    del state["optimizer"]["param_groups"][0]["params"][0]
    torch.save(state, file)
    assert "the state of this run" in refused(lambda: run_stage(settings, tmp_path / "run", "cpu", resume=True))


@pytest.mark.parametrize(
    "line", ["{}", "[1]}", '{"step": "x"}', '{"step": {"a": 1}}', "[" * 9999 + "}", '{"step": 1e999}']
)
def test_a_damaged_log_names_its_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(f'{{"step": 1}}\n{line}\n{{"step": 9, "lo', encoding="utf-8")
    if line == '{"step": 1e999}':  # later than any
        _cut_log(path, 2, None)
        assert path.read_text() == '{"step": 1}\n'
        return
    assert f"{path}: line 2: not of a run's log" in refused(lambda: _cut_log(path, 2, None))
    assert line in path.read_text()


def test_a_damaged_run_has_no_report(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"step": 1, "loss": 2}\n')
    for content in ("[]", "{}", '{"config": 3}', '"x"', '{"config": {"stage": []}, "steps": "many"}'):
        (tmp_path / "run.json").write_text(content)
        refused(lambda: write_page(tmp_path), InputError)
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"views": 0, "half": true, "made_of": {}}',
        '{"views": 2, "half": true, "made_of": []}',
        "[" * 9999,
        '{"views": 1e999, "half": true, "made_of": {}}',
        '{"views": "2", "half": true, "made_of": {}}',
    ],
)
def test_a_damaged_index_of_features_is_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "cache.json").write_text(content)
    assert "delete the cache and make it anew" in refused(lambda: read_description(tmp_path / "cache.json"))


def test_features_of_another_shape_are_refused(experts: list[Path], manifest: Path, tmp_path: Path) -> None:
    settings = config("finetune", manifest, experts=experts, start_from=experts[0], data={"cache": tmp_path / "cache"})
    cache_features(settings, views=1, half=False, device="cpu")
    for shard in (tmp_path / "cache").rglob("*.safetensors"):
        save_file({name: tensor[..., :3].contiguous() for name, tensor in load_file(shard).items()}, shard)
    said = refused(lambda: run_stage(settings, tmp_path / "run", "cpu"))
    assert "delete the cache and make it anew" in said


@pytest.mark.parametrize(
    ("command", "code", "says"),
    [
        (["fingerspelling", "--out", "x.jsonl", "--words", "-5"], 2, "-5 is not in the range"),
        (["fingerspelling", "--out", "x.jsonl", "--max-letters", "0"], 2, "0 is not in the range"),
        (["fingerspelling", "--out", "x.jsonl", "--seed", "-1"], 2, "-1 is not in the range"),
        (["draw", "", "--sign-language", "ase", "--out", "x.mp4"], 2, "WORD is empty"),
        (["draw", "a", "--sign-language", "ase", "--out", "x.txt"], 2, "ends in one of .mp4"),
        (["draw", "a", "--sign-language", "ase", "--out", "none/x.mp4"], 3, "there is no directory"),
        (["draw", "a", "--sign-language", "ase", "--out", "a" * 300 + ".mp4"], 3, "File name too long"),
        (["redraw", "--out", "/dev/null/x"], 3, "cannot be written"),
        (["cache", "c.toml", "--views", "0"], 2, "0 is not in the range"),
    ],
)
def test_options_are_held_to_their_ranges(
    command: list[str], code: int, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("c.toml").write_text("")
    done = CliRunner().invoke(main, command)
    assert (done.exit_code, says in done.stderr) == (code, True), done.output
    assert "Traceback" not in done.output and [path.name for path in tmp_path.iterdir()] == ["c.toml"]
