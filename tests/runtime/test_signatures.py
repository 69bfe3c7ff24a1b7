"""Signatures of bundles are minisign's: what that program signs is taken, and whatever else is refused."""

from __future__ import annotations

import base64
import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from signet_export.cli import main as export
from signet_runtime.bundle import Bundle
from signet_runtime.bundle_contents import SIGNATURE
from signet_runtime.errors import BundleError, ConfigError
from signet_runtime.signatures import check_signature, read_key

pytest.importorskip("cryptography")
needs_minisign = pytest.mark.skipif(shutil.which("minisign") is None, reason="minisign is not installed")

# Of the program's manual: its author's key.
KEY = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3"


def minisign(*arguments: object) -> None:
    subprocess.run(["minisign", *map(str, arguments)], check=True, capture_output=True)


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    public, secret = tmp_path / "key.pub", tmp_path / "key.sec"
    minisign("-G", "-W", "-p", public, "-s", secret)
    return public, secret


@needs_minisign
@pytest.mark.parametrize("legacy", [False, True])
def test_what_minisign_signs_is_taken(bundle_copy: Path, keys: tuple[Path, Path], legacy: bool) -> None:
    public, secret = keys
    comment = f"number {random.Random(os.urandom(8)).randrange(10**9)}"
    minisign("-S", *["-l"] * legacy, "-s", secret, "-m", bundle_copy / "signet.json", "-t", comment)
    assert check_signature(bundle_copy, read_key(str(public))) == comment
    assert check_signature(bundle_copy, read_key(public.read_text().splitlines()[1])) == comment
    Bundle.load(bundle_copy, verify=True)
    done = CliRunner().invoke(export, ["verify", str(bundle_copy), "--signed-by", str(public)])
    assert done.exit_code == 0 and f"signed, {comment}" in done.stdout
    with pytest.raises(BundleError, match="signed with another key"):
        check_signature(bundle_copy, read_key(KEY))


@needs_minisign
def test_whatever_was_changed_is_refused(bundle_copy: Path, keys: tuple[Path, Path]) -> None:
    public, secret = keys
    minisign("-S", "-s", secret, "-m", bundle_copy / "signet.json", "-t", "mine")
    rng, path, key = random.Random(os.urandom(8)), bundle_copy / SIGNATURE, read_key(str(public))
    whole, manifest = path.read_bytes(), (bundle_copy / "signet.json").read_bytes()
    second, fourth = (len(b"\n".join(whole.split(b"\n")[:n])) for n in (1, 3))
    for _ in range(60):
        changed = bytearray(whole)
        at = rng.randrange(second + 1, len(changed) - 1)  # the first line is nobody's word
        changed[at] ^= 1 << rng.randrange(7)
        if _same(bytes(changed), whole):
            continue
        path.write_bytes(changed)
        with pytest.raises(BundleError):
            check_signature(bundle_copy, key)
    path.write_bytes(whole)
    for cut in rng.sample(range(len(whole) - 2), 20):
        path.write_bytes(whole[:cut])
        with pytest.raises(BundleError):
            check_signature(bundle_copy, key)
    path.write_bytes(whole)
    (bundle_copy / "signet.json").write_bytes(manifest.replace(b"tiny", b"tinY"))
    with pytest.raises(BundleError, match="not what was signed"):
        check_signature(bundle_copy, key)
    path.unlink()
    with pytest.raises(BundleError, match="is not signed"):
        check_signature(bundle_copy, key)
    assert second < fourth


def _same(changed: bytes, whole: bytes) -> bool:
    """Whether the same signature is only spelled otherwise: base64's last bits say nothing."""
    try:
        return [base64.b64decode(line) for line in changed.split(b"\n")[1::2]] == [
            base64.b64decode(line) for line in whole.split(b"\n")[1::2]
        ] and changed.split(b"\n")[2] == whole.split(b"\n")[2]
    except ValueError:
        return False


@pytest.mark.parametrize("wrong", ["RW", "RWQ", KEY[:-4], f"{KEY}AAAA", "/nowhere/key.pub", "RW\x00", "n" * 300])
def test_what_is_no_key(wrong: str) -> None:
    with pytest.raises(ConfigError):
        read_key(wrong)


def test_a_key_is_read() -> None:
    assert len(read_key(KEY).key) == 32
