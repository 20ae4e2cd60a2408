"""The limit of the ingress: a bare Starlette that reads the body and answers 200, served as wapipe serves."""

from __future__ import annotations

import sys

import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pipeline.lifecycle import install_signals, serve_http, tune_gc


async def answer(request: Request) -> Response:
    await request.body()
    return Response(status_code=200)


async def main(port: int) -> None:
    stop = install_signals()
    tune_gc()
    app = Starlette(routes=[Route("/webhook", answer, methods=["POST"])])
    await serve_http(app, host="127.0.0.1", port=port, stop=stop, name="bare")


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
