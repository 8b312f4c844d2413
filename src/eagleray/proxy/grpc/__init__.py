"""The gRPC proxy: grpc.aio alone in a process of its own, started only where servicer functions are configured."""
