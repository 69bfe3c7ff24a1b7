"""Commands of a part that is not installed say so, and what to do."""

from __future__ import annotations

import subprocess
import sys

import pytest

from signet_runtime.installation import how_to_install


@pytest.mark.parametrize(
    ("module", "arguments", "missing"),
    [
        ("signet_train", ["evaluate", "."], "torch"),
        ("signet_train", ["check", "nowhere.parquet"], "pyarrow"),
        ("signet_train", ["parameters"], "torch"),
        ("signet_export", ["build", "--out", "nowhere/bundle"], "torch"),
    ],
)
def test_what_is_missing_is_named(module: str, arguments: list[str], missing: str) -> None:
    code = (
        f"import sys; sys.modules[{missing!r}] = None; sys.argv = ['command', *{arguments}]; "
        f"from {module}.__main__ import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 5, done.stderr
    command = module.replace("_", "-")
    assert done.stderr == f"{command}: error: {missing} is not installed; {how_to_install('train')}\n"
    assert done.stdout == ""


@pytest.mark.parametrize("missing", ["jiwer", "torch", "transformers", "pyarrow"])
def test_what_the_commands_are_is_told_without_the_extra(missing: str) -> None:
    code = (
        f"import sys; sys.modules[{missing!r}] = None; sys.argv = ['command', '--help']; "
        "from signet_train.__main__ import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "finetune" in done.stdout


@pytest.mark.parametrize("module", ["signet_train", "signet_export"])
def test_commands_run(module: str) -> None:
    done = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Usage: ")


def test_a_module_of_ours_that_is_missing_is_a_fault() -> None:
    from signet_runtime.commands.extras import run_command

    def broken() -> None:
        import signet_runtime.nonsense  # type: ignore[import-not-found]  # noqa: F401

    with pytest.raises(SystemExit) as ended:
        run_command("signet-train", "train", lambda: broken)
    assert ended.value.code == 70
