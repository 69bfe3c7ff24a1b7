"""Codes of languages, spoken and signed, and what somebody may have meant by another word."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import iso639
import langcodes

# What people call a sign language by: as code some of these are another language's (dgs is Dogoso).
_ABBREVIATIONS = {
    "asl": "ase", "auslan": "asf", "bsl": "bfi", "csl": "csl", "dgs": "gsg", "dsgs": "sgg", "gsl": "gss", "isl": "ins",
    "jsl": "jsl", "ksl": "kvk", "libras": "bzs", "lis": "ise", "lgp": "psr", "lsa": "aed", "lsc": "csc", "lse": "ssp",
    "lsf": "fsl", "lsfb": "sfb", "lsm": "mfs", "lsq": "fcs", "ngt": "dse", "nzsl": "nzs", "ögs": "asq", "oegs": "asq",
    "pjm": "pso", "rsl": "rsl", "ssl": "swl", "stsl": "swl", "tid": "tsm", "tsl": "tss", "vgt": "vgt", "hksl": "hks",
    "irsl": "isg", "ksl-ke": "xki", "psl": "psp",
}  # fmt: skip
_IN_OTHER_WORDS = {"deutsch": "de", "français": "fr", "español": "es", "italiano": "it", "português": "pt"}
_IN_OTHER_WORDS |= {"mandarin": "zh", "中文": "zh", "汉语": "zh", "polski": "pl", "nederlands": "nl", "日本語": "ja"}
_UNLIKE_THE_OTHERS = {"asf", "ils", "sfb"}  # sign languages without "Sign Language" in their names


@lru_cache(maxsize=1)
def sign_languages() -> dict[str, str]:
    """Return the names of all sign languages by their ISO 639-3 codes."""
    found = {}
    for language in iso639.ALL_LANGUAGES:
        if language.part3 and ("sign language" in language.name.lower() or language.part3 in _UNLIKE_THE_OTHERS):
            found[language.part3] = language.name
    return found


def sign_language_problem(code: str) -> str | None:
    """Say what is wrong with the ISO 639-3 code of a sign language, and what may be meant; None if nothing is."""
    known = sign_languages()
    if code in known or code in ("und", "mul"):
        return None
    if len(code) == 3 and code.islower() and (named := _name(code)) is not None:
        what = f"is the code of {named}, which is not a sign language"
    else:
        what = "is not an ISO 639-3 code (gsg, ase)"
    word = code.strip().casefold()
    meant = [_ABBREVIATIONS[word]] if word in _ABBREVIATIONS else []
    meant += [key for key, name in known.items() if len(word) > 3 and name.casefold().startswith(word)]
    return f"sign_language {code!r} {what}{_question(meant, known)}"


def named_sign_language(words: Iterable[str]) -> str | None:
    """Return the sign language that one of some words is a name of (``DGS``, ``auslan``), as its code."""
    for word in words:
        code = _ABBREVIATIONS.get(word.casefold())
        if code is not None:
            return code
    return None


def language_problem(tag: str) -> str | None:
    """Say what is wrong with the BCP 47 tag of a text's language, and what may be meant; None if nothing is."""
    if langcodes.tag_is_valid(tag):
        if tag in sign_languages():
            return f"language {tag!r} is a sign language ({sign_languages()[tag]}), and not what a text is written in"
        return None
    word = tag.strip().casefold()
    meant = _IN_OTHER_WORDS.get(word)
    if meant is None:
        try:
            language = iso639.Language.match(tag.strip(), strict_case=False)
            meant = language.part1 or language.part3
        except iso639.LanguageNotFoundError:
            meant = None
    question = f": did you mean {meant}?" if meant else ""
    return f"language {tag!r} is not a BCP 47 tag (de, en, zh){question}"


def _name(code: str) -> str | None:
    try:
        return str(iso639.Language.from_part3(code).name)
    except iso639.LanguageNotFoundError:
        return None


def _question(meant: list[str], known: dict[str, str]) -> str:
    told = [f"{code} ({known[code]})" for code in dict.fromkeys(meant) if code in known][:3]
    return f": did you mean {' or '.join(told)}?" if told else ""
