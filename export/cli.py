"""signet-export: a checkpoint becomes a bundle that signet-translate runs."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from signet_runtime.errors import EngineError, SignetError


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("checkpoint", required=False, type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Directory of the bundle to write.")
@click.option(
    "--engine", type=click.Choice(["onnx", "trt"]), default="onnx", show_default=True, help="What runs the model."
)
@click.option("--top-k", type=click.IntRange(min=1), help="Experts that a clip is sent to. [default: the checkpoint's]")
@click.option("--overwrite", is_flag=True, help="Replace a bundle that is already there.")
def main(checkpoint: Path | None, out: Path, engine: str, top_k: int | None, overwrite: bool) -> None:
    """Export CHECKPOINT (a directory that signet-train wrote; the embedded demo's if none is given) as a bundle.

    Experts, adapters, router and mT5 encoder become one ONNX graph, the mT5 decoder two. Every export is
    compared with the PyTorch model on ragged random clips: encoder states within 1e-4 and the same tokens
    with 1 and 4 beams. If they differ, nothing is written.

    \b
    Examples:
      signet-export --out my-bundle
      signet-export runs/finetune/best --out my-bundle --top-k 1
      signet-translate --bundle my-bundle video.mp4

    \b
    Exit codes: 0 done, 2 usage, 4 checkpoint invalid or parity failed, 5 engine not available, 130 interrupted.
    """  # noqa: D301
    try:
        if engine == "trt":
            raise EngineError("--engine trt: TensorRT engines come with a later version; use --engine onnx")
        from signet_export.bundle import export_bundle
        from signet_train.checkpoint import demo_checkpoint_path, load_checkpoint

        loaded = load_checkpoint(checkpoint or demo_checkpoint_path())
        click.echo(f"exporting {len(loaded.experts)} experts to {out} …", err=True)
        parity = export_bundle(loaded, out, top_k=top_k, overwrite=overwrite)
    except SignetError as error:
        click.echo(f"signet-export: error: {error}", err=True)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo("signet-export: interrupted; nothing was written", err=True)
        sys.exit(130)
    except OSError as error:
        click.echo(f"signet-export: error: {out}: cannot be written ({error.strerror or error})", err=True)
        sys.exit(4)
    click.echo(
        f"verified against PyTorch: encoder states within {parity.encoder_error:.1e}, "
        f"the same tokens on {parity.clips} clips with 1 and 4 beams",
        err=True,
    )


if __name__ == "__main__":
    main()
