"""Surface 3.5: `/-/healthz` and `/-/routes`, from before the first application to after the last; check 7."""

from __future__ import annotations

from tests.compat.client import request
from tests.compat.impl import running, serve
from tests.waiting import wait_until


@serve.deployment(graceful_shutdown_wait_loop_s=0.1)
def hello() -> str:
    return "hello"


def test_one_life_of_the_built_in_endpoints() -> None:
    with running() as instance:
        for path in ("/-/healthz", "/-/routes"):
            reply = instance.get(path)
            assert (reply.status, reply.text) == (503, "Route table is not populated yet.")

        serve.run(hello.bind(), name="one", route_prefix="/one")
        serve.run(hello.bind(), name="hidden", route_prefix=None)
        reply = instance.get("/-/healthz")
        assert (reply.status, reply.text) == (200, "success")
        assert request(instance.port, "POST", "/-/healthz").status == 200
        wait_until(lambda: instance.get("/-/routes").json() == {"/one": "one"}, "the route")

        serve.run(hello.bind(), name="two", route_prefix="/")
        wait_until(
            lambda: instance.get("/-/routes").json() == {"/one": "one", "/": "two"}, "the second route"
        )
        assert instance.get("/-/healthz").text == "success"
        assert "application/json" in instance.get("/-/routes").headers["content-type"]

        for name in ("one", "two", "hidden"):
            serve.delete(name)
        wait_until(lambda: instance.get("/-/routes").json() == {}, "the end of the routes")
        assert instance.get("/-/healthz").status == 200
