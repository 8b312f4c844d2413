"""`echo_pb2` and `echo_pb2_grpc`, made by protoc for the gRPC that is installed: its output fits one version only.

Importing this package makes them importable. Replicas and proxies find the files of the test's process on their path.
"""

from __future__ import annotations

import atexit
import shutil
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).parent


def _compile() -> str:
    from grpc_tools import protoc  # only the first process needs the compiler

    folder = tempfile.mkdtemp(prefix="er-protos-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    arguments = ["protoc", f"-I{HERE}", f"--python_out={folder}", f"--grpc_python_out={folder}", "echo.proto"]
    if protoc.main(arguments) != 0:
        raise RuntimeError("protoc has failed; its words are above")
    return folder


if find_spec("echo_pb2") is None:
    sys.path.append(_compile())

import echo_pb2  # noqa: E402
import echo_pb2_grpc  # noqa: E402

__all__ = ["echo_pb2", "echo_pb2_grpc"]
