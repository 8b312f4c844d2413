"""Messages of `ray.serve.RayServeAPIService`, as protoc makes them of this:

    package ray.serve;
    message ListApplicationsRequest {}
    message ListApplicationsResponse { repeated string application_names = 1; }
    message HealthzRequest {}
    message HealthzResponse { string message = 1; }

Made by hand because protoc's output belongs to one version of protobuf. They live in a descriptor pool of their own,
so that Ray's can be imported beside them.
"""

from __future__ import annotations

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_PACKAGE = "ray.serve"


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="eagleray/serve.proto", package=_PACKAGE, syntax="proto3")
    field = descriptor_pb2.FieldDescriptorProto
    file.message_type.add(name="ListApplicationsRequest")
    names = file.message_type.add(name="ListApplicationsResponse").field.add()
    names.name, names.number, names.type, names.label = (
        "application_names",
        1,
        field.TYPE_STRING,
        field.LABEL_REPEATED,
    )
    file.message_type.add(name="HealthzRequest")
    message = file.message_type.add(name="HealthzResponse").field.add()
    message.name, message.number, message.type, message.label = (
        "message",
        1,
        field.TYPE_STRING,
        field.LABEL_OPTIONAL,
    )
    return file


_pool = descriptor_pool.DescriptorPool()
_pool.AddSerializedFile(_file().SerializeToString())
_classes = {
    name: message_factory.GetMessageClass(_pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
    for name in ("ListApplicationsRequest", "ListApplicationsResponse", "HealthzRequest", "HealthzResponse")
}

ListApplicationsRequest = _classes["ListApplicationsRequest"]
ListApplicationsResponse = _classes["ListApplicationsResponse"]
HealthzRequest = _classes["HealthzRequest"]
HealthzResponse = _classes["HealthzResponse"]
