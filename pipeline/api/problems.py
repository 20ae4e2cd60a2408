"""Errors as RFC 9457 problem documents (`application/problem+json`): every answer of the API that is not 2xx.

Routes raise `Problem`; what FastAPI, Starlette and the database adapter raise is translated by handlers here.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from pipeline.api.models import ProblemDocument
from pipeline.errors import TransientError

log = logging.getLogger("wapipe.api")
MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 5
_SAFE = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}


class Problem(Exception):
    """A refusal with its document. `kind` is a slug that a client may branch on."""

    def __init__(self, status: int, kind: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(f"{status} {kind}: {detail}")
        self.status = status
        self.kind = kind
        self.detail = detail
        self.headers = headers


def bad_parameter(name: str, detail: str) -> Problem:
    """422 that names the parameter and says how to mend it."""
    return Problem(422, "bad-parameter", f"{name}: {detail}")


def problem_response(description: str) -> dict[str, Any]:
    """How OpenAPI describes a problem answer."""
    schema = {"$ref": "#/components/schemas/ProblemDocument"}
    return {"description": description, "content": {MEDIA_TYPE: {"schema": schema}}}


def answer(
    request: Request, status: int, kind: str, detail: str, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """The document as an answer. `type` is a relative URI: an identifier, relative to the API."""
    document = ProblemDocument(
        type=f"/problems/{kind}",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        instance=quote(request.scope["path"], safe="/@:+"),
    )
    return JSONResponse(document.model_dump(), status, {**_SAFE, **(headers or {})}, media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Makes `app` answer every error with a problem document."""
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(TransientError, _on_outage)
    app.add_exception_handler(Exception, _on_bug)


async def _on_problem(request: Request, exc: Exception) -> JSONResponse:
    assert isinstance(exc, Problem)
    return answer(request, exc.status, exc.kind, exc.detail, exc.headers)


async def _on_http(request: Request, exc: Exception) -> JSONResponse:
    """404 for an unknown path, 405 with its Allow header: raised by the router."""
    assert isinstance(exc, HTTPException)
    kind = {404: "no-such-path", 405: "method-not-allowed"}.get(exc.status_code, "http-error")
    details = {
        404: "There is nothing at this path; /docs shows what there is.",
        405: "This path is read with GET.",
    }
    return answer(request, exc.status_code, kind, details.get(exc.status_code, str(exc.detail)), exc.headers)


async def _on_validation(request: Request, exc: Exception) -> JSONResponse:
    assert isinstance(exc, RequestValidationError)
    return answer(request, 422, "bad-parameter", "; ".join(_sentences(exc.errors())))


async def _on_outage(request: Request, exc: Exception) -> JSONResponse:
    assert isinstance(exc, TransientError)
    log.warning("api.dependency_away", extra={"dependency": exc.dependency, "detail": exc.detail})
    return answer(
        request, 503, "dependency-away", f"{exc.dependency} does not answer; try again.",
        {"Retry-After": str(RETRY_AFTER_S)},
    )  # fmt: skip


async def _on_bug(request: Request, exc: Exception) -> JSONResponse:
    """The stack goes to the log (the server writes it), never to the client."""
    return answer(request, 500, "internal-error", "This is a fault of the server; its log says more.")


def _sentences(errors: Sequence[Any]) -> list[str]:
    """One for each parameter, without its value: a value may be a phone number."""
    found = []
    for error in errors:
        name = str(error["loc"][-1])
        unknown = error["type"] == "extra_forbidden"
        found.append(f"{name}: not a parameter of this list; /docs names those that are" if unknown
                     else f"{name}: {error['msg']}")  # fmt: skip
    return found
