"""For tests of applications: `serve.run(app, _local_testing_mode=True)` and an HTTP client for it, without sockets."""

from eagleray.testing.client import LocalClient, Reply

__all__ = ["LocalClient", "Reply"]
