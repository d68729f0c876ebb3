"""The HTTP interface: which path does what."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import HTMLResponse, Response

from kaizen import __version__
from kaizen.errors import KaizenError
from kaizen.files import tell
from kaizen.serving import pages
from kaizen.serving.guard import is_loopback, refusal
from kaizen.serving.service import Service
from kaizen.serving.uploads import Refused, read_images

# Those that the figures tell apart.
PATHS = (
    "/predict",
    "/embed",
    "/feedback",
    "/rollback",
    "/info",
    "/classes",
    "/healthz",
    "/metrics",
    "/",
    "/docs",
)


def make_app(service: Service) -> FastAPI:
    """The application; the OpenAPI document is at /openapi.json, and a page of it at /docs."""
    app = FastAPI(
        title="Kaizen",
        version=__version__,
        description="Which class an image is of, by the newest step of a run; the answer names it.",
        docs_url=None,
        redoc_url=None,
    )
    _add_answers(app, service)
    _add_state(app, service)
    _add_pages(app, service)

    async def refused(request: Request, error: Exception) -> Response:
        return refusal(error)

    async def not_here(request: Request, error: Exception) -> Response:
        status = getattr(error, "status_code", 404)
        return _json({"error": "there is no such page, or not by this method; see /docs"}, status)

    for kind in (Refused, KaizenError, Exception):
        app.add_exception_handler(kind, refused)
    for status in (404, 405):
        app.add_exception_handler(status, not_here)
    return app


def _add_answers(app: FastAPI, service: Service) -> None:
    body = {"requestBody": pages.IMAGES_BODY, "responses": pages.ERRORS}

    @app.post("/predict", summary="The classes of images", openapi_extra=body)
    async def predict(request: Request) -> Response:
        return _json(await service.predict(await read_images(request, service.limits)))

    @app.post("/embed", summary="The features of images", openapi_extra=body)
    async def embed(request: Request) -> Response:
        return _json(await service.embed(await read_images(request, service.limits)))

    @app.post(
        "/feedback",
        summary="Keep an image, with its class or without",
        openapi_extra={"requestBody": pages.FEEDBACK_BODY, "responses": pages.ERRORS},
    )
    async def feedback(request: Request) -> Response:
        asked = await read_images(request, service.limits, least=0)
        return _json(await service.take_feedback(asked))


def _add_state(app: FastAPI, service: Service) -> None:
    @app.post("/rollback", summary="Let the model before answer again; from this machine only")
    async def rollback(request: Request) -> Response:
        if request.client is None or not is_loopback(request.client.host):
            raise Refused(403, "a rollback is taken from the server's own machine only")
        try:
            served = service.deployment.roll_back()
        except KaizenError as error:
            raise Refused(409, str(error)) from error
        left = service.deployment.left[-1].found.name
        tell(f"rolled back: {served.found.name} answers again in the place of {left}")
        return _json({"model": served.named(), "rolled_back": left})

    @app.get("/info", summary="Which model answers, where it is from, what was refused and why")
    async def info() -> Response:
        loop = asyncio.get_running_loop()
        return _json(await loop.run_in_executor(service.others, service.info))

    @app.get("/classes", summary="The classes that the model knows")
    async def classes() -> Response:
        served = service.deployment.current
        return _json({"model": served.named(), "classes": list(served.model.classes)})

    @app.get("/healthz", summary="Whether the server answers")
    async def healthz() -> Response:
        return _json({"status": "ok", "model": service.deployment.current.named()})

    @app.get("/metrics", summary="Figures for Prometheus")
    async def metrics() -> Response:
        return Response(service.figures.text(), media_type="text/plain; version=0.0.4")


def _add_pages(app: FastAPI, service: Service) -> None:
    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return HTMLResponse(pages.front_page(service.collection is not None))

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return HTMLResponse(pages.openapi_page(app.openapi()))

    @app.get("/page/{name}", include_in_schema=False)
    async def static(name: str) -> Response:
        if name not in pages.STATIC:
            raise Refused(404, "there is no such page; / and /docs are")
        return Response(pages.text_of(name), media_type=pages.STATIC[name])


def _json(value: dict[str, Any], status: int = 200) -> Response:
    """JSON without spaces, in a line."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return Response(f"{text}\n", status, media_type="application/json")
