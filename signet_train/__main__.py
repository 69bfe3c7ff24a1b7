"""`signet-train`, as it is installed."""

from __future__ import annotations

from collections.abc import Callable

from signet_runtime.commands.extras import run_command


def main() -> None:
    """Run the command, or say that its part of the installation is missing."""

    def load() -> Callable[[], object]:
        from signet_train.cli import main as command

        return command

    run_command("signet-train", "train", load)


if __name__ == "__main__":
    main()
