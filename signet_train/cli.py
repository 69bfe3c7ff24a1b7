"""signet-train: the training stages and what feeds them."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import torch

from signet_runtime.errors import SignetError


class _Group(click.Group):
    """Every expected failure is one line on stderr and the right exit code."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except SignetError as error:
            click.echo(f"signet-train: error: {error}", err=True)
            sys.exit(error.exit_code)
        except KeyboardInterrupt:
            click.echo(
                "signet-train: interrupted; a training run goes on from its last validation with --resume", err=True
            )
            sys.exit(130)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    r"""Train SIGNET: experts one by one (pretrain), then their fusion (finetune).

    \b
    Exit codes: 0 done, 2 usage, 3 input unusable, 4 configuration or checkpoint invalid, 130 interrupted.
    A run that was stopped goes on with --resume.
    """


_config = click.argument("config", type=click.Path(exists=True, dir_okay=False, path_type=Path))
_out = click.option(
    "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Directory of the run."
)
_device = click.option(
    "--device", default=None, help="cpu, cuda, … [default: cuda where there is one, else cpu]", metavar="DEVICE"
)
_resume = click.option("--resume", is_flag=True, help="Go on from OUT/last, bit by bit as if never stopped.")


def _pick(device: str | None) -> torch.device:
    return torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))


@main.command()
@_config
@_out
@_device
@_resume
def pretrain(config: Path, out: Path, device: str | None, resume: bool) -> None:
    r"""Stage I: train one expert, a backbone with its mT5, from scratch.

    \b
    Example: signet-train pretrain signet_train/configs/demo/expert_romance.toml --out runs/romance
    """
    from signet_train.config import load_config
    from signet_train.stages.pretrain import pretrain as run

    run(load_config(config), out, _pick(device), resume)


@main.command()
@_config
@_out
@_device
@_resume
def finetune(config: Path, out: Path, device: str | None, resume: bool) -> None:
    r"""Stage III: fuse frozen experts (adapters, aggregation, router) and tune the mT5.

    \b
    Example: signet-train finetune signet_train/configs/demo/fusion.toml --out runs/fusion
    """
    from signet_train.config import load_config
    from signet_train.stages.finetune import finetune as run

    run(load_config(config), out, _pick(device), resume)


@main.command()
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Directory of the clips.")
@click.argument("sign_languages", nargs=-1)
def redraw(out: Path, sign_languages: tuple[str, ...]) -> None:
    r"""Draw the letter clips of SIGN_LANGUAGES (all of the demo's if none is given) as an avatar, and read them
    back with MediaPipe.

    \b
    Example: signet-train redraw --out runs/redrawn
    """
    from signet_runtime.pose.mediapipe import MediaPipeEstimator
    from signet_train.data.fingerspelling import SIGN_LANGUAGES
    from signet_train.data.redraw import redraw as run

    unknown = set(sign_languages) - set(SIGN_LANGUAGES)
    if unknown:
        raise click.UsageError(f"no clips for {', '.join(sorted(unknown))}; there are: {' '.join(SIGN_LANGUAGES)}")
    run(sign_languages or SIGN_LANGUAGES, MediaPipeEstimator(), out)


@main.command()
@click.argument("word")
@click.option("--sign-language", required=True, help="Whose alphabet, as an ISO 639-3 code: ase, gsg, …")
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The .mp4 to write.")
def draw(word: str, sign_language: str, out: Path) -> None:
    r"""Draw WORD, spelled with a real signer's letters, as a video.

    \b
    Example: signet-train draw planet --sign-language ase --out planet.mp4
    """
    from signet_train.data.drawing import draw_word

    draw_word(out, word, sign_language)


@main.command()
def parameters() -> None:
    """Count the paper-size model's parameters and print them next to the paper's Table 5."""
    from signet_train.parameters import parameter_table

    click.echo(parameter_table())


if __name__ == "__main__":
    main()
