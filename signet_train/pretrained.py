"""Published models that a configuration names: a directory, the Hugging Face hub's cache, or the hub."""

from __future__ import annotations

import os
from fnmatch import fnmatch
from pathlib import Path

from signet_runtime.errors import CheckpointError, first_line

_PATIENCE = 10  # seconds that the hub may take to say whether it has a model
_TOKENIZER = ("spiece.model", "tokenizer_config.json", "special_tokens_map.json")


def find_pretrained(source: str | Path) -> str | Path:
    """Return where transformers finds a model: its directory, the hub's cache, or its name where the hub answers.

    Once asked, transformers would try again for minutes, file by file. ``SIGNET_OFFLINE=1`` asks nobody.

    Raises:
        CheckpointError: no such directory, it is not in the cache, and the hub has none or must not be asked.
    """
    if Path(source).is_dir():
        return source
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = try_to_load_from_cache(str(source), "config.json")
        if isinstance(cached, str):
            return Path(cached).parent
        if os.environ.get("SIGNET_OFFLINE", "0").lower() not in ("", "0", "false", "no"):
            raise CheckpointError(
                f"{source}: no such directory, not in the Hugging Face cache, and SIGNET_OFFLINE forbids to ask: "
                "give its directory, or fetch it where there is a network"
            )
        HfApi().model_info(str(source), timeout=_PATIENCE)
    except HFValidationError:
        raise CheckpointError(f"{source}: no such directory, and no name of the Hugging Face hub") from None
    except (OSError, ValueError) as error:  # whatever a network brings, requests' errors are OSErrors
        reason = type(error).__name__ if "object at 0x" in str(error) else first_line(error)
        raise CheckpointError(
            f"{source}: no such directory, and the Hugging Face hub cannot be asked for it ({reason}): give its "
            "directory, or fetch it where there is a network"
        ) from error
    return source


def fetch_pretrained(source: str | Path, tokenizer_only: bool = False) -> Path:
    """Return the directory of an mT5, as data: `find_pretrained`, and from the hub what is missing there.

    Raises:
        CheckpointError: as `find_pretrained`; or it cannot be downloaded.
    """
    found = Path(find_pretrained(source))
    if Path(source).is_dir() or _is_whole(found, tokenizer_only):
        return found
    from huggingface_hub import HfApi, snapshot_download

    try:
        wanted = list(_TOKENIZER)
        if not tokenizer_only:
            there = HfApi().list_repo_files(str(source))
            safe = any(fnmatch(name, "model*.safetensors") for name in there)
            wanted += ["config.json", "model*.safetensors" if safe else "pytorch_model*.bin"]
        return Path(snapshot_download(str(source), allow_patterns=wanted))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{source}: no mT5 there, or it cannot be downloaded: {first_line(error)}") from error


def _is_whole(directory: Path, tokenizer_only: bool) -> bool:
    """Whether what the hub's cache has of a model is enough."""
    patterns = ("model*.safetensors", "pytorch_model*.bin")
    weights = tokenizer_only or any(any(directory.glob(pattern)) for pattern in patterns)
    return directory.is_dir() and weights and (directory / "spiece.model").is_file()
