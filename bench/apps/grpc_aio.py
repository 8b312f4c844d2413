"""A bare grpc.aio server that answers by itself, on uvloop: `grpc_aio.py PORT`. The floor of gRPC in Python."""

from __future__ import annotations

import sys

import answer_pb2
import answer_pb2_grpc
import grpc
import uvloop


class Answerer(answer_pb2_grpc.AnswererServicer):
    async def Answer(
        self, request: answer_pb2.Question, context: grpc.aio.ServicerContext
    ) -> answer_pb2.Reply:
        return answer_pb2.Reply(text="ok")


async def main() -> None:
    server = grpc.aio.server()
    answer_pb2_grpc.add_AnswererServicer_to_server(Answerer(), server)
    server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(main())
