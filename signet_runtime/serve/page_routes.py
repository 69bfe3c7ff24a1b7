"""What the page asks besides translations: the skeleton that it draws, and sentences as files."""

from __future__ import annotations

from itertools import chain
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, ValidationError

from signet_runtime.overlay.drawing import COLOURS, drawn_edges
from signet_runtime.serve.answers import as_document
from signet_runtime.serve.names import shown_name
from signet_runtime.serve.problems import Problem
from signet_runtime.skeleton import REGIONS
from signet_runtime.translation import Translation

router = APIRouter(prefix="/v1", tags=["page"])

_LARGEST = 8_000_000  # bytes of sentences: those of hours
_LATEST = 1e7  # seconds; a format has so many digits


class Said(BaseModel):
    """What was said in a recording, as events told it."""

    model_config = ConfigDict(allow_inf_nan=False)

    input: str
    model: str = ""
    notes: list[str] = []
    sentences: list[Translation]


_BODY = {"requestBody": {"required": True, "content": {"application/json": {"schema": Said.model_json_schema()}}}}


@router.get("/skeleton", summary="The joints, edges and colour of each region, to draw poses by")
def skeleton() -> dict[str, Any]:
    """Return the regions as the overlay draws them; joints, and ends of edges, are positions in a pose's keypoints."""
    regions = {
        name: {
            "joints": region.joints,
            "edges": drawn_edges(name),
            "colour": "#{:02x}{:02x}{:02x}".format(*COLOURS[name]),
        }
        for name, region in REGIONS.items()
    }
    return {"regions": regions}


@router.post("/format", summary="Sentences as a file", openapi_extra=_BODY)
async def as_file(request: Request, format: Literal["json", "srt", "vtt", "eaf"]) -> Response:
    """Write sentences that were told as events, as those of a camera, in a format that `/v1/translate` answers in."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LARGEST:
            raise Problem(413, "too_large", f"more than the {_LARGEST / 1e6:g} MB of sentences that one file may have")
    try:
        said = Said.model_validate_json(bytes(body))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the body"
        raise Problem(400, "invalid", f"{where}: {first['msg']}") from error
    for number, sentence in enumerate(said.sentences):
        if not _is_possible(sentence):
            raise Problem(400, "invalid", f"sentences.{number}: a time or a probability that cannot be")
    return as_document(format, said.model, shown_name(said.input), said.sentences, said.notes)


def _is_possible(sentence: Translation) -> bool:
    """Whether every format has room for its figures."""
    pieces, others = sentence.pieces, sentence.alternatives
    places = chain((sentence.start, sentence.end), *((piece.start, piece.end) for piece in pieces))
    chances = chain((sentence.log_prob,), (piece.log_prob for piece in pieces), (other.log_prob for other in others))
    return all(0 <= at <= _LATEST for at in places if at is not None) and all(
        p <= 1e-3 for p in chances if p is not None
    )
