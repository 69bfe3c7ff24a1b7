"""Who made a bundle: a signature of its manifest, which has the hashes of all else, in minisign's format.

`minisign -Sm BUNDLE/signet.json` (https://jedisct1.github.io/minisign/) writes ``signet.json.minisig`` beside the
manifest. Here it is only checked, by Ed25519 of the package cryptography.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import NamedTuple

from signet_runtime.boundary import read_bounded, read_text, reading
from signet_runtime.bundle import MANIFEST_NAME
from signet_runtime.bundle_contents import SIGNATURE
from signet_runtime.errors import BundleError, ConfigError, EngineError
from signet_runtime.installation import how_to_install
from signet_runtime.printable import printable

_COMMENT = "trusted comment: "
_UNTRUSTED = "untrusted comment: "


class PublicKey(NamedTuple):
    """A minisign public key: 8 bytes that name it, and Ed25519's 32."""

    id: bytes
    key: bytes


def read_key(given: str) -> PublicKey:
    """Return a public key: the file that `minisign -G` wrote, or its second line itself.

    Raises:
        ConfigError: neither.
    """
    text = given
    if not given.startswith("RW"):
        text = read_text(given, "settings_bytes", ConfigError, "a public key of minisign's")
    with reading(given, ConfigError, "a public key of minisign's (RW…, or the file that has it)"):
        raw = base64.b64decode(text.split("\n")[1 if text.startswith(_UNTRUSTED) else 0].strip(), validate=True)
        if len(raw) != 42 or raw[:2] != b"Ed":
            raise ValueError("of another kind")
        return PublicKey(raw[2:10], raw[10:])


def check_signature(bundle: Path, key: PublicKey) -> str:
    """See that a bundle's manifest was signed with a key; return what its signer says of it.

    That the files are those of the manifest is `Bundle.load`'s to check, with ``verify``.

    Raises:
        BundleError: there is no signature, it is another key's, or the manifest was changed since.
        EngineError: cryptography is not installed.
    """
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ModuleNotFoundError as error:
        raise EngineError(f"cryptography is not installed; {how_to_install('signatures')}") from error
    path = bundle / SIGNATURE
    if not path.exists():
        raise BundleError(f"{bundle}: is not signed (it has no {SIGNATURE}); ask whoever made it")
    text = read_text(path, "settings_bytes", BundleError, "a signature of minisign's")
    with reading(path, BundleError, "a signature of minisign's"):
        untrusted, signed, comment, of_all = text.rstrip("\n").split("\n")
        if not untrusted.startswith(_UNTRUSTED) or not comment.startswith(_COMMENT):
            raise ValueError("it has no comments")
        raw, whole = (base64.b64decode(line.strip(), validate=True) for line in (signed, of_all))
        kind, key_id, signature = raw[:2], raw[2:10], raw[10:]
        if kind not in (b"Ed", b"ED") or len(signature) != 64 or len(whole) != 64:
            raise ValueError("of another kind")
    if key_id != key.id:
        raise BundleError(f"{path}: signed with another key ({key_id[::-1].hex()}, not {key.id[::-1].hex()})")
    content = read_bounded(bundle / MANIFEST_NAME, "settings_bytes", BundleError)
    said = comment.removeprefix(_COMMENT)
    try:
        public = Ed25519PublicKey.from_public_bytes(key.key)
        public.verify(signature, hashlib.blake2b(content).digest() if kind == b"ED" else content)
        public.verify(whole, signature + said.encode())
    except (InvalidSignature, ValueError) as error:
        raise BundleError(f"{bundle}: its manifest is not what was signed; do not use it") from error
    return printable(said)
