"""What each route does: reads the request, asks the controller, and gives the answer the form that Ray's tools expect.

It must not know connections, tokens or the controller itself.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import msgspec

from eagleray.admin.body import parse_object
from eagleray.admin.exposition import Exposition
from eagleray.admin.gate import Refusal
from eagleray.admin.operations import Operations
from eagleray.admin.records import Reading
from eagleray.admin.routes import Action, Match, openapi
from eagleray.admin.tokens import Role
from eagleray.base.errors import ConfigError, EaglerayError, NotFoundError, PreconditionError
from eagleray.http.response import TEXT
from eagleray.spec.base import MAX_REPLICAS
from eagleray.wire.messages import Headers

logger = logging.getLogger("eagleray.admin")

RAY_VERSION = "2.60.0"
"""The version of Ray whose API this is; Ray's own clients refuse servers that are too old for them."""

_REST_VERSION = "4"
"""That of the REST API, as Ray numbers it."""

_JSON: Headers = [(b"content-type", b"application/json")]
_API_TYPES = ("imperative", "declarative")
_SCALED = "Scaling request received. Deployment will get scaled asynchronously."
_MAX_WARNINGS_BYTES = 8192


@dataclass(frozen=True)
class Call:
    """A request that may come in; its body is complete. `query` is as it stands behind the `?`."""

    match: Match
    role: Role
    query: str = ""
    body: bytes = b""
    is_yaml: bool = False
    accept: str = ""


@dataclass(frozen=True)
class Answer:
    """`what` is for the audit log."""

    status: int = 200
    headers: Headers = field(default_factory=list)
    body: bytes = b""
    what: str = ""


class Actions:
    """`version` is Eagleray's own, `session` the name of the instance's session."""

    def __init__(
        self, operations: Operations, version: str, session: str, exposition: Exposition, reading: Reading
    ) -> None:
        self._exposition = exposition
        self._reading = reading
        self._operations = operations
        self._version = version
        self._session = session

    async def perform(self, call: Call) -> Answer:
        """Never raises but CancelledError: whatever fails is an answer."""
        action = call.match.route.action
        perform: Callable[[Call], Awaitable[Answer]] = getattr(self, f"_{action}")
        try:
            return await perform(call)
        except Refusal as refusal:
            return _failed(action, refusal.status, refusal.text)
        except NotFoundError as error:
            text = "Application or Deployment not found" if action == "scale" else str(error)
            return _failed(action, 404, text)
        except PreconditionError as error:
            return _failed(action, 412, str(error))
        except ConfigError as error:
            return _failed(action, 400, str(error))
        except EaglerayError as error:
            return _failed(action, 503, str(error))
        except Exception:
            logger.exception("The request '%s' of the REST API has failed.", action)
            return _failed(
                action, 503, f"'{action}' failed inside the controller; its log has the traceback."
            )

    # ---- reading -----------------------------------------------------------------------------------------------

    async def _get_details(self, call: Call) -> Answer:
        wanted = _last(call.query, "api_type")
        if wanted and wanted.lower() not in _API_TYPES:
            text = f"Invalid 'api_type' value: '{wanted}'. Must be one of: {', '.join(_API_TYPES)}"
            return Answer(400, TEXT, text.encode("utf-8", "replace"))
        if _flag(call.query, "routed"):
            await self._operations.wait_routed()
        return _json(self._operations.details(wanted.lower() or None))

    async def _get_application(self, call: Call) -> Answer:
        return _json(self._application(call.match.variables["name"]))

    def _application(self, name: str) -> dict[str, Any]:
        applications: dict[str, dict[str, Any]] = self._operations.details(None)["applications"]
        if name not in applications:
            raise NotFoundError(f'Application "{name}" does not exist.')
        return applications[name]

    async def _get_version(self, call: Call) -> Answer:
        return _json(
            {
                "version": _REST_VERSION,
                "ray_version": RAY_VERSION,
                "ray_commit": "",
                "session_name": self._session,
                "eagleray_version": self._version,
            }
        )

    async def _get_openapi(self, call: Call) -> Answer:
        return _json(openapi(self._version))

    async def _get_metrics(self, call: Call) -> Answer:
        kind, body = await self._exposition.read(call.accept)
        return Answer(200, [(b"content-type", kind)], body)

    async def _get_history(self, call: Call) -> Answer:
        return _json(await self._reading.history(call.query))

    async def _get_events(self, call: Call) -> Answer:
        return _json(await self._reading.events(call.query))

    async def _get_overview(self, call: Call) -> Answer:
        return _json(await self._reading.overview(call.query))

    # ---- changing ----------------------------------------------------------------------------------------------

    async def _put_config(self, call: Call) -> Answer:
        config = await parse_object(call.body, is_yaml=call.is_yaml)
        merge = _flag(call.query, "merge")
        warnings = await self._operations.apply(config, merge)
        return Answer(headers=_warnings(warnings), what=f"config of {_names(config)}, merge={merge}")

    async def _put_application(self, call: Call) -> Answer:
        name = call.match.variables["name"]
        config = await parse_object(call.body, is_yaml=call.is_yaml)
        if config.get("name", name) != name:
            raise ConfigError(f"name: the path says '{name}', the body {config['name']!r}.")
        warnings = await self._operations.apply_application(name, config)
        return Answer(headers=_warnings(warnings), what=f"config of {name}")

    async def _delete_application(self, call: Call) -> Answer:
        name = call.match.variables["name"]
        self._application(name)
        await self._operations.delete([name])
        return Answer(what=f"deletion of {name}")

    async def _shutdown(self, call: Call) -> Answer:
        await self._operations.shutdown()
        return Answer(what="shutdown")

    async def _scale(self, call: Call) -> Answer:
        app, deployment = call.match.variables["app"], call.match.variables["deployment"]
        try:
            number = (await parse_object(call.body, is_yaml=False)).get("target_num_replicas")
            if type(number) is not int or not 0 <= number <= MAX_REPLICAS:
                raise ConfigError(
                    f"target_num_replicas must be a whole number from 0 to {MAX_REPLICAS}, got {number!r}"
                )
        except ConfigError as error:
            raise ConfigError(f"Invalid request body: {error}") from None
        await self._operations.scale(app, deployment, number)
        return Answer(
            200, _JSON, msgspec.json.encode({"message": _SCALED}), f"{app}#{deployment} to {number}"
        )


def _failed(action: Action, status: int, text: str) -> Answer:
    if action == "scale":
        return Answer(status, _JSON, msgspec.json.encode({"error": text}), text)
    return Answer(status, TEXT, text.encode("utf-8", "replace"), text)


def _json(value: Any) -> Answer:
    return Answer(200, _JSON, msgspec.json.encode(value))


def _last(query: str, name: str) -> str:
    return parse_qs(query).get(name, [""])[-1]


def _flag(query: str, name: str) -> bool:
    """ConfigError for what is neither yes nor no: whoever wrote it must not be guessed to have meant the opposite."""
    text = parse_qs(query, keep_blank_values=True).get(name, ["false"])[-1].lower()
    if text not in ("true", "1", "false", "0"):
        raise ConfigError(f"?{name}= must be 'true' or 'false', got '{text}'.")
    return text in ("true", "1")


def _names(config: dict[str, Any]) -> str:
    """The applications of a config that has been accepted."""
    return ", ".join(str(app.get("name", "default")) for app in config.get("applications") or [])


def _warnings(warnings: list[str]) -> Headers:
    """Ray's answer has no body, so what a person should know goes into a header, as JSON."""
    if not warnings:
        return []
    text = json.dumps(warnings)  # in ASCII, as a header has to be
    if len(text) > _MAX_WARNINGS_BYTES:
        text = json.dumps([f"There are {len(warnings)} warnings, too many to show here."])
    return [(b"x-eagleray-warnings", text.encode())]
