"""BLEURT-20's PyTorch form: the published layout is read, and scores what its network does on each pair."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer
from transformers import RemBertConfig, RemBertForSequenceClassification

from signet_runtime.errors import InputError
from signet_train.evaluation.bleurt import bleurt

# BLEURT: a small network with random weights, stored the way the published PyTorch form of BLEURT-20 is.

REFERENCES = ["a bird chirps by the window", "this is a random sentence", "it rains " * 40, "morgen schneit es"]
HYPOTHESES = ["a bird chirps by the window", "this looks like a random sentence", "it rains", "it snows " * 60]


@pytest.fixture(scope="module")
def network() -> RemBertForSequenceClassification:
    torch.manual_seed(0)
    config = RemBertConfig(
        vocab_size=80,
        input_embedding_size=12,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=40,
        max_position_embeddings=48,
        num_labels=1,
        initializer_range=0.5,
        layer_norm_eps=1e-12,
        pad_token_id=0,
    )
    return RemBertForSequenceClassification(config).eval()


@pytest.fixture(scope="module")
def checkpoint(network: RemBertForSequenceClassification, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bleurt")
    SentencePieceTrainer.train(
        sentence_iterator=iter([*REFERENCES, *HYPOTHESES] * 5),
        model_prefix=str(root / "spm"),
        vocab_size=70,
        user_defined_symbols=["[CLS]", "[SEP]", "[MASK]"],
        pad_id=0,
        unk_id=1,
        bos_id=-1,
        eos_id=-1,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    sizes = network.config
    config = {
        "architectures": ["BleurtForSequenceClassification"],
        "model_type": "bleurt",
        "embedding_size": sizes.input_embedding_size,
        **{name: getattr(sizes, name) for name in ("vocab_size", "hidden_size", "num_hidden_layers", "layer_norm_eps")},
        **{name: getattr(sizes, name) for name in ("num_attention_heads", "intermediate_size", "hidden_act")},
        **{name: getattr(sizes, name) for name in ("max_position_embeddings", "type_vocab_size", "pad_token_id")},
    }
    (root / "config.json").write_text(json.dumps(config))
    torch.save(published(network), root / "pytorch_model.bin")
    return root


def published(network: RemBertForSequenceClassification) -> dict[str, torch.Tensor]:
    """The weights under the names that the published checkpoints give them."""
    weights = {"bleurt.embeddings.position_ids": torch.arange(48)[None]}
    for name, tensor in network.state_dict().items():
        if name.startswith("rembert."):
            name = "bleurt." + name[len("rembert.") :]
        weights[name.replace("embedding_hidden_mapping_in", "embedding_projection")] = tensor
    return weights


def direct(network: RemBertForSequenceClassification, pieces: SentencePieceProcessor) -> list[float]:
    """Pair by pair, without a batch and without padding, cut as BLEURT cuts: the longer loses its last token."""
    scores = []
    for reference, hypothesis in zip(REFERENCES, HYPOTHESES, strict=True):
        a, b = pieces.encode(reference), pieces.encode(hypothesis)
        while len(a) + len(b) > 45:
            a, b = (a[:-1], b) if len(a) > len(b) else (a, b[:-1])
        ids = [pieces.piece_to_id("[CLS]"), *a, pieces.piece_to_id("[SEP]"), *b, pieces.piece_to_id("[SEP]")]
        types = [0] * (len(a) + 2) + [1] * (len(b) + 1)
        with torch.no_grad():
            scores.append(float(network(torch.tensor([ids]), token_type_ids=torch.tensor([types])).logits))
    return scores


@pytest.mark.parametrize("batch_size", [1, 3])
def test_bleurt_is_the_network_on_each_pair(
    network: RemBertForSequenceClassification, checkpoint: Path, batch_size: int
) -> None:
    expected = direct(network, SentencePieceProcessor(model_file=str(checkpoint / "spm.model")))
    assert bleurt(REFERENCES, HYPOTHESES, checkpoint, batch_size=batch_size) == pytest.approx(expected, abs=1e-5)
    assert max(expected) - min(expected) > 0.1


def test_bleurt_reads_safetensors_too(
    network: RemBertForSequenceClassification, checkpoint: Path, tmp_path: Path
) -> None:
    from safetensors.torch import save_file

    for name in ("config.json", "spm.model"):
        (tmp_path / name).write_bytes((checkpoint / name).read_bytes())
    save_file(
        {name: tensor.contiguous() for name, tensor in published(network).items()}, tmp_path / "model.safetensors"
    )
    expected = bleurt(REFERENCES, HYPOTHESES, checkpoint)
    assert bleurt(REFERENCES, HYPOTHESES, tmp_path) == pytest.approx(expected, abs=1e-6)


class Malicious:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("executed"),))


def test_a_directory_that_is_no_bleurt_is_one_line(
    network: RemBertForSequenceClassification, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def refused(match: str) -> None:
        with pytest.raises(InputError, match=match) as caught:
            bleurt(["a"], ["b"], tmp_path)
        assert "\n" not in str(caught.value)
        assert str(tmp_path) in str(caught.value)

    refused("not BLEURT-20")  # nothing there
    (tmp_path / "config.json").write_text("[")
    refused("not BLEURT-20")
    stored = json.loads((checkpoint / "config.json").read_text())
    for change in ({"model_type": "bert"}, {"embedding_size": None}):  # an older BLEURT is a BERT
        (tmp_path / "config.json").write_text(json.dumps(stored | change))
        refused("not BLEURT-20")
    (tmp_path / "config.json").write_text(json.dumps(stored))
    refused("pytorch_model.bin")
    weights = published(network)
    del weights["classifier.weight"]
    torch.save(weights, tmp_path / "pytorch_model.bin")
    refused("damaged, or not BLEURT")
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    refused("damaged, or not BLEURT")
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps({"classifier.weight": Malicious()}, protocol=2))
    refused("more than weights")
    assert not (tmp_path / "executed").exists()
    torch.save(published(network), tmp_path / "pytorch_model.bin")
    refused("spm.model: not a SentencePiece model")
    SentencePieceTrainer.train(
        sentence_iterator=iter(REFERENCES * 5),
        model_prefix=str(tmp_path / "spm"),
        vocab_size=40,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    refused("not the vocabulary")  # it has no [CLS]
