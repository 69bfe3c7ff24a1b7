"""signet-train: data in, checkpoint out."""

from __future__ import annotations

import click

from signet_runtime.commands.console import exit_on_error
from signet_train.commands.check import check
from signet_train.commands.convert_poses import convert_poses
from signet_train.commands.evaluate import evaluate
from signet_train.commands.extract_poses import extract_poses
from signet_train.commands.fingerspelling import draw, fingerspelling, redraw
from signet_train.commands.manifest import manifest
from signet_train.commands.published import import_expert, import_model
from signet_train.commands.stages import align, cache, finetune, parameters, pretrain


class _Group(click.Group):
    """Commands in the order of their use; every expected failure is one line on stderr and the right exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> object:
        with exit_on_error(
            "signet-train", "interrupted; a training run goes on from its last checkpoint with --resume"
        ):
            return super().invoke(ctx)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Train SIGNET: make a manifest of your data, pretrain experts, fuse them, evaluate.

    \b
    Exit codes: 0 done, 2 usage, 3 input unusable, 4 configuration or checkpoint invalid, 130 interrupted.
    A run that was stopped goes on with --resume.
    """  # noqa: D301


for _command in (
    manifest,
    extract_poses,
    convert_poses,
    check,
    import_expert,
    import_model,
    pretrain,
    cache,
    align,
    finetune,
    evaluate,
    parameters,
    fingerspelling,
    redraw,
    draw,
):
    main.add_command(_command)

if __name__ == "__main__":
    main()
