from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from xml.sax.saxutils import escape

import pytest

from signet_runtime.errors import InputError
from signet_train.data.datasets import reader
from signet_train.data.datasets.splits import hash_split
from signet_train.data.manifest import Row

Annotation = tuple[int, int, str]
TRANSLATION: list[Annotation] = [(5000, 6000, "Is it? "), (354148, 356223, "All Saints & co."), (7000, 8000, " ")]
SIGNS: list[Annotation] = [(355010, 356181, "FS:SAINT "), (354148, 354900, "ADD-TO-SIGNBANK(ALL THAT)"), (1, 2, "GOOD")]
MEDIA = {
    "file:///Volumes/corpus/Compressed%20Files/BF1+2c-comp.mov": {},
    "file:///Volumes/corpus/Compressed%20Files/BF2c-comp.mov": {"TIME_ORIGIN": "1500"},
}


def eaf(tiers: dict[str, list[Annotation]], media: dict[str, dict[str, str]] = MEDIA, prolog: str = "") -> str:
    """An ELAN document as version 5 writes it."""
    slots, parts = [], []
    for name, entries in tiers.items():
        parts.append(f'<TIER DEFAULT_LOCALE="en" LINGUISTIC_TYPE_REF="default-lt" TIER_ID="{name}">')
        for start, end, value in entries:
            references = []
            for time in (start, end):
                slots.append(f'<TIME_SLOT TIME_SLOT_ID="ts{len(slots) + 1}" TIME_VALUE="{time}"/>')
                references.append(f'TIME_SLOT_REF{len(references) + 1}="ts{len(slots)}"')
            parts.append(
                f'<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a{len(slots)}" {" ".join(references)}>'
                f"<ANNOTATION_VALUE>{escape(value)}</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>"
            )
        parts.append("</TIER>")
    linked = "".join(
        f'<MEDIA_DESCRIPTOR MEDIA_URL="{url}" MIME_TYPE="video/quicktime" '
        + " ".join(f'{name}="{value}"' for name, value in attributes.items())
        + "/>"
        for url, attributes in media.items()
    )
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n{prolog}<ANNOTATION_DOCUMENT AUTHOR="" FORMAT="2.8" VERSION="2.8">'
        f'<HEADER MEDIA_FILE="" TIME_UNITS="milliseconds">{linked}</HEADER>'
        f"<TIME_ORDER>{''.join(slots)}</TIME_ORDER>{''.join(parts)}</ANNOTATION_DOCUMENT>"
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    directory = tmp_path / "Conversation" / "Belfast"
    directory.mkdir(parents=True)
    tiers = {"RH-IDgloss": SIGNS, "LH-IDgloss": [(5000, 5500, "LEFT")], "Free Translation": TRANSLATION}
    (directory / "BF02M25WDC.eaf").write_text(eaf(tiers), encoding="utf-8")
    (directory / "BF03F25WDC.eaf").write_text(eaf({"RH-IDgloss": SIGNS}, media={}), encoding="utf-8")
    return tmp_path


def read(root: Path) -> list[Row]:
    return reader("bsl-corpus")(root)


def test_each_sentence_of_a_free_translation_is_a_row(
    root: Path, passes_check: Callable[[Iterable[Row]], None]
) -> None:
    first, second = read(root)
    assert (first.text, first.start, first.gloss) == ("Is it?", 6.5, None)
    assert second == Row(
        id="BF02M25WDC-354148-356223",
        split=hash_split("BF02", percent=5),
        poses="poses/BF02M25WDC-354148-356223.npz",
        text="All Saints & co.",
        language="en",
        sign_language="bfi",
        video=str(root / "Conversation" / "Belfast" / "BF2c.mov"),
        start=355.648,
        end=357.723,
        signer="BF02",
        gloss="ADD-TO-SIGNBANK(ALL-THAT) FS:SAINT",
    )
    passes_check([first, second])


def test_the_left_handed_s_glosses_are_the_left_hand_s(root: Path) -> None:
    directory = root / "Conversation" / "Belfast"
    (directory / "BF02M25WDC.eaf").rename(directory / "BF02M25WDC_LH.eaf")
    assert [row.gloss for row in read(root)] == ["LEFT", None]


@pytest.mark.parametrize("name", ["BF2c-comp.mov", "BF2c.mov", "BF2c.mp4"])
def test_the_signer_s_own_video_is_found_wherever_it_lies(root: Path, name: str) -> None:
    (root / "media").mkdir()
    (root / "media" / name).touch()
    (root / "media" / "BF1+2c.mov").touch()
    assert {row.video for row in read(root)} == {str(root / "media" / name)}


def rewrite(root: Path, content: str) -> None:
    (root / "Conversation" / "Belfast" / "BF02M25WDC.eaf").write_text(content, encoding="utf-8")


def test_no_document_type_is_looked_at(root: Path) -> None:
    bomb = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;"><!ENTITY c SYSTEM "file:///etc/passwd">]>\n'
    rewrite(root, eaf({"Free Translation": [(0, 1000, "x")]}, prolog=bomb))
    with pytest.raises(InputError, match=r"BF02M25WDC\.eaf: not an ELAN file.*document type"):
        read(root)


def test_errors(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(InputError, match=r"no ELAN file .*'Free Translation' below.*https://bslcorpusproject\.org"):
        read(tmp_path_factory.mktemp("empty"))
    good = eaf({"Free Translation": TRANSLATION})
    for content, message in (
        (good[:-30], r"not an ELAN file, or a damaged one"),
        ("", r"not an ELAN file, or a damaged one"),
        (good.replace("UTF-8", "no-such-encoding"), r"not an ELAN file, or a damaged one"),
        (good.replace(' TIME_VALUE="5000"', ""), r"tier 'Free Translation': annotation a2 has no times"),
        (good.replace('TIME_SLOT_REF1="ts1"', ""), r"tier 'Free Translation': annotation a2 has no times"),
        (good.replace('TIME_ORIGIN="1500"', 'TIME_ORIGIN="1.5 s"'), r"TIME_ORIGIN '1\.5 s' is not"),
        (eaf({"Free Translation": TRANSLATION}, media={}), r"names no video"),
    ):
        rewrite(root, content)
        with pytest.raises(InputError, match=rf"BF02M25WDC\.eaf: {message}"):
            read(root)


def test_open_time_slots_share_what_is_between_the_others(root: Path) -> None:
    rewrite(
        root,
        eaf({"Free Translation": [(1000, 2000, "One"), (2000, 3000, "Two"), (3000, 4000, "Three")]})
        .replace(' TIME_VALUE="2000"', "")
        .replace(' TIME_VALUE="3000"', "")
        .replace('TIME_SLOT_REF1="ts3"', 'TIME_SLOT_REF1="ts2"')
        .replace('TIME_SLOT_REF1="ts5"', 'TIME_SLOT_REF1="ts4"'),
    )
    assert [(row.text, row.start, row.end) for row in read(root)] == [
        ("One", 2.5, 3.5),
        ("Two", 3.5, 4.5),
        ("Three", 4.5, 5.5),
    ]


def test_annotations_that_belong_to_others_have_their_times(root: Path) -> None:
    def belonging(identifier: str, to: str, value: str) -> str:
        return (
            f'<ANNOTATION><REF_ANNOTATION ANNOTATION_ID="{identifier}" ANNOTATION_REF="{to}">'
            f"<ANNOTATION_VALUE>{value}</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION>"
        )

    tier = '<TIER TIER_ID="Free Translation" PARENT_REF="x">'
    tier += (
        belonging("r1", "a2", "Whole") + belonging("r2", "a4", "First") + belonging("r3", "a4", "Second") + "</TIER>"
    )
    content = eaf({"x": [(1000, 2000, "a"), (3000, 5000, "b")]})
    rewrite(root, content.replace("</ANNOTATION_DOCUMENT>", f"{tier}</ANNOTATION_DOCUMENT>"))
    assert [(row.text, row.start, row.end) for row in read(root)] == [
        ("Whole", 2.5, 3.5),
        ("First", 4.5, 5.5),
        ("Second", 5.5, 6.5),
    ]
    rewrite(
        root, content.replace("</ANNOTATION_DOCUMENT>", f"{tier}</ANNOTATION_DOCUMENT>").replace('REF="a4"', 'REF="no"')
    )
    with pytest.raises(InputError, match="annotation no is not there"):
        read(root)


def test_one_damaged_file_and_the_macs_own_stop_nobody(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    (root / "broken.eaf").write_text("<ANNOTATION_DOCUMENT>")
    (root / "._BF02M25WDC.eaf").write_bytes(b"\0\5\x16\7")
    assert len(read(root)) == 2
    assert "left out: " in caplog.text and "broken.eaf" in caplog.text and "._" not in caplog.text


def test_parts_of_an_annotation_are_in_the_order_in_which_they_follow_each_other(root: Path) -> None:
    def part(identifier: str, after: str | None, value: str) -> str:
        previous = f' PREVIOUS_ANNOTATION="{after}"' if after else ""
        return (
            f'<ANNOTATION><REF_ANNOTATION ANNOTATION_ID="{identifier}" ANNOTATION_REF="a2"{previous}>'
            f"<ANNOTATION_VALUE>{value}</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION>"
        )

    tier = '<TIER TIER_ID="Free Translation" PARENT_REF="x">'
    tier += (
        part("r2", "r1", "Second") + part("r4", "r3", "Fourth") + part("r3", "r2", "Third") + part("r1", None, "First")
    )
    content = eaf({"x": [(1000, 5000, "a")]})
    rewrite(root, content.replace("</ANNOTATION_DOCUMENT>", f"{tier}</TIER></ANNOTATION_DOCUMENT>"))
    found = sorted((row.start, row.text) for row in read(root))
    assert [text for _, text in found] == ["First", "Second", "Third", "Fourth"]
    assert [found[n + 1][0] - found[n][0] for n in range(3)] == pytest.approx([1, 1, 1])
