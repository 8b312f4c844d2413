"""Surface 1.9 and 3.6: many models in one deployment; section 10 check 26."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.requests import Request
from tests.compat.impl import Instance, differs, needs_processes, serve
from tests.compat.world import Gate, Journal


class Model:
    def __init__(self, model_id: str, journal: Journal) -> None:
        self.model_id = model_id
        self.journal = journal

    def __del__(self) -> None:
        self.journal.write(f"del {self.model_id}")


@serve.deployment
class Models:
    def __init__(self, journal: Journal) -> None:
        self.journal = journal

    @serve.multiplexed(max_num_models_per_replica=2)
    async def get_model(self, model_id: str) -> Model:
        self.journal.write(f"load {model_id}")
        if model_id == "bad":
            raise ValueError("no such model")
        return Model(model_id, self.journal)

    async def __call__(self, request: Request | None = None) -> str:
        model = await self.get_model(serve.get_multiplexed_model_id())
        return model.model_id

    async def named(self) -> str:
        return serve.get_multiplexed_model_id()


def ask(app: Any, model_id: str) -> Any:
    return app.handle.options(multiplexed_model_id=model_id).remote().result(timeout_s=20)


@pytest.mark.parametrize(
    "header", ["serve_multiplexed_model_id", "Serve-Multiplexed-Model-Id", "SERVE_MULTIPLEXED_MODEL_ID"]
)
def test_the_header_names_the_model(instance: Instance, journal: Journal, header: str) -> None:
    app = instance.run(Models.bind(journal))
    assert app.get(headers={header: "m1"}).text == "m1"


def test_the_handle_option_names_the_model_and_is_not_inherited(instance: Instance, journal: Journal) -> None:
    @serve.deployment
    class Caller:
        def __init__(self, models: Any) -> None:
            self.models = models

        async def __call__(self) -> list[str]:
            return [
                serve.get_multiplexed_model_id(),
                await self.models.named.remote(),
                await self.models.options(multiplexed_model_id="inner").named.remote(),
            ]

    app = instance.run(Caller.bind(Models.bind(journal)))
    assert ask(app, "outer") == ["outer", "", "inner"]
    assert app.call() == ["", "", "inner"]


@differs("del-of-a-model-runs-once")
def test_models_are_kept_and_the_least_recently_used_goes_first(instance: Instance, journal: Journal) -> None:
    app = instance.run(Models.bind(journal))
    for model_id in ("m1", "m2", "m1", "m3"):
        assert ask(app, model_id) == model_id
    journal.wait_for("load m3")
    assert journal.lines() == ["load m1", "load m2", "del m2", "load m3"]


def test_a_load_that_fails_is_tried_again(instance: Instance, journal: Journal) -> None:
    app = instance.run(Models.bind(journal))
    for _ in range(2):
        with pytest.raises(ValueError, match="no such model"):
            ask(app, "bad")
    assert ask(app, "m1") == "m1"
    assert journal.count("load bad") == 2


def test_a_request_without_a_model_id_gets_an_error(instance: Instance, journal: Journal) -> None:
    app = instance.run(Models.bind(journal))
    with pytest.raises(ValueError):
        app.call()
    assert app.get().status == 500


def test_models_are_unloaded_with_their_replica(instance: Instance, journal: Journal) -> None:
    app = instance.run(Models.bind(journal), name="short")
    assert ask(app, "m1") == "m1"
    serve.delete("short")
    journal.wait_for("del m1")


@differs("models-are-found-at-once")
@needs_processes
def test_requests_go_to_the_replica_that_has_the_model(instance: Instance, journal: Journal) -> None:
    app = instance.run(Models.options(num_replicas=3).bind(journal))
    for model_id in ("m1", "m2", "m3"):
        assert ask(app, model_id) == model_id
        journal.wait_for(f"load {model_id}")
    for _ in range(10):
        for model_id in ("m1", "m2", "m3"):
            assert ask(app, model_id) == model_id
    assert sorted(journal.lines()) == ["load m1", "load m2", "load m3"]


@serve.deployment(max_ongoing_requests=10)
class Gated:
    """Loads wait for the gate; uses are written down."""

    def __init__(self, journal: Journal, gate: Gate) -> None:
        self.journal, self.gate = journal, gate

    @serve.multiplexed(max_num_models_per_replica=1)
    async def get_model(self, model_id: str) -> Model:
        self.journal.write(f"load {model_id}")
        if model_id.startswith("slow"):
            await self.gate.passed()
        return Model(model_id, self.journal)

    async def __call__(self) -> str:
        model = await self.get_model(serve.get_multiplexed_model_id())
        self.journal.write(f"has {model.model_id}")
        await self.gate.passed()
        self.journal.write(f"done {model.model_id}")
        return model.model_id


@differs("models-stay-while-in-use")
def test_a_model_stays_while_a_request_uses_it(instance: Instance, journal: Journal, gate: Gate) -> None:
    app = instance.run(Gated.bind(journal, gate))
    first = app.handle.options(multiplexed_model_id="m1").remote()
    journal.wait_for("has m1")
    second = app.handle.options(multiplexed_model_id="m2").remote()
    gate.open()
    assert first.result(timeout_s=20) == "m1" and second.result(timeout_s=20) == "m2"
    assert journal.lines() == ["load m1", "has m1", "done m1", "del m1", "load m2", "has m2", "done m2"]


@differs("models-load-side-by-side")
def test_models_load_side_by_side(instance: Instance, journal: Journal, gate: Gate) -> None:
    @serve.deployment(max_ongoing_requests=10)
    class Two(Gated.func_or_class):  # type: ignore[misc]
        @serve.multiplexed(max_num_models_per_replica=2)
        async def get_model(self, model_id: str) -> Model:
            self.journal.write(f"load {model_id}")
            await self.gate.passed()
            return Model(model_id, self.journal)

    app = instance.run(Two.bind(journal, gate))
    responses = [app.handle.options(multiplexed_model_id=model_id).remote() for model_id in ("a", "b")]
    journal.wait_for("load a")
    journal.wait_for("load b")
    gate.open()
    assert [response.result(timeout_s=20) for response in responses] == ["a", "b"]


def test_calls_with_a_wrong_id_are_refused(instance: Instance) -> None:
    @serve.deployment
    class Wrong:
        @serve.multiplexed
        async def get_model(self, model_id: str) -> str:
            return model_id

        async def __call__(self) -> list[str]:
            found = []
            for args in ((), ("a", "b"), (1,), ("",)):
                try:
                    await self.get_model(*args)
                except Exception as error:
                    found.append(type(error).__name__)
            return found

    assert instance.run(Wrong.bind()).call() == ["TypeError", "TypeError", "TypeError", "ValueError"]


async def load(model_id: str) -> str:
    return model_id


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((lambda: None,), TypeError),
        (("text",), TypeError),
        ((load, "2"), TypeError),
        ((load, 0), ValueError),
        ((load, -2), ValueError),
    ],
)
def test_what_cannot_be_multiplexed_is_refused(arguments: tuple[Any, ...], error: type[Exception]) -> None:
    with pytest.raises(error):
        serve.multiplexed(
            arguments[0], **dict(zip(["max_num_models_per_replica"], arguments[1:], strict=False))
        )


def test_it_only_works_in_a_replica() -> None:
    with pytest.raises(RuntimeError):
        asyncio.run(serve.multiplexed(load)("a"))
    assert serve.get_multiplexed_model_id() == ""
