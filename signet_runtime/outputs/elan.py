"""Translations as an ELAN document (.eaf, format 3.0): what sign linguists open beside the video.

Tiers: ``text``, and under it, with its times, ``confidence`` (the reliability, or the average probability of a token
where the bundle has no calibration) and ``expert`` (which of them were listened to, and how much). Where piece times
were asked for, also ``words``, in order of when they were read. Annotations of a tier do not overlap: where two would,
the later one begins at the end of the earlier.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from signet_runtime.outputs.words import words

if TYPE_CHECKING:
    from signet_runtime.translation import Translation

_SCHEMA = "http://www.mpi.nl/tools/elan/EAFv3.0.xsd"
_XSI = "http://www.w3.org/2001/XMLSchema-instance"
_MEDIA = {".mp4": "video/mp4", ".m4v": "video/mp4", ".mov": "video/quicktime", ".mpg": "video/mpeg"}

# Tier, what it holds of a translation, in the order in which ELAN shows them.
_TIERS = ("text", "confidence", "expert")


class Elan:
    """A document of one input; it is written when that has ended, for it begins with all of its times."""

    one_input = True

    def __init__(self) -> None:
        self._source = ""
        self._sentences: list[Translation] = []

    def add(self, source: str, translation: Translation) -> str | None:
        """Take a sentence; None, for nothing is written yet."""
        self._source = source
        if translation.complete:
            self._sentences.append(translation)
        return None

    def fail(self, source: str, message: str, *, alone: bool) -> str | None:
        """Return None: a document has no place for what failed."""
        return None

    def end(self) -> str | None:
        """Return the document; None where nothing was said."""
        if not self._sentences:
            return None
        return _document(self._source, self._sentences)


def _document(source: str, sentences: list[Translation]) -> str:
    ET.register_namespace("xsi", _XSI)
    root = ET.Element(
        "ANNOTATION_DOCUMENT",
        {
            "AUTHOR": "signet-translate",
            "DATE": datetime.now(UTC).isoformat(timespec="seconds"),
            "FORMAT": "3.0",
            "VERSION": "3.0",
            f"{{{_XSI}}}noNamespaceSchemaLocation": _SCHEMA,
        },
    )
    header = ET.SubElement(root, "HEADER", MEDIA_FILE="", TIME_UNITS="milliseconds")
    path = Path(source)
    if path.suffix.lower() in _MEDIA or path.is_file():
        kind = _MEDIA.get(path.suffix.lower(), "unknown")
        where = {"MEDIA_URL": path.absolute().as_uri(), "RELATIVE_MEDIA_URL": f"./{path.name}"}
        ET.SubElement(header, "MEDIA_DESCRIPTOR", {"MIME_TYPE": kind, **where})
    last_id = ET.SubElement(header, "PROPERTY", NAME="lastUsedAnnotationId")
    order = ET.SubElement(root, "TIME_ORDER")
    tiers: list[ET.Element] = []
    count = 0

    def slot(milliseconds: int) -> str:
        name = f"ts{len(order) + 1}"
        ET.SubElement(order, "TIME_SLOT", TIME_SLOT_ID=name, TIME_VALUE=str(milliseconds))
        return name

    def tier(name: str, spans: list[tuple[float, float, str]]) -> None:
        nonlocal count
        element = ET.Element("TIER", LINGUISTIC_TYPE_REF="default", TIER_ID=name)
        before = 0
        for start, end, value in spans:
            begin = max(before, round(start * 1000))
            before = max(begin + 1, round(end * 1000))
            count += 1
            annotation = ET.SubElement(
                ET.SubElement(element, "ANNOTATION"),
                "ALIGNABLE_ANNOTATION",
                ANNOTATION_ID=f"a{count}",
                TIME_SLOT_REF1=slot(begin),
                TIME_SLOT_REF2=slot(before),
            )
            ET.SubElement(annotation, "ANNOTATION_VALUE").text = _legal(value)
        tiers.append(element)

    for name in _TIERS:
        tier(name, [(s.start, s.end, _value(name, s)) for s in sentences])
    read = sorted((w.start, w.end, w.text) for s in sentences for w in words(s.pieces))
    if read:
        tier("words", read)
    last_id.text = str(count)
    order[:] = sorted(order, key=lambda element: int(element.attrib["TIME_VALUE"]))
    root.extend(tiers)
    linguistic_type = {"GRAPHIC_REFERENCES": "false", "LINGUISTIC_TYPE_ID": "default", "TIME_ALIGNABLE": "true"}
    ET.SubElement(root, "LINGUISTIC_TYPE", linguistic_type)
    ET.indent(root, "    ")
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _value(tier: str, sentence: Translation) -> str:
    if tier == "text":
        return " ".join(sentence.text.split())
    if tier == "confidence":
        if sentence.reliability is not None:
            return f"{sentence.reliability:.3f}" + (" suppressed" if sentence.suppressed else "")
        return "" if sentence.log_prob is None else f"{math.exp(sentence.log_prob):.3f} per token"
    weights = sorted(sentence.routing.items(), key=lambda item: -item[1])
    return " ".join(f"{name} {weight:.2f}" for name, weight in weights if weight > 0)


def _legal(text: str) -> str:
    """Leave out what XML cannot hold."""
    return re.sub("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "", text)
