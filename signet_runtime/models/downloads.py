"""Bytes from elsewhere: a hub's by huggingface_hub, a web server's by the standard library. Every failure is one line.

What comes is not trusted here: the hub's client takes wrong bytes of the right size, a web server says what it likes:
`signet_runtime.models.fetch` compares hashes.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import logging
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from signet_runtime.errors import EngineError, ModelError, OutputError, SignetError, first_line, one_line
from signet_runtime.files import reporting
from signet_runtime.installation import how_to_install
from signet_runtime.progress import Bar

STALLED = 30.0  # seconds without a byte until a web server counts as stalled
_ATTEMPTS = 3  # at a file whose server cuts off, as long as each of them gets further
_PIECE = 1 << 20  # bytes

_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.ENOTDIR, errno.EIO}


class HubState(NamedTuple):
    """What a hub says of a repository: the commit of a revision, and the licence of its card, SPDX's id or None."""

    commit: str
    licence: str | None


def is_offline(offline: bool, *, hub: bool = False) -> bool:
    """Return whether no network may be touched: asked for, or by ``SIGNET_OFFLINE``; a hub by ``HF_HUB_OFFLINE``."""
    # The hub's client takes its cousin's variable for its own.
    variables = ("SIGNET_OFFLINE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE") if hub else ("SIGNET_OFFLINE",)
    return offline or any(os.environ.get(name, "").lower() in ("1", "true", "yes", "on") for name in variables)


def find_in_cache(hub: str, commit: str, path: str, cache: Path | None = None) -> Path | None:
    """Return a file that the hub's cache has of a commit, None where it has not; no network is touched.

    Args:
        cache: None is huggingface_hub's own, which other programs share.
    """
    found = _library().try_to_load_from_cache(hub, path, cache_dir=cache, revision=commit)
    return Path(found) if isinstance(found, str) else None


def hub_state(hub: str, revision: str) -> HubState:
    """Ask a hub which commit a branch, tag or commit is, and for the licence on the repository's card.

    Raises:
        ModelError: there is no such repository or revision, it is not open to this user, or the hub does not answer.
        EngineError: huggingface_hub is not installed.
    """
    library = _library()
    with _one_line(f"hf:{hub}", "its description"):
        info = library.HfApi(endpoint=_endpoint()).model_info(hub, revision=revision, timeout=STALLED)
        commit, card = str(info.sha or ""), getattr(info, "card_data", None)
    if len(commit) != 40:
        raise ModelError(f"hf:{hub}: the hub names no commit of {revision}: what answers at {_endpoint()} is no hub")
    licence = card.get("license") if card else None
    return HubState(commit, licence.lower() if isinstance(licence, str) and licence != "other" else None)


def download_from_hub(hub: str, commit: str, path: str, cache: Path | None = None, *, quiet: bool = False) -> Path:
    """Fetch a file into the hub's cache, going on where an earlier download of it stopped; return where it is.

    Raises:
        ModelError: as `hub_state`, or there is no such file; or it is cut off, or no file.
        OutputError: it cannot be written.
        EngineError: huggingface_hub is not installed.
    """
    library = _library()
    with _one_line(f"hf:{hub}", path), _library_silent(library, progress=not quiet and sys.stderr.isatty()):
        return Path(library.hf_hub_download(hub, path, revision=commit, cache_dir=cache, endpoint=_endpoint()))


def discard_from_cache(path: Path) -> None:
    """Take a file out of the hub's cache: its name first, and then its content where no other name has it."""
    snapshots = next(parent for parent in path.parents if parent.name == "snapshots")
    content = path.resolve()
    with contextlib.suppress(OSError):
        path.unlink()
        if content.parent.name == "blobs" and not any(link.resolve() == content for link in snapshots.rglob("*")):
            content.unlink()


def hub_says_it_is(path: Path, sha256: str) -> bool:
    """Return whether the hub itself, in the name of a cached file's content, has this hash of it."""
    return path.resolve().name == sha256


def download(url: str, part: Path, *, resume: bool, quiet: bool = False) -> None:
    """Fetch a file from a web server to ``part``.

    Args:
        resume: go on where an earlier download to ``part`` stopped; only where the hash of the whole is known.

    Raises:
        ModelError: the server cannot be reached, does not have it, stalls, cuts off, redirects in a circle, or answers
            with a web page.
        OutputError: it cannot be written.
    """
    with reporting(part, "cannot be written ({}); free space or choose another place"):
        part.parent.mkdir(parents=True, exist_ok=True)
        if not resume:
            part.unlink(missing_ok=True)
    for attempt in range(_ATTEMPTS):
        before = part.stat().st_size if part.exists() else 0
        try:
            _download_once(url, part, before, quiet)
            return
        except _CutOffError as error:
            got = part.stat().st_size
            if attempt == _ATTEMPTS - 1 or got <= before:
                again = "; what came is kept, and the next try goes on from there" if resume and got else ""
                raise ModelError(f"{url}: {error}{again}") from error


class _CutOffError(Exception):
    pass


def _download_once(url: str, part: Path, before: int, quiet: bool) -> None:
    headers = {"User-Agent": "signet-slt", "Accept-Encoding": "identity"}
    if before:
        headers["Range"] = f"bytes={before}-"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=STALLED) as response:
            if response.headers.get_content_type() == "text/html":
                raise ModelError(f"{url}: a web page comes from there (HTML), and no file: a login, or a proxy's?")
            went_on = response.status == http.client.PARTIAL_CONTENT
            length = response.headers.get("Content-Length")
            total = int(length) + before * went_on if length and length.isdecimal() else None
            _copy(response, part, before if went_on else 0, total, quiet)
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and before:
            part.unlink(missing_ok=True)  # it has more than there is: another file's
            _download_once(url, part, 0, quiet)
            return
        circle = "it redirects in a circle" if "infinite loop" in str(error) else f"HTTP {error.code} {error.reason}"
        raise ModelError(f"{url}: {one_line(Exception(circle))}; check the address") from error
    except (urllib.error.URLError, ValueError) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, TimeoutError):
            raise ModelError(f"{url}: no answer in {STALLED:g} seconds; try again later") from error
        raise ModelError(
            f"{url}: cannot be reached ({one_line(Exception(str(reason)))}); is there a network?"
        ) from error
    except TimeoutError as error:
        raise _CutOffError(f"nothing came for {STALLED:g} seconds") from error
    except (http.client.HTTPException, ConnectionError) as error:
        raise _CutOffError(f"the server cut off ({one_line(error)})") from error


def _copy(response: Any, part: Path, start: int, total: int | None, quiet: bool) -> None:
    with Bar(part.name, quiet) as bar:
        try:
            file = part.open("r+b" if start else "wb")
        except OSError as error:
            raise OutputError(f"{part}: cannot be written ({error.strerror}); choose another place") from error
        with file:
            file.seek(start)
            got = start
            while piece := response.read1(_PIECE):  # what has come, so that a server that stalls costs none of it
                with reporting(part, "cannot be written ({}); free space, and try again: it goes on from here"):
                    file.write(piece)
                    file.flush()
                got += len(piece)
                bar.update(got, total)
    if total is not None and got < total:
        raise _CutOffError(f"the server cut off after {got} of {total} bytes")


def _endpoint() -> str:
    # Read anew: huggingface_hub reads it once, when it is imported.
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def _library() -> Any:
    """Return huggingface_hub.

    Raises:
        EngineError: it is not installed.
    """
    # Plain HTTP goes on where it stopped, in another process too, and mirrors have it.
    os.environ.setdefault("HF_HUB_DISABLE_XET", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        import huggingface_hub
        import huggingface_hub.errors
        import huggingface_hub.utils
    except ModuleNotFoundError as error:
        raise EngineError(f"{error.name} is not installed; {how_to_install('hub')}") from error
    return huggingface_hub


@contextlib.contextmanager
def _library_silent(library: Any, *, progress: bool) -> Iterator[None]:
    """Keep its warnings, which our own errors repeat, and its bars where no terminal is."""
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    bars = not library.utils.are_progress_bars_disabled()
    if not progress:
        library.utils.disable_progress_bars()
    try:
        yield
    finally:
        logger.setLevel(level)
        if bars and not progress:
            library.utils.enable_progress_bars()


@contextlib.contextmanager
def _one_line(where: str, what: str) -> Iterator[None]:
    """Turn whatever the hub's client raises into one line.

    Raises:
        ModelError
        OutputError
    """
    try:
        yield
    except (SignetError, KeyboardInterrupt):
        raise
    except RecursionError as error:  # it follows relative redirects by calling itself
        raise ModelError(f"{where}: {what}: {_endpoint()} redirects in a circle") from error
    except Exception as error:  # the library lets through whatever its transport and the file system raise
        raise _explained(where, what, error) from error


def _explained(where: str, what: str, error: Exception) -> SignetError:
    errors = _library().errors
    if isinstance(error, errors.GatedRepoError):
        page = f"{_endpoint()}/{where.removeprefix('hf:')}"
        return ModelError(f"{where}: gated: ask for access on {page}, then log in by: hf auth login")
    if isinstance(error, errors.RepositoryNotFoundError):
        return ModelError(f"{where}: no such repository, or a private one: check the name, or log in by: hf auth login")
    if isinstance(error, errors.RevisionNotFoundError):
        return ModelError(f"{where}: there is no such revision; check it on {_endpoint()}/{where.removeprefix('hf:')}")
    if isinstance(error, errors.LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        return _explained(where, what, error.__cause__)
    if isinstance(error, errors.EntryNotFoundError):
        return ModelError(f"{where}: there is no file {what} at this revision")
    number = getattr(error, "errno", None)
    if number in _DISK and not _of_the_network(error):
        place = getattr(error, "filename", None) or "the hub's cache"
        return OutputError(
            f"{place}: {what} cannot be written ({os.strerror(number)}); free space, or choose another place by HF_HOME"
        )
    said = first_line(error)
    kinds = {type(cause).__name__ for cause in _causes(error)}
    if "TooManyRedirects" in kinds:
        said = "it redirects in a circle"
    elif kinds & {"ReadTimeout", "ReadTimeoutError", "ConnectTimeout"}:
        said = "nothing came for too long"
    elif kinds & {"NameResolutionError", "gaierror"}:
        said = "its name is not known here (DNS)"
    elif kinds & {"ConnectionRefusedError", "NewConnectionError", "ConnectError"}:
        said = "no connection"
    elif kinds & {"FileMetadataError"}:
        said = "what answers is no hub: a proxy, or a login page?"
    elif "Consistency check" in said:
        said = "it was cut off, or is another than announced"
    return ModelError(
        f"{where}: {what} cannot be fetched from {_endpoint()} ({said[:200]}); the next try goes on from here"
    )


def _of_the_network(error: Exception) -> bool:
    return any(type(cause).__module__.split(".")[0] in ("requests", "urllib3", "httpx") for cause in _causes(error))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Give an exception, what it was raised from, and what is in its arguments and reasons, where HTTP clients nest."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        one = waiting.pop()
        if isinstance(one, BaseException) and id(one) not in seen:
            seen.add(id(one))
            yield one
            waiting += [one.__cause__, one.__context__, getattr(one, "reason", None), *one.args]
