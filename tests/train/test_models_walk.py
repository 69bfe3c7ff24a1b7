"""The walk of docs/models.md on miniatures: a checkpoint on a hub, a name, a text; then the same without a network."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import huggingface_hub.constants
import pytest
import torch
from click.testing import CliRunner, Result
from hub_server import Hub, hub_server
from published_layout import published_state

import signet_export.cli
import signet_runtime.commands.models
import signet_runtime.commands.translate
from signet_runtime import Translator
from signet_runtime.errors import CheckpointError
from signet_runtime.models.catalogue import built_in
from signet_train.checkpoint import ExpertCard, demo_checkpoint_path, load_checkpoint, load_expert
from signet_train.cli import main
from signet_train.config import BackboneConfig
from signet_train.stages.plan import refuse_leak
from signet_train.tokenizer import train_tokenizer

CHECKPOINT = "best_of_all.pth"
VIDEO = Path(__file__).parents[2] / "examples" / "ase_music.mp4"


def saved(seed: int) -> bytes:
    file = io.BytesIO()
    torch.save({"model": published_state(seed=seed)}, file)
    return file.getvalue()


def catalogue(hub: Hub) -> str:
    """Of our own: one checkpoint under three names, and a tokenizer in the place of mT5-base's."""
    entry = """
[models.{name}]
kind = "{kind}"
format = "unisign"
summary = "random weights"
sign_language = "ase"
language = "en"
trained_on = ["youtube-asl"]
max_frames = 48
frame_rate = 12.5
pose_estimator = "mediapipe"
needs = ["mt5-base"]
repository = "weights"
licence = "{licence}"
files = [{{ path = "{path}" }}]
"""
    text = "".join(
        entry.format(name=name, kind=kind, licence=licence, path=CHECKPOINT)
        for name, kind, licence in (
            ("tiny", "translator", "mt5"),
            ("tiny-nc", "translator", "uni-sign"),
            ("tiny-expert", "expert", "mt5"),
        )
    )
    files = [f'{{ path = "{name}" }}' for name in hub.repositories["pub/tokenizer"].files]
    return f"""{text}
[models.mt5-base]
kind = "language-model"
format = "mt5"
summary = "a tokenizer"
repository = "tokenizer"
licence = "mt5"
files = [{", ".join(files)}]
[repositories.weights]
hub = "pub/weights"
[repositories.tokenizer]
hub = "pub/tokenizer"
"""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with a checkpoint in Uni-Sign's layout, and a machine that has nothing."""
    for name in ("HF_HUB_OFFLINE", "SIGNET_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SIGNET_MODELS", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
    tokenizer = tmp_path / "tokenizer"
    train_tokenizer(["Translate sign language video to English: abcdefgh"], 96).save_pretrained(tokenizer)
    with hub_server() as hub:
        hub.add("pub/weights", {CHECKPOINT: saved(0)})
        hub.add("pub/tokenizer", {path.name: path.read_bytes() for path in tokenizer.iterdir()})
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        (tmp_path / "own.toml").write_text(catalogue(hub))
        monkeypatch.setenv("SIGNET_CATALOGUE", str(tmp_path / "own.toml"))
        yield hub


def run(command: object, *arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(command, [str(a) for a in arguments])  # type: ignore[arg-type]
    assert result.exit_code == code, (arguments, result.output)
    return result


models, translate = signet_runtime.commands.models.main, signet_runtime.commands.translate.main


@pytest.mark.slow
def test_from_an_empty_cache_to_a_text_by_one_command_and_then_offline(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(translate, "--model", "tiny", VIDEO, "--format", "json", "--keypoints-out", tmp_path / "clip.npz")
    answer = json.loads(first.stdout)
    assert answer["routing"] == {"tiny": 1.0} and "nobody vouches for" in first.stderr
    poses = tmp_path / "clip.npz"
    home, cache = tmp_path / "home", tmp_path / "hf" / "hub"
    assert not list(cache.glob("models--pub--weights/blobs/*")) and not (home / "tiny" / "checkpoint").exists()

    hub.requests.clear()
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    again = run(translate, "--model", "tiny", poses, "--format", "json")
    offline = run(translate, "--model", "tiny", poses, "--format", "json", "--offline")
    assert [json.loads(r.stdout)["text"] for r in (again, offline)] == [answer["text"]] * 2
    assert hub.requests == []

    # To another machine: the directory, its name in SIGNET_MODELS, and nothing else.
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    shutil.copytree(home, tmp_path / "elsewhere")
    monkeypatch.setenv("SIGNET_MODELS", str(tmp_path / "elsewhere"))
    for name in ("SIGNET_CATALOGUE", "HF_ENDPOINT"):
        monkeypatch.delenv(name)
    shutil.rmtree(home), shutil.rmtree(tmp_path / "hf")
    with Translator.from_model("tiny", offline=True) as translator:
        assert translator.translate(poses).text == answer["text"]
        manifest = translator.bundle.manifest
    assert (manifest.frame_rate, manifest.max_frames, manifest.pose_estimator) == (12.5, 48, "mediapipe")
    assert "files are as they were made" in run(models, "verify").stdout


def test_an_expert_by_name(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = run(main, "import-expert", "tiny-nc", "--out", tmp_path / "no", code=5)
    assert "licence has to be accepted once (not for commercial use" in refused.stderr
    assert not [r for r in hub.requests if CHECKPOINT in r]
    run(main, "import-expert", "tiny-nc", "--accept-licence", "--out", tmp_path / "one")
    hub.requests.clear()
    run(main, "import-expert", "tiny-nc", "--offline", "--out", tmp_path / "two")  # accepted, and in the hub's cache
    run(main, "import-model", "tiny-nc", "--offline", "--out", tmp_path / "model")
    assert hub.requests == []
    card, weights = load_expert(tmp_path / "one")
    assert (card.name, card.seen, card.sign_languages) == ("tiny-nc", ("youtube-asl",), ("ase",))
    assert torch.equal(weights["part_offset"], published_state(seed=0)["part_para"])
    assert load_expert(tmp_path / "two")[0] == card
    imported = load_checkpoint(tmp_path / "model").config
    assert "not for commercial use" in str(imported.card.notice) and imported.data.max_frames == 48
    # What is another file under the same name is not imported.
    shutil.rmtree(os.environ["HF_HOME"])
    hub.repositories["pub/weights"].files[CHECKPOINT] = saved(1)
    changed = run(main, "import-expert", "tiny-nc", "--out", tmp_path / "three", code=4)
    assert "another file than it has to be" in changed.stderr and not (tmp_path / "three").exists()
    assert "did you mean tiny" in run(main, "import-expert", "tinny", "--out", tmp_path / "x", code=5).stderr
    assert "no checkpoint that can be imported" in run(main, "import-expert", "mt5-base", "--out", "x", code=2).stderr


@pytest.mark.slow
def test_experts_are_pulled_carried_and_checked(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stick = tmp_path / "stick"
    run(main, "import-expert", "tiny-nc", "--accept-licence", "--out", tmp_path / "nc")
    run(models, "pull", "tiny-nc", "--to", stick)  # its licence was accepted, elsewhere
    assert (stick / "tiny-nc" / "bundle" / "signet.json").is_file()
    path = run(models, "pull", "tiny-expert", "--to", stick, "--keep").stdout.strip()
    assert load_expert(Path(path))[0].seen == ("youtube-asl",)
    run(models, "verify", "--to", stick)
    shutil.rmtree(tmp_path / "hf", ignore_errors=True)
    monkeypatch.setenv("SIGNET_MODELS", str(stick))
    hub.requests.clear()
    run(main, "import-expert", "tiny-expert", "--offline", "--out", tmp_path / "expert")  # of the kept download
    assert hub.requests == []


def test_a_corpus_that_shares_videos_with_an_experts_is_a_leak(caplog: pytest.LogCaptureFixture) -> None:
    (overlap,) = built_in().overlaps
    first, second = overlap.corpora

    def card(*seen: str) -> list[ExpertCard]:
        return [
            ExpertCard(name="e", sign_languages=("ase",), corpus="c", seen=seen, source="s", backbone=BackboneConfig())
        ]

    for seen, corpus in ((first, second), (second, first)):
        with pytest.raises(CheckpointError, match=f"{overlap.share:.0%} of {second}'s {overlap.split} clips") as error:
            refuse_leak(card("wlasl", seen), {corpus}, allow=False)
        assert "\n" not in str(error.value) and "--allow-leak" in str(error.value)
        caplog.clear()
        refuse_leak(card("wlasl", seen), {corpus}, allow=True)
        (said,) = caplog.messages
        assert f"{overlap.share:.0%}" in said and "allowed" in said
    refuse_leak(card("csl-news", "wlasl"), {first, second}, allow=False)


def test_the_card_says_what_is_known_and_what_is_not(tmp_path: Path) -> None:
    import yaml

    from signet_export.card import write_card
    from signet_runtime import Bundle
    from signet_runtime.bundle import demo_bundle_path

    shutil.copytree(demo_bundle_path(), tmp_path / "bundle")
    bundle, experts = Bundle.load(tmp_path / "bundle"), load_checkpoint(demo_checkpoint_path()).experts
    text = write_card(bundle, experts, "CC-BY-4.0", "BLEU-4  12.34").read_text(encoding="utf-8")
    head = yaml.safe_load(text.split("---")[1])
    assert (head["license"], head["language"], head["library_name"]) == ("cc-by-4.0", ["multilingual"], "signet-slt")
    assert all(code in text for expert in experts for code in expert.sign_languages)
    assert "BLEU-4  12.34" in text and "Not stated" not in text
    assert all(f"## {part}" in text for part in ("Scores", "Licence", "Intended use and limits", "Languages and data"))
    bare = write_card(bundle, experts, None, None).read_text(encoding="utf-8")
    assert bare.count("Not stated") == 2 and "license" not in yaml.safe_load(bare.split("---")[1])
    Bundle.load(tmp_path / "bundle", verify=True)  # which the card, to be edited, is no part of
    refused = CliRunner().invoke(signet_export.cli.main, ["--out", str(tmp_path / "x"), "--licence", "mit"])
    assert refused.exit_code == 2 and "--card" in refused.stderr
