"""The one way of outside data into the program: what is no file, too long, too deep or not writable is one line."""

from __future__ import annotations

import errno
import json
import os
import random
import struct
import sys
import threading
import zlib
from pathlib import Path

import pytest

from signet_runtime.boundary import open_regular, parse_json, parse_toml, read_bounded, read_json, reading
from signet_runtime.errors import BundleError, ConfigError, InputError
from signet_runtime.limits import Limits, check_limit, describe, limits
from signet_runtime.printable import is_printable, printable


class ForeignError(BaseException):
    pass


@pytest.mark.parametrize(
    "raised",
    [
        ValueError("a\nb"),
        TypeError(),
        KeyError("x"),
        IndexError(),
        OverflowError(),
        RecursionError(),
        AttributeError("no"),
        NotImplementedError(),
        StopIteration(),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"),
        OSError("Invalid data stream"),
        FileNotFoundError(errno.ENOENT, "No such file or directory"),
        PermissionError(errno.EACCES, "Permission denied"),
        struct.error("unpack requires 4 bytes"),
        zlib.error("Error -3"),
    ],
)
def test_whatever_a_parser_raises_is_the_files(raised: Exception) -> None:
    with pytest.raises(BundleError) as told, reading("a.npz", BundleError, "a thing", "make it again"):
        raise raised
    line = str(told.value)
    assert line.startswith("a.npz: ") and line.endswith("; make it again") and "\n" not in line
    assert told.value.__cause__ is raised


@pytest.mark.parametrize(
    "raised",
    [
        InputError("ours"),
        MemoryError(),
        KeyboardInterrupt(),
        ForeignError(),
        AssertionError(),
        NameError(),
        ModuleNotFoundError("h5py"),
        OSError(errno.EMFILE, "Too many open files"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
)
def test_what_is_not_the_datas_passes(raised: BaseException) -> None:
    with pytest.raises(type(raised)) as told, reading("a.npz", BundleError):
        raise raised
    assert told.value is raised


def test_only_files_are_opened(tmp_path: Path) -> None:
    pipe, loop, link = tmp_path / "pipe.json", tmp_path / "loop.json", tmp_path / "link.json"
    os.mkfifo(pipe)
    loop.symlink_to(loop)
    link.symlink_to("/dev/zero")
    cases = [pipe, loop, link, tmp_path, tmp_path / "none", tmp_path / ("n" * 300), Path("/dev/zero"), Path("a\0b")]
    done = threading.Event()

    def try_all() -> None:
        for path in cases:
            with pytest.raises(InputError) as told:
                read_bounded(path, "settings_bytes")
            assert str(told.value).startswith(f"{path}: ")
        done.set()

    thread = threading.Thread(target=try_all, daemon=True)  # a pipe that is waited for would hold the suite
    thread.start()
    thread.join(10)
    assert done.is_set()


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(tmp_path: Path) -> None:
    (tmp_path / "a").touch(mode=0)
    with pytest.raises(InputError, match="cannot be read"):
        read_bounded(tmp_path / "a", "settings_bytes")


def test_a_file_is_measured_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / "long.json"
    with long.open("wb") as file:
        file.truncate(1 << 40)  # sparse: to read it would take hours
    with pytest.raises(InputError, match=r"long.json: json bytes .*SIGNET_LIMITS=json_bytes="):
        read_json(long, "json_bytes")
    monkeypatch.setenv("SIGNET_LIMITS", "settings_bytes=10")
    (tmp_path / "short").write_bytes(b"0123456789")
    assert read_bounded(tmp_path / "short", "settings_bytes") == b"0123456789"
    (tmp_path / "short").write_bytes(b"01234567890")
    with pytest.raises(ConfigError):
        read_bounded(tmp_path / "short", "settings_bytes", ConfigError)


def test_errors_of_the_block_that_parses_are_the_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    with (
        pytest.raises(InputError, match=r"a: not a number, or a damaged one \(unpack"),
        open_regular(tmp_path / "a", what="a number") as file,
    ):
        struct.unpack("<d", file.read())


def nested(depth: int, rng: random.Random) -> str:
    openings = [rng.choice(["[", '{"a":']) for _ in range(depth)]
    return "".join(openings) + "1" + "".join("]" if o == "[" else "}" for o in reversed(openings))


def test_json_has_limits(tmp_path: Path) -> None:
    rng = random.Random(os.urandom(8))
    most = limits().nesting
    for text in (
        nested(most + 1, rng),
        nested(200_000, rng),
        "[" * 200_000,
        "9" * (limits().digits + 1),
        "[1" + "0" * 5000 + "]",
        r'"\ud83d"',
        r'{"\uDC00": 1}',
        '"\ud800"',
        "",
        "{",
        "nul",
        "'a'",
    ):
        with pytest.raises(InputError, match=r"^x\.json: "):
            parse_json(text, "x.json")
    for text in (nested(most, rng), "[" * most + "]" * most, "9" * limits().digits, '"\\ud83d\\ude00"', '"[[{"'):
        assert parse_json(text, "x.json") == json.loads(text)
    many = json.dumps(["[" * 1000, "{" * rng.randrange(1000), "\\ud83d\\ude00"])  # brackets in strings nest nothing
    assert parse_json(many, "x.json") == json.loads(many)
    (tmp_path / "b.json").write_bytes(b'"\xff"')
    with pytest.raises(InputError, match=r"b\.json: not UTF-8 text"):
        read_json(tmp_path / "b.json", "json_bytes", what="UTF-8 text")


def test_toml_has_limits() -> None:
    for text in ("a = " + "[" * 5000, "a" + ".a" * 500 + " = 1", "a = 1" + "0" * 5000, 'a = "\ud800"', "a = b", "= 1"):
        with pytest.raises(ConfigError, match=r"^c\.toml: "):
            parse_toml(text, "c.toml", ConfigError)
    assert parse_toml("a.b = [1, 'x']", "c.toml") == {"a": {"b": [1, "x"]}}


def test_limits_are_raised_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SIGNET_LIMITS", raising=False)
    assert limits() == Limits()
    check_limit("frames", Limits.frames, "x", InputError)
    check_limit("rate_low", Limits.rate_low, "x", InputError)
    for name, value in (("frames", Limits.frames + 1), ("rate_low", 1e-9), ("rate_high", float("nan"))):
        with pytest.raises(InputError, match=rf"x: .*SIGNET_LIMITS={name}="):
            check_limit(name, value, "x", InputError)
    monkeypatch.setenv("SIGNET_LIMITS", " frames=9000000 , rate_low=1e-9")
    check_limit("frames", 9_000_000, "x", InputError)
    check_limit("rate_low", 1e-9, "x", InputError)
    assert {name: value for name, value, _ in describe()}["frames"] == 9_000_000
    for wrong in ("frame=1", "frames", "frames=x", "frames=0", "frames=-1", "rate_high=inf", "rate_high=nan"):
        monkeypatch.setenv("SIGNET_LIMITS", wrong)
        with pytest.raises(ConfigError, match=r"^SIGNET_LIMITS: "):
            limits()


def test_what_is_printable() -> None:
    for code in (*range(0x3000), *range(0xD7F0, 0xE010), *random.sample(range(sys.maxunicode + 1), 1000)):
        character = chr(code)
        if not is_printable(f"a{character}"):
            assert is_printable(printable(f"a{character}")), code
            assert not character.isprintable(), code
        printable(character).encode()
    assert printable("\x1b[31merror\x07\r\nb\u202e\ud800") == r"\x1b[31merror\x07  b\u202e\ud800"
    for kept in ("naïve 手语 🤟🏽 क्ष می\u200cخواهم", "a b"):
        assert printable(kept) == kept


def test_the_limits_that_are_documented_are_those_that_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SIGNET_LIMITS", raising=False)
    page = (Path(__file__).parents[2] / "docs" / "trust.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("| `")]
    documented = [(name.strip("`"), float(value.replace(",", "")), why) for name, value, why in rows]
    assert [row for row in documented if row[0] in vars(limits())] == describe()
