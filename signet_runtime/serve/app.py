"""The application: which paths there are, and what each does."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from signet_runtime.serve import page_routes
from signet_runtime.serve.answers import TYPES, EventAnswer, chosen_format, whole_answer
from signet_runtime.serve.documentation import add_documentation
from signet_runtime.serve.guard import Guard
from signet_runtime.serve.metrics import CONTENT_TYPE
from signet_runtime.serve.problems import Problem, disk_full
from signet_runtime.serve.scratch import scratch_directory, upload_directory
from signet_runtime.serve.service import Service
from signet_runtime.serve.settings import Settings
from signet_runtime.serve.stream import add_stream
from signet_runtime.serve.upload import GoneError, receive_upload

PAGE = Path(__file__).parent / "page"

_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}},
                }
            }
        },
    }
}

_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "what it says", "content": {kind: {} for kind in TYPES.values()}},
    **{
        status: {"description": text}
        for status, text in {
            400: "not the form that is asked for",
            401: "the token is missing",
            404: "no such model",
            408: "sent too slowly",
            413: "too large, or too long",
            415: "no recording that can be read",
            422: "a recording in which nobody signs, or that breaks off",
            503: "all places are taken, or the model is gone",
            504: "not done in time",
            507: "no room for the upload",
        }.items()
    },
}


def create_app(settings: Settings) -> FastAPI:
    """Return the application of a server; its models are read when it starts."""

    @contextlib.asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        with scratch_directory(settings.scratch) as scratch:
            app.state.service = service = Service(settings, scratch)
            try:
                await service.warm()
                yield
            finally:
                await service.close()

    app = FastAPI(
        title="SIGNET",
        summary="Sign-language translation: a video of a person signing in, text out.",
        version="1",
        lifespan=life,
        docs_url=None,
        redoc_url=None,
    )
    app.add_middleware(Guard, settings=settings)
    _add_problems(app)
    _add_routes(app)
    add_stream(app, settings, service_of)
    app.include_router(page_routes.router)
    add_documentation(app)
    if (PAGE / "index.html").is_file():
        app.mount("/", StaticFiles(directory=PAGE, html=True), name="page")
    return app


def _add_problems(app: FastAPI) -> None:
    @app.exception_handler(Problem)
    async def problem(request: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return JSONResponse(error.body(), error.status, error.headers())

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return JSONResponse(Problem(400, "invalid", f"{where}: {first['msg']}").body(), 400)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        code = {404: "not_found", 405: "no_such_method"}.get(error.status_code, "refused")
        body = Problem(error.status_code, code, f"{request.method} {request.url.path}: {error.detail}").body()
        return JSONResponse(body, error.status_code, dict(error.headers or {}))


def service_of(request: Any) -> Service:
    """Return what all requests share, from a request or a WebSocket."""
    service = request.app.state.service
    assert isinstance(service, Service)
    return service


def _add_routes(app: FastAPI) -> None:
    @app.get("/healthz", tags=["operation"], summary="Whether the server can do its work")
    async def health(request: Request) -> Response:
        stuck = service_of(request).lanes.overdue()
        return JSONResponse({"status": "stuck" if stuck else "ok"}, 503 if stuck else 200)

    @app.get("/metrics", tags=["operation"], summary="Counters, for Prometheus")
    async def metrics(request: Request) -> Response:
        return Response(service_of(request).metrics.shown(), media_type=CONTENT_TYPE)

    @app.get("/v1/models", tags=["translation"], summary="The models that are here, and what may be sent")
    def models(request: Request) -> dict[str, Any]:
        service = service_of(request)
        limits = service.settings.limits
        said = {"bytes": limits.size, "keypoints_bytes": limits.keypoints_size, "seconds": limits.length}
        return {"models": service.shelf.described(), "limits": said}

    @app.post(
        "/v1/translate",
        tags=["translation"],
        summary="Translate a recording",
        openapi_extra=_FORM,
        response_class=Response,
        responses=_ANSWERS,
    )
    async def translate(
        request: Request,
        model: Annotated[str | None, Query(max_length=200)] = None,
        format: Annotated[str | None, Query(max_length=20, description=f"one of {', '.join(TYPES)}")] = None,
        cut: Literal["auto", "always", "never"] = "auto",
    ) -> Response:
        """Translate a video, or a file of keypoints, in the field "file" of a form."""
        service = service_of(request)
        limits = service.settings.limits
        form = chosen_format(format, request.headers.get("accept", ""))
        name = await asyncio.to_thread(service.shelf.check, model)
        length = request.headers.get("content-length", "")
        async with contextlib.AsyncExitStack() as held:
            await held.enter_async_context(service.lanes.place())
            try:
                directory = held.enter_context(upload_directory(service.scratch))
            except OSError as error:
                raise disk_full(error) from error
            try:
                upload = await receive_upload(
                    request.receive,
                    request.headers.get("content-type", ""),
                    int(length) if length.isdecimal() else None,
                    directory,
                    limits,
                )
            except GoneError:
                return Response(status_code=499)
            service.metrics.uploaded.inc(upload.size)
            job = service.translate(name, upload, held.pop_all(), cut=cut, poses=form == "ndjson")
        if form == "ndjson":
            return EventAnswer(service, job, upload.name)
        try:
            return await whole_answer(request, service, job, name, upload.name, form)
        except GoneError:
            return Response(status_code=499)
