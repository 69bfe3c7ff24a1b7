"""Where a pretrained mT5 is looked for: in no network that is forbidden, and not for minutes in one that is away."""

from __future__ import annotations

import logging
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from signet_runtime.errors import CheckpointError
from signet_train.checkpoint import load_mt5, load_tokenizer
from signet_train.pretrained import find_pretrained


@pytest.fixture
def no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.file_download.HF_HUB_CACHE", str(tmp_path / "cache"), raising=False)


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Addresses that somebody tried to reach; nobody gets through."""
    tried: list[Any] = []

    def refuse(_self: socket.socket, address: Any) -> None:
        tried.append(address)
        raise OSError("Network is unreachable")

    def unknown(host: str, *_: Any, **__: Any) -> None:
        tried.append(host)
        raise socket.gaierror("Name or service not known")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    return tried


@pytest.mark.usefixtures("no_cache")
@pytest.mark.parametrize("load", [find_pretrained, load_mt5, load_tokenizer])
def test_nobody_is_asked_where_that_is_forbidden(
    load: Any, connections: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGNET_OFFLINE", "1")
    with pytest.raises(
        CheckpointError, match=r"google/mt5-base: no such directory, not in the .* SIGNET_OFFLINE forbids"
    ):
        load("google/mt5-base")
    assert connections == []


@pytest.mark.usefixtures("no_cache")
def test_a_network_that_is_away_is_one_line_at_once(
    connections: list[Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.delenv("SIGNET_OFFLINE", raising=False)
    began = time.monotonic()
    with caplog.at_level(logging.WARNING), pytest.raises(CheckpointError) as said:
        load_tokenizer("google/mt5-base")
    assert time.monotonic() - began < 5 and connections
    assert "cannot be asked for it" in str(said.value) and "\n" not in str(said.value)
    assert "MaxRetryError" not in caplog.text
    with pytest.raises(CheckpointError, match="no such directory, and no name of the Hugging Face hub"):
        load_tokenizer(tmp_path / "none" / "here")


def test_a_directory_without_a_tokenizer_says_so(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "mt5"}')
    with pytest.raises(CheckpointError, match=r"no mT5 tokenizer there \(no spiece\.model in it\)"):
        load_tokenizer(tmp_path)
