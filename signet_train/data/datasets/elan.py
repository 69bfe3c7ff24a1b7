"""ELAN's annotation files (.eaf): tiers of annotations, each with its times.

Only an annotation's outermost tier must have times of its own. Time slots between two annotations may be open, and
annotations of a dependent tier refer to one of another: ELAN shows these in equal parts of what is around them, or with
the times of the annotation that they belong to, and so they are read.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from signet_runtime.boundary import read_bounded, reading
from signet_runtime.errors import InputError


class Annotation(NamedTuple):
    """start, end: milliseconds; None where nothing says when it is."""

    id: str
    start: float | None
    end: float | None
    value: str


class Elan(NamedTuple):
    """tiers: annotations by tier, in the file's order, names in NFC. participants: of tiers that name one."""

    tiers: dict[str, list[Annotation]]
    participants: dict[str, str]
    document: ElementTree.Element


class _NoDoctype(ElementTree.TreeBuilder):
    """ELAN writes no DTD, and only a DTD can define entities, to expand or to fetch: none is ever looked at."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ValueError("it has a document type definition, which ELAN files do not have")


def read_elan(path: Path) -> Elan:
    """Return an ELAN file's annotations.

    Raises:
        InputError: not readable, not ELAN, or an annotation refers to a time slot or an annotation that is not there.
    """
    content = read_bounded(path, "text_bytes", InputError, "an ELAN file")
    with reading(path, InputError, "an ELAN file"):
        try:
            document = ElementTree.fromstring(content, ElementTree.XMLParser(target=_NoDoctype()))
        except ElementTree.ParseError as error:  # a SyntaxError, as of code
            raise ValueError(str(error)) from error
        slots = {slot.attrib["TIME_SLOT_ID"]: _number(slot.get("TIME_VALUE")) for slot in document.iter("TIME_SLOT")}
        entries = {name: _entries(tier) for tier in document.iter("TIER") for name in [tier.attrib["TIER_ID"]]}
        times = _times(entries, slots)
    tiers = {
        unicodedata.normalize("NFC", name): [
            Annotation(
                entry.attrib["ANNOTATION_ID"],
                *times[entry.attrib["ANNOTATION_ID"]],
                (entry.findtext("ANNOTATION_VALUE") or "").strip(),
            )
            for entry in of_tier
        ]
        for name, of_tier in entries.items()
    }
    participants = {
        unicodedata.normalize("NFC", tier.attrib["TIER_ID"]): tier.attrib["PARTICIPANT"]
        for tier in document.iter("TIER")
        if tier.get("PARTICIPANT")
    }
    return Elan(tiers, participants, document)


def _number(milliseconds: str | None) -> float | None:
    if milliseconds is None:
        return None
    if len(milliseconds) > 15:
        raise ValueError(f"the time {milliseconds[:15]}… is none")
    return float(int(milliseconds))


def _entries(tier: ElementTree.Element) -> list[ElementTree.Element]:
    return [entry for entry in tier.iter() if entry.tag in ("ALIGNABLE_ANNOTATION", "REF_ANNOTATION")]


_Times = tuple[float | None, float | None]


def _times(entries: dict[str, list[ElementTree.Element]], slots: dict[str, float | None]) -> dict[str, _Times]:
    """Return the start and end of every annotation by its id."""
    times: dict[str, _Times] = {}
    children: dict[tuple[str, str], list[str]] = defaultdict(list)  # by tier and parent, in the file's order
    after: dict[str, str | None] = {}  # what a part of a subdivided annotation follows
    for name, of_tier in entries.items():
        open_slots = _share(of_tier, slots)
        for entry in of_tier:
            identifier = entry.attrib["ANNOTATION_ID"]
            if entry.tag == "ALIGNABLE_ANNOTATION":
                first, last = (entry.get(f"TIME_SLOT_REF{i}") for i in (1, 2))
                start, end = (None if slot is None else open_slots[slot] for slot in (first, last))
                times[identifier] = start, end
            else:
                children[name, entry.attrib["ANNOTATION_REF"]].append(identifier)
                after[identifier] = entry.get("PREVIOUS_ANNOTATION")
    waiting = dict(children)
    while waiting:  # from the outermost tiers inwards
        ready = [key for key in waiting if key[1] in times]
        if not ready:
            raise LookupError(f"annotation {next(iter(waiting))[1]} is not there")
        for key in ready:
            parts = _in_order(waiting.pop(key), after)
            start, end = times[key[1]]
            for i, identifier in enumerate(parts):
                if start is None or end is None:
                    times[identifier] = None, None
                else:
                    length = (end - start) / len(parts)
                    times[identifier] = start + i * length, start + (i + 1) * length
    return times


def _in_order(parts: list[str], after: dict[str, str | None]) -> list[str]:
    """Return the parts of an annotation in the order in which each names the one before it, else in the file's."""
    following = {after[part]: part for part in parts if after[part] is not None}
    ordered = [part for part in parts if after[part] not in parts]
    for part in ordered:  # which grows
        if (later := following.get(part)) is not None and later not in ordered:
            ordered.insert(ordered.index(part) + 1, later)
    return ordered if len(ordered) == len(parts) else parts


def _share(of_tier: list[ElementTree.Element], slots: dict[str, float | None]) -> dict[str, float | None]:
    """Return the slots' times, the open ones of this tier in equal parts between those around them."""
    pairs = [(entry.get("TIME_SLOT_REF1"), entry.get("TIME_SLOT_REF2")) for entry in of_tier]
    following = {first: last for first, last in pairs if first in slots and last in slots}
    filled = dict(slots)
    for first, time in slots.items():
        if time is None or first not in following:
            continue
        chain = [following[first]]
        while slots[chain[-1]] is None and chain[-1] in following and len(chain) <= len(following):  # no circles
            chain.append(following[chain[-1]])
        end = slots[chain[-1]]
        if end is None:
            continue
        for i, slot in enumerate(chain[:-1], 1):
            filled[slot] = time + (end - time) * i / len(chain)
    return filled
