"""Messages and stubs of the built-in gRPC service, at the path where clients of Ray Serve import them."""
