"""The two pages, which load nothing from elsewhere, and what the OpenAPI document says of bodies.

FastAPI's own page of the interface loads its JavaScript from a network of others; the one here is
made of the same document, works offline, and runs no script.
"""

from __future__ import annotations

import functools
import html
from collections.abc import Iterator
from importlib import resources
from typing import Any

STATIC = {
    "page.css": "text/css",
    "page.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}

_IMAGE = {"type": "string", "description": "an image file in base64; no URL"}
_LABEL = {"type": "string", "description": "the name of its class; without it, it has none"}
_ID = {"type": "string", "description": "the `id` of an answer of /predict"}
_TOP = {"type": "integer", "default": 5, "description": "how many classes to name"}
_FILE = {"type": "string", "format": "binary"}
_FILES = {"type": "array", "items": _FILE}


def _body(form: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    kinds = {"multipart/form-data": form, "application/json": values}
    return {
        "required": True,
        "content": {
            kind: {"schema": {"type": "object", "properties": properties}}
            for kind, properties in kinds.items()
        },
    }


IMAGES_BODY = _body(
    {"file": _FILES, "top": _TOP},
    {"images": {"type": "array", "items": _IMAGE}, "top": _TOP},
)
FEEDBACK_BODY = _body(
    {"file": _FILE, "label": _LABEL, "id": _ID},
    {"image": _IMAGE, "label": _LABEL, "id": _ID},
)
ERRORS = {
    str(status): {"description": text}
    for status, text in {
        400: "the request cannot be read",
        413: "too many bytes or images",
        422: "one of them is no image, or too large a picture",
        503: "too many requests at once; Retry-After says when to try again",
        504: "it took too long",
    }.items()
}


@functools.cache
def text_of(name: str) -> str:
    """A file of page/."""
    return (resources.files("kaizen.serving") / "page" / name).read_text(encoding="utf-8")


def front_page(collects: bool) -> str:
    """The page on which images are dropped; with ``collects`` it asks for feedback."""
    return text_of("page.html").replace("COLLECTS", "true" if collects else "false")


def openapi_page(document: dict[str, Any]) -> str:
    """An OpenAPI document for people."""
    parts = [part for path, methods in document["paths"].items() for part in _path(path, methods)]
    info = document["info"]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(info['title'])}: the interface</title>\n"
        '<link rel="stylesheet" href="page/page.css">\n<link rel="icon" href="page/icon.svg">\n'
        f"</head>\n<body>\n<main>\n<h1>{_text(info['title'])} {_text(info['version'])}</h1>\n"
        f"<p>{_text(info['description'])}</p>\n"
        '<p class="quiet">The same for programs: <a href="openapi.json">openapi.json</a>. '
        '<a href="./">Drop an image</a>.</p>\n' + "\n".join(parts) + "\n</main>\n</body>\n</html>\n"
    )


def _path(path: str, methods: dict[str, Any]) -> Iterator[str]:
    for method, about in methods.items():
        yield f"<h2><code>{_text(method.upper())} {_text(path)}</code></h2>"
        yield f"<p>{_text(about.get('summary', ''))}.</p>"
        content = about.get("requestBody", {}).get("content", {})
        for kind, body in content.items():
            yield f"<table><caption>{_text(kind)}</caption>"
            for name, schema in body["schema"]["properties"].items():
                words = schema.get("description") or schema.get("items", {}).get("description", "")
                default = f"; default: {schema['default']}" if "default" in schema else ""
                yield (
                    f'<tr><th scope="row"><code>{_text(name)}</code></th>'
                    f"<td>{_text(words or _kind(schema))}{_text(default)}</td></tr>"
                )
            yield "</table>"
        if content:
            yield f"<pre>curl -F file=@picture.png http://localhost:8000{_text(path)}</pre>"
            said = (f"{code}: {text['description']}" for code, text in about["responses"].items())
            yield f'<p class="quiet">{_text("; ".join(said))}</p>'


def _kind(schema: dict[str, Any]) -> str:
    return "one or several files" if schema["type"] == "array" else "a file"


def _text(value: object) -> str:
    return html.escape(str(value))
