"""The page at /docs: Swagger UI over /openapi.json, without the internet.

Its script and style come from the installed package fastapi-offline, whose files alone are used; FastAPI's
own page would load them from a CDN. It runs no inline script, so that a strict Content-Security-Policy holds.
"""

from __future__ import annotations

from importlib.resources import files

from fastapi import APIRouter
from starlette.responses import HTMLResponse, Response

from pipeline.api.problems import Problem

# Inline styles are Swagger UI's own doing, data: images its SVGs. Nothing but this server is ever contacted.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>wapipe query API</title>
<link rel="icon" href="docs/favicon.png">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<noscript>This page needs JavaScript; it shows <a href="openapi.json">openapi.json</a>.</noscript>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
_START = """SwaggerUIBundle({
  url: "openapi.json", dom_id: "#swagger-ui", deepLinking: true, tryItOutEnabled: true, validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis, SwaggerUIBundle.SwaggerUIStandalonePreset],
});
"""
_TYPES = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon.png": "image/png",
}
router = APIRouter(include_in_schema=False)


@router.get("/docs")
async def page() -> HTMLResponse:
    """The page itself."""
    return HTMLResponse(_PAGE, headers={"Content-Security-Policy": CONTENT_SECURITY_POLICY})


@router.get("/docs/{name}")
async def asset(name: str) -> Response:
    """A file of the page; kept by browsers for an hour."""
    if name == "start.js":
        content, media_type = _START.encode(), "text/javascript"
    elif name in _TYPES:
        content, media_type = (files("fastapi_offline") / "static" / name).read_bytes(), _TYPES[name]
    else:
        raise Problem(404, "no-such-path", "There is nothing at this path; /docs shows what there is.")
    return Response(content, media_type=media_type, headers={"Cache-Control": "public, max-age=3600"})
