"""Names that cannot be, links to themselves, pipes and devices behind names: one line and an exit code, at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner
from translate_command import Translate

from signet_runtime.commands.models import main as models

LONG = "n" * 300


def one_line(output: str) -> None:
    lines = [line for line in output.splitlines() if line]
    assert len([line for line in lines if "error:" in line]) == 1, output
    assert "Traceback" not in output and "defect" not in output, output


@pytest.mark.parametrize("kind", ["long", "loop"])
@pytest.mark.parametrize("option", ["", "-o", "--output-dir", "--keypoints-out", "--bundle"])
def test_an_impossible_name(translate: Translate, clips: list[Path], tmp_path: Path, option: str, kind: str) -> None:
    suffix = ".npz" if option in ("", "--keypoints-out") else ""
    path = tmp_path / ((LONG if kind == "long" else "loop") + suffix)
    if kind == "loop":
        path.symlink_to(path)
    if option == "--bundle":
        done = translate(clips[0], bundle=path)
    else:
        done = translate(*([option, path, clips[0]] if option else [path]))
    assert done.exit_code in (3, 4), done.output
    one_line(done.stderr)


@pytest.mark.parametrize("suffix", [".npz", ".pose", ".pkl", ".npy", ".json", ".parquet", ".h5", ".arrow"])
@pytest.mark.parametrize("kind", ["pipe", "/dev/zero", "/dev/urandom"])
def test_what_is_no_file_behind_a_name(translate: Translate, tmp_path: Path, suffix: str, kind: str) -> None:
    path = tmp_path / f"x{suffix}"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(kind)
    done = translate(f"{path}#clip" if suffix == ".arrow" else path)
    assert done.exit_code == 3, done.output
    one_line(done.stderr)


def test_control_characters_of_a_name_and_a_notice_reach_no_terminal(translate: Translate, tmp_path: Path) -> None:
    done = translate(tmp_path / "a\x1b[2J\nsignet-translate: error: forged\x07.npz")
    assert done.exit_code == 3
    assert "\x1b" not in done.stderr and "\x07" not in done.stderr
    assert not [line for line in done.stderr.splitlines() if line.startswith("signet-translate: error: forged")]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--beams", "100000"), "beams 100000"),
        (("--beams", "1000000000"), "beams 1000000000"),
        (("--jobs", "100000"), "jobs 100000"),
    ],
)
def test_options_have_limits(
    translate: Translate, clips: list[Path], arguments: tuple[str, str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = translate(*arguments, clips[0])
    assert done.exit_code == 2 and says in done.stderr and "SIGNET_LIMITS=" in done.stderr
    monkeypatch.setenv("SIGNET_LIMITS", "beams=200")
    assert translate("--beams", "2", clips[0]).exit_code == 0
    monkeypatch.setenv("SIGNET_LIMITS", "beems=200")
    assert translate(clips[0]).exit_code == 4


@pytest.mark.parametrize("name", [LONG, "a\x1b[2J", "hf:a/b@\x07", "https://h/\x00.signet#sha256=" + "0" * 64])
def test_a_model_by_an_impossible_name(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGNET_MODELS", str(tmp_path))
    for command in ("show", "pull", "path", "remove", "verify"):
        done = CliRunner().invoke(models, [command, name])
        assert done.exit_code in (2, 3, 4, 5), done.output
        assert "\x1b" not in done.stderr and "\x07" not in done.stderr and "defect" not in done.stderr, done.stderr


def test_without_a_home_it_is_said_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SIGNET_MODELS", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)

    def none() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", none)
    done = CliRunner().invoke(models, ["list"])
    assert done.exit_code == 3 and "set SIGNET_MODELS" in done.stderr
