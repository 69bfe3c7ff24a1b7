"""`signet-serve`: the page and the API on this machine; everything it says goes to standard error."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Unpack

import click

from signet_runtime.bundle import ENGINE_CHOICES
from signet_runtime.commands.console import debug_option, exit_on_error, own_stderr
from signet_runtime.commands.extras import run_command
from signet_runtime.errors import InputError
from signet_runtime.options import DEFAULTS, TranslatorOptions
from signet_runtime.pose.estimators import estimator_choices
from signet_runtime.serve.settings import Limits, Settings

_USUAL = Limits()
_SHORTEST_TOKEN = 16

EPILOG = """
\b
Examples:
  signet-serve                                    http://127.0.0.1:8765, the models that are here
  signet-serve --bundle my-bundle --port 9000     another model, which becomes the default
  curl -F file=@video.mp4 http://127.0.0.1:8765/v1/translate
  curl -F file=@video.mp4 'http://127.0.0.1:8765/v1/translate?format=srt'
  curl -N -F file=@video.mp4 'http://127.0.0.1:8765/v1/translate?format=ndjson'
  curl http://127.0.0.1:8765/v1/models

\b
For others than yourself:
  openssl rand -hex 32 > token; chmod 600 token
  signet-serve --host 0.0.0.0 --token-file token --allow-host signs.example.org
  The server speaks plain HTTP: put a proxy with TLS before it, see docs/serving.md.

\b
Exit codes: 0 ended by Ctrl-C or SIGTERM, 2 usage, 3 the address or a directory cannot be used, 4 a bundle is missing
or damaged, 5 something is not installed or not available, 70 a defect of signet-serve itself.
"""


@click.command(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--host",
    default=Settings.host,
    show_default=True,
    help="The address to listen at. 127.0.0.1 is this machine alone, 0.0.0.0 everybody who can reach it.",
)
@click.option("--port", type=click.IntRange(0, 65535), default=Settings.port, show_default=True, help="0: any.")
@click.option(
    "--bundle",
    "bundles",
    metavar="DIR",
    multiple=True,
    type=click.Path(path_type=Path),
    help="An exported model to serve, called as its directory; may be given again. The first is the default.",
)
@click.option(
    "--model",
    "models",
    metavar="NAME",
    multiple=True,
    help="Of the models that signet-models brought here, serve only these; may be given again.  [default: all]",
)
@click.option(
    "--token-file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help=f"The API asks for the token in this file, at least {_SHORTEST_TOKEN} characters (Authorization: Bearer …).",
)
@click.option(
    "--allow-host",
    "hosts",
    metavar="NAME",
    multiple=True,
    help="A name by which browsers may call this server, as a proxy's; may be given again.",
)
@click.option(
    "--at-once",
    metavar="N",
    type=click.IntRange(min=1),
    default=_USUAL.at_once,
    show_default="half the CPUs, at least 2",
    help="Translations side by side; a live stream is one.",
)
@click.option(
    "--waiting",
    metavar="N",
    type=click.IntRange(min=0),
    default=_USUAL.waiting,
    show_default=True,
    help="Further requests that may wait; others get 503 and when to come again.",
)
@click.option(
    "--max-size",
    metavar="MB",
    type=click.FloatRange(min=0, min_open=True),
    default=_USUAL.size / 1e6,
    show_default=True,
    help="Largest upload.",
)
@click.option(
    "--max-length",
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True),
    default=_USUAL.length,
    show_default=True,
    help="Longest recording, and longest live stream.",
)
@click.option(
    "--max-time",
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True),
    default=_USUAL.time,
    show_default=True,
    help="Longest that an upload may take to be translated, waiting included.",
)
@click.option(
    "--temp",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Where uploads lie while they are read.  [default: TMPDIR, or /tmp]",
)
@click.option(
    "--device",
    type=click.Choice(["cpu", "cuda"]),
    envvar="SIGNET_DEVICE",
    default=DEFAULTS["device"],
    show_default=True,
    help="What runs the models (or SIGNET_DEVICE).",
)
@click.option(
    "--engine", type=click.Choice(ENGINE_CHOICES), default=DEFAULTS["engine"], show_default=True, help="What runs."
)
@click.option(
    "--pose",
    type=click.Choice(estimator_choices()),
    default=DEFAULTS["pose"],
    show_default=True,
    help="Who finds the keypoints; auto takes the estimator that a model was trained on.",
)
@click.option(
    "--pose-weights", metavar="DIR", type=click.Path(path_type=Path), help="Where RTMPose's weight files are."
)
@click.option(
    "--isolate/--no-isolate",
    default=sys.platform != "win32",
    show_default=True,
    help="Decode videos in a process of their own that can reach nothing but the file, see docs/trust.md.",
)
@click.option("--offline", is_flag=True, envvar="SIGNET_OFFLINE", help="Never download weights (or SIGNET_OFFLINE=1).")
@click.option("-q", "--quiet", is_flag=True, help="No notes, and no line a request; errors only.")
@debug_option
@click.version_option(package_name="signet-slt")
@exit_on_error("signet-serve")
def main(
    host: str,
    port: int,
    bundles: tuple[Path, ...],
    models: tuple[str, ...],
    token_file: Path | None,
    hosts: tuple[str, ...],
    at_once: int,
    waiting: int,
    max_size: float,
    max_length: float,
    max_time: float,
    temp: Path | None,
    quiet: bool,
    **options: Unpack[TranslatorOptions],
) -> None:
    """Serve sign-language translation: a page for people, an API for programs.

    The page is at /, the API at /v1 and described at /docs, counters for Prometheus at /metrics. Nothing is fetched
    from elsewhere, and no recording is kept. Ctrl-C ends it.
    """
    with own_stderr(quiet, "signet-serve"):
        settings = Settings(
            host=host,
            port=port,
            bundles=bundles,
            only=models or None,
            hosts=hosts,
            token=None if token_file is None else read_token(token_file),
            scratch=temp,
            options=options,
            limits=Limits(at_once=at_once, waiting=waiting, size=int(max_size * 1e6), length=max_length, time=max_time),
        )

        def load() -> object:
            from signet_runtime.serve.running import run

            return lambda: run(settings, quiet)

        run_command("signet-serve", "serve", load)  # type: ignore[arg-type]


def read_token(path: Path) -> str:
    """Return the token in a file.

    Raises:
        InputError: there is none, or one that could be guessed.
    """
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise InputError(f"{path}: the token cannot be read ({reason})") from error
    if len(token) < _SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise InputError(
            f"{path}: a token is {_SHORTEST_TOKEN} printable characters or more, in ASCII and without spaces; make one "
            "with: openssl rand -hex 32"
        )
    return token


if __name__ == "__main__":
    main()
