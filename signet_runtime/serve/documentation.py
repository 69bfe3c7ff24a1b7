"""The page at /docs: what `/openapi.json` says, for people; without a script, and with nothing from elsewhere."""

from __future__ import annotations

from html import escape
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse

_STYLE = """
:root { color-scheme: light dark; font: 1rem/1.5 system-ui, sans-serif; }
body { max-width: 50rem; margin: 0 auto; padding: 1rem; }
code, pre { font-family: ui-monospace, monospace; }
pre { overflow-x: auto; padding: .75rem; border: 1px solid; border-radius: .25rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .25rem .5rem; border-bottom: 1px solid; }
"""

# What OpenAPI has no words for.
_STREAM = """
<h2 id="stream"><code>WebSocket /v1/stream?model=NAME</code></h2>
<p>Pictures or keypoints in, sentences out. The first message is text:</p>
<pre>{"type": "start", "source": "frames"}
{"type": "start", "source": "keypoints", "size": [640, 480]}</pre>
<p>It may have <code>"token"</code>, where the server asks for one and the client can send no header, and
<code>"partial"</code>, the seconds after which to say what there is of a sentence. Wait for <code>ready</code>, and
then send, for frames, binary messages: the time in seconds as a little-endian float64, and a JPEG or WebP picture; for
keypoints text, in fractions of the picture:</p>
<pre>{"type": "keypoints", "time": 0.04, "keypoints": [[0.5, 0.5], … 133], "scores": [1.0, … 133]}</pre>
<p>and at last <code>{"type": "end"}</code>. One message every 1/<code>frame_rate</code> seconds is enough.</p>
<h2 id="events">Events</h2>
<p>What the socket sends, and <code>/v1/translate</code> as lines with <code>?format=ndjson</code>:</p>
<table><thead><tr><th scope="col">type</th><th scope="col">holds</th></tr></thead><tbody>
<tr><td>ready</td><td>model, frame_rate (of its clock; null: the recording's own), size (of a recording's
pictures)</td></tr>
<tr><td>pose</td><td>time (s), keypoints (133 of x and y, in fractions), scores</td></tr>
<tr><td>progress</td><td>position, duration (s; null while it is not known)</td></tr>
<tr><td>notice</td><td>message: what was assumed, chosen or left out</td></tr>
<tr><td>partial</td><td>start (s), text: what there is of a sentence</td></tr>
<tr><td>sentence</td><td>text, start, end, reliability, routing by expert: an object of
<code>signet-translate --format json</code></td></tr>
<tr><td>error</td><td>code, message, retry_after (s, where that may help); nothing comes after it</td></tr>
<tr><td>end</td><td></td></tr>
</tbody></table>
<h2 id="errors">Errors</h2>
<p>Every other status has <code>{"error": {"code", "message"}}</code>; 503 has <code>Retry-After</code> where all places
are taken.</p>
"""


def add_documentation(app: FastAPI) -> None:
    """Add the page and its style to an application."""

    @app.get("/docs", include_in_schema=False)
    def docs(request: Request) -> Response:
        return HTMLResponse(_page(app.openapi()))

    @app.get("/docs.css", include_in_schema=False)
    def style(request: Request) -> Response:
        return Response(_STYLE, media_type="text/css")


def _page(description: dict[str, Any]) -> str:
    info = description["info"]
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<title>{escape(info["title"])} API</title><link rel="stylesheet" href="docs.css"></head><body><main>',
        f"<h1>{escape(info['title'])} API</h1><p>{escape(info['summary'])} ",
        'The same for programs: <a href="openapi.json">openapi.json</a>.</p>',
    ]
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            parts.append(_operation(path, method, operation))
    parts.append(_STREAM)
    parts.append("</main></body></html>\n")
    return "".join(parts)


def _operation(path: str, method: str, operation: dict[str, Any]) -> str:
    parts = [f"<h2><code>{method.upper()} {escape(path)}</code></h2><p>{escape(operation['summary'])}.</p>"]
    if "description" in operation:
        parts.append(f"<p>{escape(operation['description'])}</p>")
    rows = [
        (parameter["name"], f"?{parameter['name']}=", _kind(parameter["schema"]))
        for parameter in operation.get("parameters", [])
    ]
    body = operation.get("requestBody", {}).get("content", {})
    for kind, content in body.items():
        rows += [(name, f"field of {kind}", _kind(field)) for name, field in content["schema"]["properties"].items()]
    if rows:
        cells = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
        heads = "".join(f'<th scope="col">{head}</th>' for head in ("name", "where", "what"))
        parts.append(f"<table><thead><tr>{heads}</tr></thead><tbody>{cells}</tbody></table>")
    statuses = "; ".join(
        f"{status}: {answer['description']}" for status, answer in operation.get("responses", {}).items()
    )
    parts.append(f"<p>Answers {escape(statuses)}.</p>")
    return "".join(parts)


def _kind(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        kinds = [_kind(part) for part in schema["anyOf"] if part.get("type") != "null"]
        told = ", or ".join(kinds)
    elif "enum" in schema:
        told = ", ".join(map(str, schema["enum"]))
    else:
        told = "a file" if schema.get("format") == "binary" else str(schema.get("type", ""))
    more = [schema["description"]] if "description" in schema else []
    if "default" in schema and schema["default"] is not None:
        more.append(f"{schema['default']} if nothing is said")
    return "; ".join([told, *more])
