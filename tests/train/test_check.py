"""Whatever would stop a training run is found before it, and named: manifest, row, id, one line."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from stores import write_store

from signet_runtime.errors import InputError
from signet_runtime.pose.files import write_keypoints
from signet_runtime.pose.sequence import PoseSequence
from signet_train.commands.check import check
from signet_train.data.check import Fault, check_rows
from signet_train.data.manifest import Manifest, Row, read_manifest, write_manifest
from signet_train.data.poses import load_poses

RNG = np.random.default_rng(0)
KEYPOINTS = RNG.uniform(0.2, 0.8, (6, 133, 2)).astype(np.float32)
SCORES = np.full((6, 133), 0.9, np.float32)

FINE = Row(id="fine", split="train", poses="fine.npz", text="Hallo", language="de", sign_language="gsg", gloss="HALLO")


def write_npz(path: Path, keypoints: np.ndarray = KEYPOINTS, scores: np.ndarray = SCORES) -> None:
    """As `write_keypoints` does, without its care."""
    np.savez(path, keypoints=keypoints, scores=scores, fps=25.0, size=(640, 480), source="mediapipe")


def write_pickle(path: Path, content: object) -> None:
    path.write_bytes(pickle.dumps(content))


def changed(array: np.ndarray, value: float) -> np.ndarray:
    other = array.copy()
    other[3, 7] = value
    return other


class _Malicious:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch executed",)


def people(keypoints: np.ndarray, scores: np.ndarray) -> dict[str, list[np.ndarray]]:
    return {"keypoints": list(keypoints[:, None]), "scores": list(scores[:, None])}


def nobody_above(score: float) -> np.ndarray:
    """Confident joints, but of the body only three."""
    scores = np.full((6, 133), score, np.float32)
    scores[0, [0, 5, 6]] = 0.9
    return scores


BAD_KEYPOINTS: dict[str, tuple[str, Callable[[Path], object], str, str]] = {
    "missing": ("a.npz", lambda path: None, "no keypoints", "no such file; `signet-train extract-poses` makes it"),
    "directory": ("a.npz", Path.mkdir, "unusable keypoints", "is a directory"),
    "unknown suffix": ("a.csv", Path.touch, "unusable keypoints", "not a keypoint file"),
    "empty file": ("a.npz", Path.touch, "unusable keypoints", "damaged"),
    "cut off": ("a.npz", lambda path: (write_npz(path), os.truncate(path, 900)), "unusable keypoints", "damaged"),
    "no frames": ("a.npz", lambda p: write_npz(p, KEYPOINTS[:0], SCORES[:0]), "unusable keypoints", "no frames"),
    "nan": ("a.npz", lambda p: write_npz(p, changed(KEYPOINTS, np.nan)), "unusable keypoints", "finite"),
    "infinite score": ("a.npz", lambda p: write_npz(p, scores=changed(SCORES, np.inf)), "unusable keypoints", "finite"),
    "17 joints": (
        "a.npz",
        lambda p: write_npz(p, KEYPOINTS[:, :17], SCORES[:, :17]),
        "unusable keypoints",
        "(6, 17, 2)",
    ),
    "scores of other frames": ("a.npz", lambda p: write_npz(p, scores=SCORES[:5]), "unusable keypoints", "(5, 133)"),
    "nobody": ("a.npz", lambda p: write_npz(p, scores=SCORES * 0), "unusable keypoints", "no person in any of its 6"),
    "nobody in a pickle": (
        "a.pkl",
        lambda p: write_pickle(p, people(KEYPOINTS, SCORES * 0.3)),
        "unusable keypoints",
        "no person",
    ),
    "no confident body": ("a.npz", lambda p: write_npz(p, scores=nobody_above(0.2)), "no signer", "fewer than four"),
    "too long": (
        "a.npz",
        lambda p: write_npz(p, KEYPOINTS.repeat(10, 0), SCORES.repeat(10, 0)),
        "too long",
        "60 frames, more",
    ),
    "unsafe pickle": ("a.pkl", lambda p: write_pickle(p, _Malicious()), "unusable keypoints", "refused, its pickle"),
    "cut off pickle": (
        "a.pkl",
        lambda p: (write_pickle(p, people(KEYPOINTS, SCORES)), os.truncate(p, 500)),
        "unusable keypoints",
        "damaged",
    ),
    "pickle of 17 joints": (
        "a.pkl",
        lambda p: write_pickle(p, people(KEYPOINTS[:, :17], SCORES[:, :17])),
        "unusable keypoints",
        "17 joints",
    ),
    "nan in a pickle": (
        "a.pkl",
        lambda p: write_pickle(p, people(changed(KEYPOINTS, np.nan), SCORES)),
        "unusable keypoints",
        "finite",
    ),
    "damaged .pose": ("a.pose", lambda path: path.write_bytes(b"pose"), "unusable keypoints", "not a .pose file"),
    "word that no alphabet spells": ("spell://ase/Ж", lambda path: None, "unusable keypoints", "have no letter"),
}


def faults_of(*rows: Row, root: Path, **options: object) -> list[Fault]:
    return check_rows([(Path("m.parquet"), Manifest(list(rows), root))], max_frames=50, **options)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """With the keypoints of the row that is `FINE`."""
    write_keypoints(tmp_path / "fine.npz", PoseSequence(KEYPOINTS, SCORES, 25.0, (640, 480), "mediapipe"))
    return tmp_path


def test_rows_that_can_be_trained_on_have_no_fault(root: Path) -> None:
    write_pickle(root / "fine.pkl", people(KEYPOINTS, SCORES))
    rows = [FINE, replace(FINE, id="b", poses=str(root / "fine.pkl")), replace(FINE, id="c", poses="spell://ase/abc")]
    for task in ("translate", "recognise"):
        assert faults_of(*rows, root=root, task=task) == []


@pytest.mark.parametrize("case", BAD_KEYPOINTS)
def test_keypoints_that_break_training(root: Path, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, write, kind, said = BAD_KEYPOINTS[case]
    monkeypatch.chdir(root)  # where the malicious pickle would leave its trace
    write(root / name)
    bad = replace(FINE, id="bad", poses=name)
    (fault,) = faults_of(FINE, bad, root=root)
    assert (fault.manifest, fault.row, fault.id, fault.kind) == (Path("m.parquet"), 2, "bad", kind)
    assert said in fault.message and name in fault.message and "\n" not in fault.message
    assert not (root / "executed").exists()
    if kind == "unusable keypoints":
        with pytest.raises(InputError):  # as training would find
            load_poses(name, root)


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        ({"text": ""}, "no text", "empty"),
        ({"text": " \n"}, "no text", "empty"),
        ({"language": "german"}, "unknown language", "language 'german'"),
        ({"language": ""}, "unknown language", "language ''"),
        ({"language": "xx"}, "unknown language", "language 'xx'"),
        ({"sign_language": "de"}, "unknown language", "sign_language 'de'"),
        ({"sign_language": "DGS"}, "unknown language", "sign_language 'DGS'"),
        ({"sign_language": "zzx"}, "unknown language", "sign_language 'zzx'"),
        ({"id": "a/b"}, "unsafe id", "file name"),
        ({"id": ".."}, "unsafe id", "file name"),
        ({"id": "a\nb"}, "unsafe id", "file name"),
        ({"id": "fine"}, "duplicate id", "row 1"),
    ],
)
def test_rows_that_break_training(root: Path, change: dict[str, str], kind: str, said: str) -> None:
    (fault,) = faults_of(FINE, replace(FINE, **{"id": "bad", **change}), root=root)
    assert (fault.row, fault.kind) == (2, kind)
    assert said in fault.message


def test_the_task_decides_which_target_a_row_needs(root: Path) -> None:
    rows = [replace(FINE, id="a", text=""), replace(FINE, id="b", gloss=None), replace(FINE, id="c", gloss=" ")]
    assert [(f.id, f.kind) for f in faults_of(*rows, root=root)] == [("a", "no text")]
    found = [(f.id, f.kind) for f in faults_of(*rows, root=root, task="recognise")]
    assert found == [("b", "no gloss"), ("c", "no gloss")]


def test_a_row_is_told_all_its_faults_in_order_and_several_processes_find_the_same(root: Path) -> None:
    rows = [
        replace(FINE, id="a", text="", language="xx", poses="none.npz"),
        FINE,
        *(replace(FINE, id=f"{n}") for n in range(9)),
        replace(FINE, poses="none.npz"),
    ]
    done: list[int] = []
    faults = faults_of(*rows, root=root, workers=2, progress=lambda: done.append(1))
    kinds = [(fault.row, fault.kind) for fault in faults]
    assert kinds == [
        (1, "no text"),
        (1, "unknown language"),
        (1, "no keypoints"),
        (12, "duplicate id"),
        (12, "no keypoints"),
    ]
    assert len(done) == len(rows)
    assert faults == faults_of(*rows, root=root)


def test_of_a_sample_the_keypoints_are_read_and_what_rows_say_of_all(root: Path) -> None:
    rows = [replace(FINE, id=f"{n}", poses="none.npz", text="" if n == 5 else "a") for n in range(60)]
    write_manifest(root / "m.parquet", [*rows, rows[3]])
    done: list[int] = []
    found = faults_of(*rows, rows[3], root=root, sample=20, progress=lambda: done.append(1))
    kinds = [fault.kind for fault in found]
    assert len(done) == 20 == kinds.count("no keypoints")
    assert kinds.count("no text") == 1 and kinds[-1 if found[-1].kind == "duplicate id" else -2] == "duplicate id"
    assert found == faults_of(*rows, rows[3], root=root, sample=20)
    assert len({fault.row for fault in found if fault.row <= 30}) > 3 < len({f.row for f in found if f.row > 30})
    assert faults_of(*rows, root=root, sample=61) == faults_of(*rows, root=root)
    result = invoke(root / "m.parquet", "--sample", 20)
    assert result.exit_code == 3 and "rows: 61 checked, of 20 of them the keypoints, " in result.stderr
    refused = invoke(root / "m.parquet", "--sample", 20, "--clean", root / "c.parquet")
    assert refused.exit_code == 2 and "leave --sample out" in refused.stderr


@pytest.mark.parametrize("seed", range(3))
def test_rows_are_judged_by_column_as_one_by_one(root: Path, seed: int) -> None:
    """Whatever the columns let pass at once, Python's own rules let pass."""
    rng = np.random.default_rng(seed)
    odd = [*" /\\~.aä你😀\n", "", "..", "a b", "\x7f", "\u00a0", "\u2028", "\u0378", "\u0301", "\t.", "..."]
    words = ["".join(rng.choice(odd, rng.integers(0, 3))) for _ in range(300)]
    rows = [replace(FINE, id=word, text=words[-n], gloss=words[n // 2]) for n, word in enumerate(words)]
    for task, target in (("translate", "text"), ("recognise", "gloss")):
        found = {(f.row, f.kind) for f in faults_of(*rows, root=root, task=task, sample=1) if f.kind != "duplicate id"}
        unsafe = [w in ("", ".", "..") or any(c in "/\\" or not c.isprintable() for c in w) for w in words]
        expected = {(n, "unsafe id") for n, bad in enumerate(unsafe, 1) if bad}
        blank = [not (getattr(row, target) or "").strip() for row in rows]
        assert found == expected | {(n, "no " + target) for n, bad in enumerate(blank, 1) if bad}


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(check, [str(argument) for argument in (*arguments, "--workers", 1)])


def test_a_clean_corpus_is_silent_on_stdout_and_exits_0(root: Path) -> None:
    write_manifest(root / "m.parquet", [FINE])
    result = invoke(root / "m.parquet")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "rows: 1 checked, no faults" in result.stderr


def test_faults_are_lines_on_stdout_counted_on_stderr_and_exit_3(root: Path) -> None:
    write_manifest(root / "m.parquet", [FINE, replace(FINE, id="b", text="")])
    write_manifest(root / "n.jsonl", [replace(FINE, poses="none.npz"), replace(FINE, id="x y", text="")])
    result = invoke(root / "m.parquet", root / "n.jsonl")
    assert result.exit_code == 3
    assert result.stdout.splitlines() == [
        f"{root}/m.parquet:2 b: the text is empty",
        f"{root}/n.jsonl:1 fine: this is also the id of row 1 of {root}/m.parquet",
        f"{root}/n.jsonl:1 fine: {root}/none.npz: no such file; `signet-train extract-poses` makes it",
        f"{root}/n.jsonl:2 x y: the text is empty",
    ]
    assert "rows: 4 checked, 3 with faults (no text: 2, duplicate id: 1, no keypoints: 1)" in result.stderr


def test_max_frames_is_a_limit_that_can_be_set(root: Path) -> None:
    write_manifest(root / "m.parquet", [FINE])
    assert invoke(root / "m.parquet", "--max-frames", 6).exit_code == 0
    assert "6 frames, more than 5" in invoke(root / "m.parquet", "--max-frames", 5).stdout


def test_clean_writes_the_rows_without_faults_and_their_paths_still_lead_there(root: Path) -> None:
    absolute = replace(FINE, id="absolute", poses=str(root / "fine.npz"), video="/videos/a.mp4")
    spelled = replace(FINE, id="spelled", poses="spell://ase/%C3%A4?redrawn=re%20drawn")
    plain = replace(FINE, id="plain", poses="spell://ase/abc")
    rows = [replace(FINE, video="a.mp4"), replace(FINE, id="empty", text=""), absolute, plain]
    write_manifest(root / "m.parquet", rows)
    write_manifest(root / "n.jsonl", [FINE, replace(FINE, id="other")])
    (root / "out").mkdir()
    result = invoke(root / "m.parquet", root / "n.jsonl", "--clean", root / "out" / "clean.parquet")
    assert result.exit_code == 3
    assert f"rows: 4 without a fault in {root}/out/clean.parquet, 2 left out" in result.stderr
    cleaned = read_manifest(root / "out" / "clean.parquet")
    moved = replace(FINE, poses="../fine.npz", video="../a.mp4")
    assert cleaned.rows == [moved, absolute, plain, replace(FINE, id="other", poses="../fine.npz")]
    assert invoke(root / "out" / "clean.parquet").exit_code == 0

    from signet_train.data.check import without_faults

    (row,) = without_faults([], [(root / "m.parquet", Manifest([spelled], root))], root / "out")
    assert row.poses == "spell://ase/%C3%A4?redrawn=..%2Fre%20drawn"


def test_clips_of_a_pose_store_are_checked_and_moved_like_files(root: Path) -> None:
    write_store(root / "a.arrow", [("a/../b", load_poses("fine.npz", root)), ("off", nobody(root))])
    rows = [
        replace(FINE, id=name, poses=poses)
        for name, poses in [
            ("in", "a.arrow#a/../b"),
            ("absolute", f"{root}/a.arrow#a/../b"),
            ("other", "a.arrow#other"),
            ("none", "none.arrow#a"),
            ("off", "a.arrow#off"),
        ]
    ]
    write_manifest(root / "m.parquet", rows)
    (root / "out").mkdir()
    result = invoke(root / "m.parquet", "--clean", root / "out" / "m.parquet")
    assert result.stdout.splitlines() == [
        f"{root}/m.parquet:3 other: {root}/a.arrow: no clip 'other' in this pose store",
        f"{root}/m.parquet:4 none: {root}/none.arrow: no such pose store; `signet-train convert-poses` makes one",
        f"{root}/m.parquet:5 off: a.arrow#off: fewer than four confident joints of the upper body in 6 frames",
    ]
    cleaned = read_manifest(root / "out" / "m.parquet").rows
    assert [row.poses for row in cleaned] == ["../a.arrow#a/../b", f"{root}/a.arrow#a/../b"]
    assert invoke(root / "out" / "m.parquet").exit_code == 0
    (root / "a.arrow").write_bytes(b"damaged")
    assert "a.arrow#a/../b: " in (damaged := invoke(root / "m.parquet").stdout) and "not a pose store" in damaged


def nobody(root: Path) -> PoseSequence:
    return replace(load_poses("fine.npz", root), scores=nobody_above(0.2))


def test_clean_does_not_replace_what_it_reads(root: Path) -> None:
    write_manifest(root / "m.parquet", [FINE])
    assert invoke(root / "m.parquet", "--clean", root / "m.parquet").exit_code == 2
    assert invoke(root / "m.parquet", "--clean", root / "m.csv").exit_code == 2
    assert invoke(root / "m.parquet", root / "." / "m.parquet").exit_code == 2
    assert invoke(root / "m.parquet", "--clean", root / "missing" / "m.parquet").exit_code == 1  # without the group
    assert sorted(path.name for path in root.iterdir()) == ["fine.npz", "m.parquet"]
