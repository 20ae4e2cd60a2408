"""/health, /ready and /metrics of the API: for orchestrators, load balancers and Prometheus.

They ask for no token and show no private data.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version

from fastapi import APIRouter, Request

from pipeline.api.models import Health
from pipeline.api.problems import RETRY_AFTER_S, Problem, problem_response
from pipeline.api.store import Store
from pipeline.health import metrics_endpoint

router = APIRouter()


@cache
def installed_version() -> str:
    """The version of the installed distribution; 0 in a checkout that is not installed."""
    try:
        return version("wapipe")
    except PackageNotFoundError:
        return "0"


@router.get("/health", operation_id="health")
async def health() -> Health:
    """200 as long as the process lives, whatever its dependencies do."""
    return Health(status="ok", name="wapipe api", version=installed_version())


@router.get("/ready", operation_id="ready", responses={503: problem_response("Away, or not migrated.")})
async def ready(request: Request) -> Health:
    """200 when the database answers and is migrated."""
    store: Store = request.app.state.store
    reason = await store.not_ready()
    if reason is not None:
        raise Problem(503, "not-ready", reason, {"Retry-After": str(RETRY_AFTER_S)})
    return Health(status="ready", name="wapipe api", version=installed_version())


router.add_route("/metrics", metrics_endpoint, include_in_schema=False)
