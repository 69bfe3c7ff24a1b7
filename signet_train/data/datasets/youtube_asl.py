"""YouTube-ASL: captioned American Sign Language (ASL) videos on YouTube (Uthus, Tanzer and Georg, 2023).

Published are the videos' ids (CC BY 4.0), https://storage.googleapis.com/gresearch/youtube-asl/youtube_asl_video_ids.txt,
one a line; videos and captions stay under YouTube's terms, and each is as yt-dlp names it
(``yt-dlp --write-subs --sub-langs 'en.*' -o '%(id)s.%(ext)s'``), anywhere below the root::

    youtube_asl_video_ids.txt       or youtube-asl_youtube_asl_video_ids.txt, as the bucket's web page saves it
    videos/{video id}.mp4           or .mkv, .webm
    videos/{video id}.en.vtt        or .en-US.vtt, .en-GB.vtt, … or .srt; also .ase.vtt, which some uploaders choose

Each cue of a video's English captions is a row, as in the paper. Left out are cues of more than 300 characters,
under 0.2 s or over 60 s (the limits of https://github.com/balaboom123/Sign-Language-Preprocessing, which follows the
paper; the paper's own text could not be checked), and cues of nothing but bracketed sounds or music notes. Listed
videos without captions, most often gone from YouTube, have no rows.

The id is ``{video id}-{start}-{end}`` in milliseconds, so that keypoints always belong to the stretch they are named
after. No split is published, as videos disappear: by a hash, 1% of the videos is dev and 1% test.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import langcodes

from signet_runtime.errors import InputError
from signet_train.data.datasets.annotations import find_file, readable
from signet_train.data.datasets.captions import read_captions
from signet_train.data.datasets.splits import hash_split
from signet_train.data.manifest import Row
from signet_train.data.tree import files_below

VIDEO_ID = re.compile(r"[0-9A-Za-z_-]{11}")

_TRACK = re.compile(rf"({VIDEO_ID.pattern})\.([A-Za-z]{{2,3}}(?:-[0-9A-Za-z_-]+)?)\.(?:vtt|srt)")
_VIDEO = re.compile(rf"({VIDEO_ID.pattern})\.(?:mp4|mkv|webm)")
_SOUND = re.compile(r"\[[^\]]*\]|\([^)]*\)")
_MAX_CHARACTERS = 300
_SECONDS = (0.2, 60.0)


def read(root: Path) -> list[Row]:
    """Make a row for each cue of the English captions that were downloaded.

    Raises:
        InputError: no list of ids, a line of it is none, no captions of any of them, or a damaged caption file.
    """
    path = find_file(
        root,
        ["youtube_asl_video_ids.txt", "youtube-asl_youtube_asl_video_ids.txt"],
        "it is at https://storage.googleapis.com/gresearch/youtube-asl/youtube_asl_video_ids.txt",
    )
    return caption_rows(root, {video_id(line, where): "ase" for where, line in list_lines(path)}, {"ase": ("en",)})


def list_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yield where a line of a published list is (``file: line 7``), and the line, if it is not empty.

    Raises:
        InputError: not readable.
    """
    try:
        content = path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    for number, line in enumerate(content.split("\n"), 1):
        if line.strip():
            yield f"{path}: line {number}", line.strip()


def video_id(name: str, where: str) -> str:
    """Return ``name``, if it is a YouTube video's.

    Raises:
        InputError: it is not.
    """
    if not VIDEO_ID.fullmatch(name):
        raise InputError(f"{where}: {name!r} is not a YouTube video id")
    return name


def caption_rows(root: Path, listed: Mapping[str, str], written: Mapping[str, Sequence[str]]) -> list[Row]:
    """Make a row for each cue of the listed videos' captions, in the list's order.

    Args:
        listed: video id -> sign language.
        written: sign language -> what its signers' captions are written in, the most usual first. A video's other
            captions are translations, and not read.

    Raises:
        InputError: no captions of any listed video, or a damaged caption file.
    """
    tracks: dict[str, dict[str, Path]] = {}
    videos: dict[str, Path] = {}
    for path in files_below(root):
        if track := _TRACK.fullmatch(path.name):
            tracks.setdefault(track[1], {})[track[2]] = path
        elif video := _VIDEO.fullmatch(path.name):
            videos[video[1]] = path
    if tracks.keys().isdisjoint(listed):
        raise InputError(
            f"{root}: no captions of a listed video below, such as {next(iter(listed), 'ID')}.en.vtt; "
            "`yt-dlp --write-subs -o '%(id)s.%(ext)s'` downloads them with the videos"
        )
    rows = []
    own = {name: _own_track(tracks.get(name, {}), sign_language, written) for name, sign_language in listed.items()}
    chosen = {path: (name, language) for name, track in own.items() if track for language, path in [track]}
    for path, cues in readable(chosen, read_captions):
        name, language = chosen[path]
        sign_language = listed[name]
        for cue in cues:
            if not _SECONDS[0] <= cue.end - cue.start <= _SECONDS[1] or len(cue.text) > _MAX_CHARACTERS:
                continue
            if not re.search(r"\w", _SOUND.sub("", cue.text)):
                continue
            clip = f"{name}-{1000 * cue.start:.0f}-{1000 * cue.end:.0f}"
            rows.append(
                Row(
                    id=clip,
                    split=hash_split(name),
                    poses=f"poses/{clip}.npz",
                    text=cue.text,
                    language=language,
                    sign_language=sign_language,
                    video=str(videos.get(name, path.with_name(f"{name}.mp4"))),
                    start=cue.start,
                    end=cue.end,
                )
            )
    return rows


def _own_track(
    tracks: Mapping[str, Path], sign_language: str, written: Mapping[str, Sequence[str]]
) -> tuple[str, Path] | None:
    languages = {track: _language(track, written) for track in tracks}
    if sign_language not in written and len(set(languages.values())) == 1:
        wanted: Sequence[str] = tuple(languages.values())[:1]  # nothing says that these are translations
    else:
        wanted = written.get(sign_language, ())
    for language in wanted:
        of_language = [track for track in tracks if languages[track] == language]
        if of_language:
            # "en" rather than "en-GB" or, an uploader's second English track, "en-eEY6OEpapPo"
            return language, tracks[min(of_language, key=lambda track: (track != language, track))]
    return None


def _language(track: str, written: Mapping[str, Sequence[str]]) -> str:
    primary = track.split("-")[0].lower()
    if primary in written:  # uploaders tag captions with the sign language, too
        return written[primary][0]
    return langcodes.standardize_tag(primary)
