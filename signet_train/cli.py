"""signet-train: data in, checkpoint out."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

import click

from signet_runtime.commands.console import Commands, debug_option, exit_on_error
from signet_train.commands.check import check
from signet_train.commands.configuration import config
from signet_train.commands.convert_poses import convert_poses
from signet_train.commands.evaluate import evaluate
from signet_train.commands.extract_poses import extract_poses
from signet_train.commands.fingerspelling import draw, fingerspelling, redraw
from signet_train.commands.fit import fit
from signet_train.commands.init import init
from signet_train.commands.manifest import manifest
from signet_train.commands.pose_worker import pose_worker
from signet_train.commands.published import import_expert, import_model
from signet_train.commands.report import report
from signet_train.commands.stages import align, cache, finetune, parameters, pretrain


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Let who manages a machine end the block as Ctrl-C does: what is whole stays, drafts go."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(_signum: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


class _Group(Commands):
    """Every failure is one line on stderr and the right exit code."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Give every command its first sentence, whole: click cuts it to a line."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, self.commands[name].get_short_help_str(1000)) for name in self.commands])

    def invoke(self, ctx: click.Context) -> object:
        with _terminable(), exit_on_error("signet-train", "interrupted; what was written before is whole", "train"):
            return super().invoke(ctx)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@debug_option
@click.version_option(package_name="signet-slt")
def main() -> None:
    """Train SIGNET: make a manifest of your data, pretrain experts, fuse them, evaluate.

    \b
    With videos of your own, begin with:
      signet-train init FOLDER --out PROJECT
      signet-train fit PROJECT

    \b
    Exit codes: 0 done, 2 usage, 3 input unusable, 4 configuration or checkpoint invalid, 130 interrupted.
    """  # noqa: D301


for _command in (
    init,
    fit,
    manifest,
    extract_poses,
    pose_worker,
    convert_poses,
    check,
    import_expert,
    import_model,
    pretrain,
    cache,
    align,
    finetune,
    evaluate,
    report,
    config,
    parameters,
    fingerspelling,
    redraw,
    draw,
):
    main.add_command(_command)

if __name__ == "__main__":
    main()
