"""The pose store gives back what went in, within what it promises, to any process; anything else is one line."""

from __future__ import annotations

import errno
import multiprocessing
import os
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from stores import write_store

from signet_runtime.errors import InputError, OutputError
from signet_runtime.pose.sequence import PoseSequence
from signet_runtime.regions import extract_regions
from signet_runtime.skeleton import CONFIDENCE
from signet_train.data.poses import load_poses, poses_exist, split_location
from signet_train.data.store.arrow import (
    FULL_HD,
    LARGEST_ERROR,
    PoseStore,
    StoreWriter,
    new_store,
    quantisation_error,
    quantise,
)


def sequence(seed: int = 0, frames: int = 9) -> PoseSequence:
    rng = np.random.default_rng(seed)
    return PoseSequence(
        rng.uniform(-0.5, 1.5, (frames, 133, 2)),
        rng.uniform(0, 1, (frames, 133)),
        25 + seed / 3,
        (1280, 720 + seed),
        f"rtmpose-{seed % 2}",
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_store(tmp_path / "a.arrow", ((f"clip#{seed}/ä", sequence(seed, 1 + seed)) for seed in range(5)))
    return tmp_path / "a.arrow"


def test_what_comes_out_is_what_went_in(path: Path) -> None:
    store = PoseStore.open(path)
    assert store.ids == [f"clip#{seed}/ä" for seed in range(5)] and len(store) == 5
    assert "clip#3/ä" in store and "clip" not in store
    for seed in (3, 0, 4, 1, 2):
        before, after = sequence(seed, 1 + seed), store[f"clip#{seed}/ä"]
        assert (after.fps, after.size, after.source) == (before.fps, before.size, before.source)
        assert after.keypoints.dtype == after.scores.dtype == np.float32
        assert np.abs((after.keypoints - before.keypoints) * FULL_HD).max() <= 0.03  # a range of two frames
        np.testing.assert_allclose(after.scores, before.scores, atol=2e-5)
    assert [path.name for path in path.parent.iterdir()] == ["a.arrow"]


def test_a_clip_is_all_that_a_pose_sequence_is(path: Path) -> None:
    clip = PoseStore.open(path)["clip#4/ä"]
    checked = PoseSequence(clip.keypoints, clip.scores, clip.fps, clip.size, clip.source)  # which would raise
    assert checked.take(np.array([2, 0])).resample(10).fps == 10
    for name, region in extract_regions(clip).items():
        np.testing.assert_array_equal(region, extract_regions(checked)[name])
    clip.keypoints[:] = 7  # is its own
    assert PoseStore.open(path)["clip#4/ä"].keypoints.max() < 2


@given(
    npst.arrays(np.float32, (2, 133, 2), elements=st.floats(-8, 8.5, width=32), fill=st.floats(-8, 8.5, width=32)),
    npst.arrays(np.float32, (2, 133), elements=st.floats(0, 1, width=32), fill=st.floats(0, 1, width=32)),
)
def test_errors_are_within_the_limit_and_scores_stay_on_their_side(points: np.ndarray, scores: np.ndarray) -> None:
    before = PoseSequence(points, scores, 25, (1920, 1080), "a")
    clip = quantise(before)
    levels = np.frombuffer(clip.levels, "<u2").reshape(3, 2, 133)
    assert quantisation_error(before, clip) <= LARGEST_ERROR + 1e-3  # of float32
    np.testing.assert_array_equal(levels[2] / 65535 > CONFIDENCE, scores.astype(np.float64) > CONFIDENCE)


def test_scores_beside_the_confidence_filter_stay_on_their_side(tmp_path: Path) -> None:
    edge = np.float32(CONFIDENCE)
    near = [np.nextafter(edge, np.float32(0)), edge, np.nextafter(edge, np.float32(1)), 0.29999, 0.30001, 0, 1, 1e-9]
    scores = np.resize(np.array(near, np.float32), (3, 133))
    write_store(tmp_path / "a.arrow", [("a", PoseSequence(np.zeros((3, 133, 2)), scores, 25, (1, 1), "a"))])
    after = PoseStore.open(tmp_path / "a.arrow")["a"].scores
    # In fp64, as `extract_regions` compares.
    np.testing.assert_array_equal(after.astype(np.float64) > CONFIDENCE, scores.astype(np.float64) > CONFIDENCE)
    assert set(after[scores == 1]) == {1.0} and set(after[scores == 0]) == {0.0}


def test_joints_that_were_not_found_do_not_widen_the_range() -> None:
    points, scores = np.full((2, 133, 2), 0.5), np.ones((2, 133))
    points[0, 0], points[1, 1] = (0.25, 0.75), (-500, 9000)
    scores[1, 1] = 0
    clip = quantise(PoseSequence(points, scores, 25, (1, 1), "a"))
    assert clip.low == (0.25, 0.5) and clip.step[0] == pytest.approx(0.25 / 65535)
    scores[1, 1] = 0.01
    with pytest.raises(InputError, match=r"spread over 50[01].* widths .* within 0\.25 pixels"):
        quantise(PoseSequence(points, scores, 25, (1, 1), "a"))


def test_an_id_twice_names_both_files_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"b\.pkl: the id 'x' is also that of a\.pkl"):  # noqa: SIM117
        with new_store(tmp_path / "a.arrow") as store:
            store.add("x", quantise(sequence()), origin="a.pkl")
            store.add("x", quantise(sequence()), origin="b.pkl")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_the_old_store_and_nothing_else(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()

    def full(_: StoreWriter) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(StoreWriter, "flush", full)
    with pytest.raises(OutputError, match="No space left"):
        write_store(path, [("x", sequence())])
    assert path.read_bytes() == before and list(path.parent.iterdir()) == [path]


def test_many_batches_are_one_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("signet_train.data.store.arrow._BATCH", 20_000)
    write_store(tmp_path / "a.arrow", ((str(seed), sequence(seed)) for seed in range(20)))
    with pa.ipc.open_file(tmp_path / "a.arrow") as file:
        assert file.num_record_batches > 3
    store = PoseStore.open(tmp_path / "a.arrow")
    for seed in range(20):
        np.testing.assert_allclose(store[str(seed)].keypoints, sequence(seed).keypoints, atol=2e-5)
    write_store(tmp_path / "none.arrow", [])
    assert PoseStore.open(tmp_path / "none.arrow").ids == []


# --- By location, in any process ----------------------------------------------------------------------------


def test_a_location_is_a_clip_of_a_store_beside_the_manifest(path: Path) -> None:
    root = path.parent
    assert split_location("poses/a.arrow#b#c.pkl") == ("poses/a.arrow", "b#c.pkl")
    assert split_location("odd#name.pkl") == ("odd#name.pkl", None)
    assert len(load_poses("a.arrow#clip#3/ä", root)) == len(load_poses(f"{path}#clip#3/ä", Path("/elsewhere"))) == 4
    assert poses_exist("a.arrow#clip#3/ä", root) and poses_exist("spell://ase/abc", root)
    assert not any(poses_exist(name, root) for name in ("a.arrow#other", "b.arrow#clip#3/ä", "a.npz", ".", "a.arrow#"))
    (root / "odd#name.pkl").touch()
    assert poses_exist("odd#name.pkl", root)
    with pytest.raises(InputError, match=r"a\.arrow#other: no such clip among the 5"):
        load_poses("a.arrow#other", root)
    with pytest.raises(InputError, match=r"b\.arrow: .*signet-train convert-poses"):
        load_poses("b.arrow#other", root)


def test_a_store_is_opened_once_and_again_when_it_is_another(path: Path) -> None:
    store = PoseStore.open(path)
    assert PoseStore.open(str(path)) is store
    write_store(path, [("new", sequence(1))])
    assert PoseStore.open(path).ids == ["new"]
    assert len(store["clip#2/ä"]) == 3  # the old one is there for those who have it


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_other_processes_read_it_however_they_began(path: Path, method: str) -> None:
    here = load_poses("a.arrow#clip#4/ä", path.parent)  # so a fork has it open
    with multiprocessing.get_context(method).Pool(2) as pool:
        for there in pool.starmap(load_poses, [("a.arrow#clip#4/ä", path.parent)] * 4):
            np.testing.assert_array_equal(there.keypoints, here.keypoints)
    again = pickle.loads(pickle.dumps(PoseStore.open(path)))
    assert again.ids == PoseStore.open(path).ids
    assert len(pickle.dumps(again)) < 1000  # not the clips


# --- Damaged and foreign files ------------------------------------------------------------------------------


def test_damaged_and_foreign_files_are_one_line(path: Path) -> None:
    whole = path.read_bytes()
    table = pa.ipc.open_file(path).read_all()
    bad = path.with_name("bad.arrow")

    def write(other: pa.Table, **options: object) -> None:
        with pa.ipc.new_file(bad, other.schema, options=pa.ipc.IpcWriteOptions(**options)) as file:
            file.write_table(other)

    def without(name: str, values: list) -> pa.Table:
        i = table.schema.get_field_index(name)
        return table.set_column(i, table.schema.field(i), pa.array(values, table.schema.field(i).type))

    cases = {
        "empty": lambda: bad.write_bytes(b""),
        "cut": lambda: bad.write_bytes(whole[:-500]),
        "half": lambda: bad.write_bytes(whole[: len(whole) // 2]),
        "text": lambda: bad.write_bytes(b"hello" * 100),
        "another table": lambda: write(pa.table({"id": ["a"]})),
        "another version": lambda: write(table.replace_schema_metadata({"signet_pose_store": "2"})),
        "compressed": lambda: write(table, compression="zstd"),
        "ids twice": lambda: write(without("id", ["a"] * 5)),
        "no ids": lambda: write(without("id", [None] * 5)),
        "half frames": lambda: write(without("levels", [b"\0" * 797] * 5)),
        "no frames": lambda: write(without("levels", [b""] * 5)),
        "no rate": lambda: write(without("fps", [0.0] * 5)),
        "NaN": lambda: write(without("low_x", [np.nan] * 5)),
        "huge": lambda: write(without("step_y", [1e300] * 5)),
    }
    for name, make in cases.items():
        make()
        with pytest.raises(InputError) as error:
            PoseStore.open(bad)
        message = str(error.value)
        assert message.startswith(f"{bad}: ") and "\n" not in message, name
    with pytest.raises(InputError, match="not a pose store"):
        poses_exist("bad.arrow#a", path.parent)
    for missing in (path.parent / "none.arrow", path.parent):
        with pytest.raises(InputError):
            PoseStore.open(missing)
    with pytest.raises(OutputError, match=r"is an \.arrow file"):
        write_store(path.with_suffix(".npz"), [])


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(-3000, 3000), st.integers(0, 255)), min_size=1, max_size=4))
def test_flipped_bytes_are_refused_or_still_sequences(path: Path, flips: list[tuple[int, int]]) -> None:
    data = bytearray(path.read_bytes())
    for at, value in flips:  # the beginning and the end, where everything but the frames is
        data[at % len(data)] = value
    bad = path.with_name("bad.arrow")
    bad.unlink(missing_ok=True)  # another file: the one before may be mapped
    bad.write_bytes(data)
    try:
        store = PoseStore(bad)
        for clip_id in store.ids:
            clip = store[clip_id]
            assert np.isfinite(clip.keypoints).all() and clip.scores.min() >= 0 and clip.scores.max() <= 1
    except InputError as error:
        assert "\n" not in str(error)
