"""The answer to a request that is not as it should be."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.responses import JSONResponse


async def _refuse(_: Request, error: RequestValidationError) -> JSONResponse:
    wrong = [{"loc": one["loc"], "msg": one["msg"], "type": one["type"]} for one in error.errors()]
    return JSONResponse({"detail": wrong}, status_code=422)


def refuse_without_echo(api: FastAPI) -> None:
    """Has `api` say what is wrong and where, but not repeat a text: it may be long, or no Unicode and so no JSON."""
    api.add_exception_handler(RequestValidationError, _refuse)  # type: ignore[arg-type]
