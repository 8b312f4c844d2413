"""The client's side of `ray.serve.RayServeAPIService`, as grpcio-tools makes it; see `serve_pb2`."""

from __future__ import annotations

from typing import Any

from eagleray.serve.generated import serve_pb2

_SERVICE = "/ray.serve.RayServeAPIService"


class RayServeAPIServiceStub:
    """Made with a `grpc.Channel` or `grpc.aio.Channel`."""

    def __init__(self, channel: Any) -> None:
        self.ListApplications = channel.unary_unary(
            f"{_SERVICE}/ListApplications",
            request_serializer=serve_pb2.ListApplicationsRequest.SerializeToString,
            response_deserializer=serve_pb2.ListApplicationsResponse.FromString,
        )
        self.Healthz = channel.unary_unary(
            f"{_SERVICE}/Healthz",
            request_serializer=serve_pb2.HealthzRequest.SerializeToString,
            response_deserializer=serve_pb2.HealthzResponse.FromString,
        )
