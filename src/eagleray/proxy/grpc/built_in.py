"""The answers of Ray Serve's built-in service. Both are a single field, so no generated code is needed to write them.

Their messages, for clients, are in `eagleray.serve.generated`.
"""

from __future__ import annotations

from collections.abc import Iterable

BUILT_IN_SERVICE = "ray.serve.RayServeAPIService"

_FIELD_1 = b"\x0a"
"""Tag of field 1, length-delimited (protobuf encoding, "message structure")."""


def list_applications_response(names: Iterable[str]) -> bytes:
    """`ListApplicationsResponse { repeated string application_names = 1; }`"""
    return b"".join(map(_string, names))


def healthz_response(message: str) -> bytes:
    """`HealthzResponse { string message = 1; }`"""
    return _string(message)


def _string(text: str) -> bytes:
    data = text.encode()
    return _FIELD_1 + _varint(len(data)) + data


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
