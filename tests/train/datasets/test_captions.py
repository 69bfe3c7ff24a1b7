from __future__ import annotations

import html
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from signet_runtime.errors import InputError
from signet_train.data.datasets.captions import Cue, read_captions

# What YouTube serves: every line rolls up once, and every phrase is shown twice more.
ROLLING = """WEBVTT
Kind: captions
Language: en

00:00:15.281 --> 00:00:17.483 align:start position:0%
 
Am<00:00:15.314><c>on</c><00:00:15.347><c>g </c><00:00:15.381><c>ot</c><00:00:15.414><c>he</c><00:00:15.447><c>rs </c>

00:00:17.483 --> 00:00:17.550 align:start position:0%
Among others
 

00:00:17.550 --> 00:00:20.586 align:start position:0%
Among others
th<00:00:17.583><c>is</c><00:00:17.616><c> o</c><00:00:17.650><c>ne</c>

00:00:20.586 --> 00:00:20.653 align:start position:0%
this one
 

00:00:20.653 --> 00:00:22.000 align:start position:0%
this one
okay
"""  # noqa: W293


def write(path: Path, content: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(content.encode(encoding))
    return path


def test_webvtt(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.vtt",
        "WEBVTT - title\nKind: captions\n\nNOTE not a cue\nnor this\n\nSTYLE\n::cue { color: red }\n\n"
        "first\n00:01.500 --> 00:02.000 line:0\n<v Roger>Hello, <i>world</i></v>\nagain\n\n"
        "01:00:00.000 --> 100:00:00.001\nR&amp;D&nbsp;&lt;b&gt; I <3 you {\\an8}\u200b\n",
    )
    assert read_captions(path) == [Cue(1.5, 2.0, "Hello, world again"), Cue(3600, 360000.001, "R&D <b> I <3 you")]


def test_subrip_with_byte_order_mark_and_carriage_returns(tmp_path: Path) -> None:
    content = "1\r\n00:00:01,000 --> 00:00:02,000\r\n<font color='red'>Grüße</font>\r\naus Köln\r\n\r\n2\r\n"
    path = write(tmp_path / "a.srt", f"{content}00:00:03,000 --> 00:00:04,000\r\nZwei\r\n", "utf-8-sig")
    assert read_captions(path) == [Cue(1, 2, "Grüße aus Köln"), Cue(3, 4, "Zwei")]


def test_rolling_captions_are_read_once(tmp_path: Path) -> None:
    path = write(tmp_path / "a.vtt", ROLLING)
    assert read_captions(path) == [
        Cue(15.281, 17.483, "Among others"),
        Cue(17.55, 20.586, "this one"),
        Cue(20.653, 22.0, "okay"),
    ]


def test_repetition_is_kept_where_captions_do_not_roll(tmp_path: Path) -> None:
    path = write(tmp_path / "a.vtt", "WEBVTT\n\n00:01.000 --> 00:02.000\nYes.\n\n00:02.000 --> 00:03.000\nYes.\n")
    assert [cue.text for cue in read_captions(path)] == ["Yes.", "Yes."]


def test_what_is_shown_together_is_one_cue_in_order_of_time(tmp_path: Path) -> None:
    cues = [("00:05.000 --> 00:06.000", "late"), ("00:01.000 --> 00:02.000", "one"), ("00:01.000 --> 00:02.000", "two")]
    cues += [cues[1], ("00:03.000 --> 00:03.000", "no time"), ("00:04.000 --> 00:05.000", "<i></i>")]
    path = write(tmp_path / "a.vtt", "WEBVTT\n\n" + "\n\n".join(f"{times}\n{text}" for times, text in cues))
    assert read_captions(path) == [Cue(1, 2, "one two"), Cue(5, 6, "late")]


_texts = st.lists(
    st.text(st.characters(exclude_categories=("C", "Z")), min_size=1).filter(lambda word: "{" not in word),
    min_size=1,
    max_size=4,
).map(" ".join)


@settings(deadline=None)
@given(
    cues=st.lists(
        st.tuples(st.integers(0, 10**8), st.integers(1, 10**5), _texts), max_size=6, unique_by=lambda cue: cue[:2]
    ),
    subrip=st.booleans(),
)
def test_whatever_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, cues: list[tuple[int, int, str]], subrip: bool
) -> None:
    def time(milliseconds: int) -> str:
        seconds = milliseconds // 1000
        mark = "," if subrip else "."
        return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{mark}{milliseconds % 1000:03}"

    blocks = [f"{time(a)} --> {time(a + d)}\n{html.escape(text)}\n" for a, d, text in cues]
    content = "\n".join(f"{i}\n{block}" for i, block in enumerate(blocks, 1))
    path = tmp_path_factory.mktemp("captions") / ("a.srt" if subrip else "a.vtt")
    write(path, content if subrip else f"WEBVTT\n\n{content}")
    assert read_captions(path) == [Cue(a / 1000, (a + d) / 1000, text) for a, d, text in sorted(cues)]


@settings(deadline=None)
@given(st.text("0123456789:.,-> \n<ci/&x"))
@example("00:00.000 --> 00:01.000\n<i>x</i>")
@example("00:00.000 --> 00:01.00")
def test_any_text_is_read_or_refused_with_a_reason(tmp_path_factory: pytest.TempPathFactory, content: str) -> None:
    path = tmp_path_factory.mktemp("captions") / "a.vtt"
    path.write_text(f"WEBVTT\n{content}", encoding="utf-8", errors="ignore")
    try:
        assert all(cue.text and cue.start < cue.end for cue in read_captions(path))
    except InputError as error:
        assert "line" in str(error)


def test_errors_name_file_and_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.vtt: line 3: 'x --> 00:02\.000' is not"):
        read_captions(write(tmp_path / "a.vtt", "WEBVTT\n\nx --> 00:02.000\ntext\n"))
    with pytest.raises(InputError, match=r"b\.vtt: line 1: not WebVTT"):
        read_captions(write(tmp_path / "b.vtt", "<html>Too many requests</html>"))
    with pytest.raises(InputError, match=r"c\.srt: captions must be UTF-8"):
        read_captions(write(tmp_path / "c.srt", "Grüße", "latin-1"))
    with pytest.raises(InputError, match=r"d\.srt: cannot be read"):
        read_captions(tmp_path / "d.srt")


@pytest.mark.parametrize("suffix", [".srt", ".vtt"])
@pytest.mark.parametrize("between", ["\n", " \n", "\t\n", "\r\n", " \n \n"])
def test_cues_are_apart_however_the_line_between_them_is_blank(tmp_path: Path, suffix: str, between: str) -> None:
    times = ["00:00:01,000 --> 00:00:02,500", "00:00:03,000 --> 00:00:04,500", "00:00:04,000 --> 00:00:05,000"]
    content = between.join(f"{n}\n{time}\nLine {n}.\n" for n, time in enumerate(times, 1))
    path = write(tmp_path / f"a{suffix}", ("WEBVTT\n\n" if suffix == ".vtt" else "") + content)
    assert [cue.text for cue in read_captions(path)] == ["Line 1.", "Line 2.", "Line 3."]  # the last two overlap


def test_subrip_without_lines_between_its_cues(tmp_path: Path) -> None:
    content = "1\n00:00:01,000 --> 00:00:02,000\nIn 1999\nand 2\n2\n00:00:03 --> 0:00:04\n42\n"
    assert read_captions(write(tmp_path / "a.srt", content)) == [Cue(1, 2, "In 1999 and 2"), Cue(3, 4, "42")]


def test_notes_styles_and_names_are_no_text(tmp_path: Path) -> None:
    content = (
        "WEBVTT\n\n00:01.000 --> 00:02.000\nOne\n \nNOTE no\nthing\n\nintro\n00:03.000 --> 00:04.000\n{i}Two{/i}\n"
    )
    content += " \nlast\n00:05.000 --> 00:06.000\n<00:05.100><c>Three</c>\n"
    assert [cue.text for cue in read_captions(write(tmp_path / "a.vtt", content))] == ["One", "Two", "Three"]


def test_windows_utf_16_is_read_and_a_number_beyond_all_letters_is_refused(tmp_path: Path) -> None:
    content = "1\r\n00:00:01,000 --> 00:00:02,000\r\nGrüße\r\n"
    for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32"):  # with a mark, and without one
        assert read_captions(write(tmp_path / "a.srt", content, encoding)) == [Cue(1, 2, "Grüße")]
    path = write(tmp_path / "b.srt", f"00:00:01,000 --> 00:00:02,000\n&#{'9' * 5000};\n")
    with pytest.raises(InputError, match=r"b\.srt: not captions"):
        read_captions(path)


def test_text_without_any_cue_is_no_subrip(tmp_path: Path) -> None:
    for content in ("1\n00:00:01,000 -> 00:00:02,000\nHello\n", "<html>Too many requests</html>"):
        with pytest.raises(InputError, match=r"a\.srt: no cue in it"):
            read_captions(write(tmp_path / "a.srt", content))
    assert read_captions(write(tmp_path / "b.srt", "\n \n")) == []


def test_breaks_of_substation_alpha_are_spaces(tmp_path: Path) -> None:
    content = "1\n00:00:01,000 --> 00:00:02,000\n{\\an8}One\\Ntwo\\hthree\n"
    assert read_captions(write(tmp_path / "a.srt", content)) == [Cue(1, 2, "One two three")]
