"""Published archives become a pose store as they lie there: folders, zips, split zips; whatever is wrong has a line."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import signal
import stat
import subprocess
import sys
import time
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from signet_runtime.errors import InputError, OutputError
from signet_runtime.leftovers import temporary_name
from signet_runtime.pose.files import read_keypoints, write_keypoints
from signet_train.commands.convert_poses import convert_poses
from signet_train.data.store.archives import ClipReader, _Joined, find_clips, open_archive
from signet_train.data.store.arrow import FULL_HD, PoseStore
from signet_train.data.store.conversion import convert


def published(seed: int = 0, frames: int = 4) -> bytes:
    rng = np.random.default_rng(seed)
    points = list(rng.uniform(0.2, 0.8, (frames, 1, 133, 2)))
    return pickle.dumps({"keypoints": points, "scores": list(rng.uniform(0, 1, (frames, 1, 133)).astype(np.float32))})


def write_zip(path: Path, members: dict[str, bytes], **attributes: int) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # two members of the same name
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            for key, value in attributes.items():
                setattr(info, key, value)
            archive.writestr(info, content, zipfile.ZIP_DEFLATED)
    return path


def split(path: Path, size: int, *options: str) -> list[Path]:
    subprocess.run(["split", f"--bytes={size}", *(options or ["-d"]), path, f"{path}."], check=True)
    path.unlink()
    return sorted(path.parent.glob(f"{path.name}.*"))


def members(count: int) -> dict[str, bytes]:
    names = [f"pose_format/{'train' if i % 2 else 'val'}/clip{i}.pkl" for i in range(count)]
    return {name: published(i) for i, name in enumerate(names)} | {"pose_format/readme.txt": b"hello"}


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(convert_poses, [str(argument) for argument in arguments])


def stored(path: Path, count: int) -> None:
    """The clips of `members`, and their keypoints."""
    store = PoseStore.open(path)
    assert sorted(store.ids) == [f"clip{i}" for i in range(count)]
    for i in range(count):
        content = pickle.loads(published(i))
        error = np.abs(store[f"clip{i}"].keypoints - np.stack(content["keypoints"])[:, 0]) * FULL_HD
        assert error.max() < 0.03


# --- Where clips are found ----------------------------------------------------------------------------------


def test_every_kind_of_source_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "poses" / "deep"
    folder.mkdir(parents=True)
    (folder / "clip0.pkl").write_bytes(published(0))
    (folder / "notes.txt").touch()
    (tmp_path / "clip1.pkl").write_bytes(published(1))
    write_keypoints(tmp_path / "clip2.npz", read_keypoints(tmp_path / "clip1.pkl"))
    write_zip(
        tmp_path / "a.zip", {"a/b/clip3.pkl": published(3), "__MACOSX/a/b/._clip3.pkl": b"resource", "c.csv": b""}
    )
    inside = io.BytesIO()
    np.savez(inside, **np.load(tmp_path / "clip2.npz"))
    write_zip(tmp_path / "b.ZIP", {"clip4.NPZ": inside.getvalue(), "clip5.pkl": published(5)})
    parts = split(tmp_path / "b.ZIP", 700)
    sources = [folder.parent, tmp_path / "clip1.pkl", tmp_path / "clip2.npz", tmp_path / "a.zip", *parts]
    clips = find_clips(sources)
    assert [clip.id for clip in clips] == [f"clip{i}" for i in range(6)]
    assert str(clips[3]) == f"{tmp_path}/a.zip: a/b/clip3.pkl" and clips[0].size == len(published(0))
    result = invoke(*sources, "--out", tmp_path / "made" / "all.arrow", "--workers", 1)
    assert result.exit_code == 0 and result.stdout == ""
    store = PoseStore.open(tmp_path / "made" / "all.arrow")
    assert store.ids == [f"clip{i}" for i in range(6)]
    np.testing.assert_array_equal(store["clip4"].keypoints, store["clip1"].keypoints)
    lines = result.stderr.splitlines()
    assert any(line.endswith("all.arrow: 6 clips, 24 frames") for line in lines)
    assert any("keypoint files 0.0" in line and "times smaller" in line for line in lines)
    assert any("0.0" in line and "pixels at 1920x1080" in line for line in lines)
    assert lines[-1].startswith("Next: signet-train manifest") and lines[-1].endswith("all.arrow#{id}'")


@pytest.mark.parametrize("options", [["-d"], ["--numeric-suffixes=1", "-a3"], ["-a2"]])
@pytest.mark.parametrize("size", [997, 100_000])
def test_a_split_zip_is_read_where_its_parts_are(tmp_path: Path, options: list[str], size: int) -> None:
    parts = split(write_zip(tmp_path / "p.zip", members(6)), size, *options)
    assert parts[0].suffix in (".00", ".001", ".aa") and len(parts) == (63 if size == 997 else 1)
    before = {path: path.read_bytes() for path in parts}
    assert invoke(parts[0], "--out", tmp_path / "a.arrow", "--workers", 1).exit_code == 0
    stored(tmp_path / "a.arrow", 6)
    assert {path: path.read_bytes() for path in tmp_path.glob("p.zip*")} == before


@given(
    st.lists(st.binary(max_size=9), min_size=1, max_size=5), st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)))
)
def test_parts_are_one_file(tmp_path_factory: pytest.TempPathFactory, parts: list[bytes], reads: list) -> None:
    directory = tmp_path_factory.getbasetemp() / "joined"
    directory.mkdir(exist_ok=True)
    paths = [directory / str(i) for i in range(len(parts))]
    for path, content in zip(paths, parts, strict=True):
        path.write_bytes(content)
    with io.BufferedReader(_Joined(paths), 8) as file, io.BytesIO(b"".join(parts)) as whole:
        for at, count in reads:
            assert file.seek(at) == whole.seek(at)
            assert file.read(count) == whole.read(count)
            assert file.tell() == whole.tell()
        assert file.seek(0, os.SEEK_END) == whole.seek(0, os.SEEK_END)
        file.seek(0)
        assert file.read() == whole.getvalue()


def test_a_part_that_is_missing_is_named(tmp_path: Path) -> None:
    parts = split(write_zip(tmp_path / "p.zip", members(6)), 5000)
    assert len(parts) > 5
    for i, message in {
        0: r"p\.zip\.01 … p\.zip\.\d\d: not a whole zip archive, 5000 bytes are missing",
        2: r"p\.zip\.03: the part of p\.zip before it is missing",
        len(parts) - 1: "not a whole zip archive, or a damaged one.*are all its parts there",
    }.items():
        content = parts[i].read_bytes()
        parts[i].unlink()
        with pytest.raises(InputError, match=message):
            find_clips([parts[0 if i else 1]])
        parts[i].write_bytes(content)
    with pytest.raises(InputError, match=r"p\.zip\.03: a later part .*p\.zip\.00"):
        find_clips([parts[3]])
    for part in parts[:2]:
        part.unlink()
    with pytest.raises(InputError, match=r"p\.zip\.02: no part of p\.zip before it is there"):
        find_clips([parts[2]])


def test_a_part_that_is_too_short_or_too_long_is_seen(tmp_path: Path) -> None:
    parts = split(write_zip(tmp_path / "p.zip", members(6)), 5000)
    parts[1].write_bytes(parts[1].read_bytes()[:-7])
    with pytest.raises(InputError, match="7 bytes are missing"):
        find_clips(parts[:1])
    parts[1].write_bytes(parts[1].read_bytes() + b"x" * 12)
    with pytest.raises(InputError, match="5 bytes are too many"):
        find_clips(parts[:1])


@pytest.mark.parametrize(
    "name", ["../a.pkl", "b/../../a.pkl", "/a.pkl", "b\\a.pkl", "..\\a.pkl", "C:a.pkl", "c:/a.pkl"]
)
def test_a_member_that_leads_out_refuses_the_archive(tmp_path: Path, name: str) -> None:
    write_zip(tmp_path / "a.zip", {"fine.pkl": published(), name: published()})
    with pytest.raises(InputError, match=r"refused, its member .*a\.pkl.* leads out of the archive") as error:
        find_clips([tmp_path / "a.zip"])
    assert str(error.value).startswith(f"{tmp_path}/a.zip: ") and "\n" not in str(error.value)


def test_links_and_encrypted_members_refuse_the_archive(tmp_path: Path) -> None:
    write_zip(tmp_path / "a.zip", {"link.pkl": b"/etc/passwd"}, external_attr=(stat.S_IFLNK | 0o777) << 16)
    with pytest.raises(InputError, match=r"its member 'link\.pkl' is a link"):
        find_clips([tmp_path / "a.zip"])
    data = bytearray(write_zip(tmp_path / "a.zip", {"secret.pkl": published()}).read_bytes())
    for header, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.index(header) + flags] |= 1
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(InputError, match=r"its member 'secret\.pkl' is encrypted"):
        find_clips([tmp_path / "a.zip"])


def test_sources_that_are_none_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    whole = write_zip(tmp_path / "whole.zip", members(3)).read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[:-100])
    (tmp_path / "text.zip").write_bytes(b"hello")
    (tmp_path / "a.csv").touch()
    write_zip(tmp_path / "other.zip", {"a.txt": b""})
    for name, message in {
        "none": "no such file",
        "none.zip.00": "no such file",
        "empty": "no keypoint file",
        "a.csv": "neither",
        "cut.zip": "not a whole zip archive, or a damaged one",
        "text.zip": "not a whole zip archive",
        "other.zip": "no keypoint file",
    }.items():
        with pytest.raises(InputError, match=message) as error:
            find_clips([tmp_path / name])
        assert str(error.value).startswith(str(tmp_path / name)) and "\n" not in str(error.value)


def test_an_id_twice_names_both_files_before_anything_is_read(tmp_path: Path) -> None:
    write_zip(tmp_path / "a.zip", {"train/x.pkl": b"", "val/x.pkl": b""})
    with pytest.raises(InputError, match=r"val/x\.pkl: the id 'x' is also that of .*train/x\.pkl"):
        find_clips([tmp_path / "a.zip"])
    write_zip(tmp_path / "a.zip", {"x.pkl": b""})
    (tmp_path / "x.pkl").write_bytes(published())
    with pytest.raises(InputError, match=r"x\.pkl: the id 'x' is also that of .*a\.zip: x\.pkl"):
        find_clips([tmp_path / "a.zip", tmp_path / "x.pkl"])


# --- What is converted --------------------------------------------------------------------------------------


class _Gadget:
    def __reduce__(self) -> tuple:
        return os.mkdir, ("executed",)


def test_clips_that_cannot_be_read_have_a_line_and_do_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    far = {"keypoints": [np.full((1, 133, 2), [0.5, 0.5])], "scores": [np.ones((1, 133))], "w_h": [10, 10], "fps": 25}
    far["keypoints"][0][0, 0] = 1e5
    nan = {"keypoints": [np.full((1, 133, 2), np.nan)], "scores": [np.ones((1, 133))]}
    bad = {
        "gadget": (pickle.dumps({"keypoints": _Gadget()}), "refused, its pickle asks for posix.mkdir"),
        "joints": (pickle.dumps({"keypoints": [np.zeros((1, 132, 2))], "scores": [np.ones((1, 132))]}), "132 joints"),
        "nan": (pickle.dumps(nan), "frame 0 of 'keypoints' has a number that is NaN"),
        "negative": (pickle.dumps({"keypoints": [np.ones((1, 133, 2))], "scores": [np.full((1, 133), -3)]}), "a -3"),
        "far": (pickle.dumps(far), "spread over"),
        "cut": (published()[:999], "damaged"),
        "empty": (b"", "damaged"),
    }
    clips = members(4) | {f"pose_format/{name}.pkl": content for name, (content, _) in bad.items()}
    data = bytearray(write_zip(tmp_path / "a.zip", clips | {"crc.pkl": published(9)}).read_bytes())
    data[data.index(b"crc.pkl") + 2000] ^= 0xFF
    (tmp_path / "a.zip").write_bytes(data)
    for workers in (1, 2):
        result = invoke("a.zip", "--out", "a.arrow", "--workers", workers)
        assert result.exit_code == 3 and not (tmp_path / "executed").exists()
        stored(tmp_path / "a.arrow", 4)
        failures = [json.loads(line) for line in (tmp_path / "a.failures.jsonl").read_text().splitlines()]
        assert [failure["id"] for failure in failures] == [*bad, "crc"]
        for failure, (name, (_, message)) in zip(failures, bad.items(), strict=False):
            assert failure["message"].startswith(f"a.zip: pose_format/{name}.pkl: ") and message in failure["message"]
        assert failures[-1]["message"].startswith("a.zip: crc.pkl: not a whole member of its archive")
        assert (
            "8 failed; a.failures.jsonl says why; the first is a.zip: pose_format/gadget.pkl: refused" in result.stderr
        )
    again = invoke("a.zip", "--out", "b.arrow", "--workers", 1)
    assert again.exit_code == 3
    assert (tmp_path / "a.arrow").read_bytes() == (tmp_path / "b.arrow").read_bytes()  # in whatever order they came


def test_where_nothing_can_be_read_nothing_is_written(tmp_path: Path) -> None:
    write_zip(tmp_path / "a.zip", {"a.pkl": b""})
    (tmp_path / "a.arrow").write_bytes(b"the one before")
    result = invoke(tmp_path / "a.zip", "--out", tmp_path / "a.arrow", "--workers", 1)
    assert result.exit_code == 3 and "nothing was written" in result.stderr
    assert (tmp_path / "a.arrow").read_bytes() == b"the one before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.arrow", "a.failures.jsonl", "a.zip"]


def test_a_clip_larger_than_any_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_zip(tmp_path / "a.zip", {"zeros.pkl": bytes(10_000_000)})
    monkeypatch.setenv("SIGNET_LIMITS", "member_bytes=1000000")
    (clip,) = find_clips([tmp_path / "a.zip"])
    with pytest.raises(InputError, match=r"zeros\.pkl: member bytes 10000000, and at most 1000000"):
        ClipReader().read(clip)
    with open_archive(tmp_path / "a.zip") as archive:
        assert len(archive.namelist()) == 1


def test_a_place_that_cannot_be_written_is_known_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "d.arrow").mkdir()
    assert invoke(tmp_path, "--out", tmp_path / "a.npz").exit_code == 2
    assert invoke("--out", tmp_path / "a.arrow").exit_code == 2
    assert invoke(tmp_path, "--out", tmp_path / "d.arrow").exit_code == 2
    assert isinstance(invoke(tmp_path, "--out", tmp_path / "file" / "a.arrow").exception, OutputError)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d.arrow", "file"]


def test_what_a_killed_run_left_is_removed_by_the_next(tmp_path: Path) -> None:
    (tmp_path / "a.zip").touch()
    left, other = tmp_path / temporary_name("a", ".arrow"), tmp_path / ".a.01234567-89abcdef.arrow"  # another machine's
    left.touch()
    other.touch()
    (tmp_path / "clip0.pkl").write_bytes(published(0))
    convert(find_clips([tmp_path / "clip0.pkl"]), tmp_path / "a.arrow", workers=1)
    assert not left.exists() and other.exists() and len(PoseStore.open(tmp_path / "a.arrow")) == 1


def test_ctrl_c_leaves_nothing_half_written(tmp_path: Path) -> None:
    clips = tmp_path / "clips"
    clips.mkdir()
    (clips / "0.pkl").write_bytes(published(0, 500))
    for i in range(1, 2000):
        (clips / f"{i}.pkl").hardlink_to(clips / "0.pkl")
    code = "from signet_train.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "convert-poses", str(clips), "--out", str(tmp_path / "a.arrow"), "--workers", "2"],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    until = time.monotonic() + 20
    while time.monotonic() < until and not list(tmp_path.glob(".a.*.arrow")):
        time.sleep(0.02)
    assert list(tmp_path.glob(".a.*.arrow"))
    time.sleep(0.3)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 130 and stderr.splitlines()[-1] == "signet-train: interrupted; nothing was written"
    assert [path.name for path in tmp_path.iterdir()] == ["clips"]
    shutil.rmtree(clips)


def test_the_real_pickle_is_within_three_hundredths_of_a_pixel(shared_data: Path, tmp_path: Path) -> None:
    done = convert(find_clips([shared_data / "lis_news_0.pkl"]), tmp_path / "a.arrow", workers=1)
    assert (done.clips, done.frames, done.failures) == (1, 126, []) and 0 < done.error < 0.03
    before, after = read_keypoints(shared_data / "lis_news_0.pkl"), PoseStore.open(tmp_path / "a.arrow")["lis_news_0"]
    assert np.abs((after.keypoints - before.keypoints) * FULL_HD)[before.scores > 0].max() == pytest.approx(done.error)
    assert done.file_bytes / (tmp_path / "a.arrow").stat().st_size > 3
