"""A call by handle in the replica: a method with arguments in, a value or a stream of items out.

Arguments are decoded and results encoded where the method runs, because both may run user code. A stream's items
leave as they are produced, and its generator waits at its own `yield` when the reader is slow.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Generator
from inspect import isawaitable
from types import AsyncGeneratorType, GeneratorType
from typing import Any

from eagleray.http.outflow import Outflow
from eagleray.replica.call import NO_HEADERS, Call
from eagleray.replica.callable import Method
from eagleray.replica.errors import trimmed_text
from eagleray.replica.reservation import NO_LIMIT, hold
from eagleray.serve.context import _serve_request_context
from eagleray.wire import codec
from eagleray.wire.messages import USER, Headers


class PythonCall(Call):
    """One handle call. `begin_work` once it has a slot."""

    __slots__ = ("body", "method")

    method: Method

    def begin_work(self) -> None:
        """Hands the call to user code, once its arguments are here."""
        incoming = self.incoming
        if incoming.ended:
            self._dispatch(incoming.body)
        elif incoming.body:
            incoming.on_cancel = self._on_cancel_early
            incoming.collect(NO_LIMIT, self._dispatch)
        else:  # arguments that are merely large begin with the call
            hold(self, self._dispatch)

    def _on_cancel_early(self) -> None:
        self.fail_early("cancelled")

    def fail_early(self, code: str, message: str = "") -> None:
        """The end before its arguments were here."""
        self.cancelled = True
        self._fail(code, message)

    def _dispatch(self, body: bytes | bytearray) -> None:
        self.body = body
        self.incoming.body = (
            b""  # it may be borrowed memory, to be given back as soon as the arguments have gone
        )
        self.incoming.on_cancel = self.on_cancel
        method = self.floor.user.known.get(self.incoming.head.method)
        if method is None:
            self.floor.loop.call_soon(self._find)
        else:
            self.method = method
            self._start()

    def _start(self) -> None:
        if self.method.in_thread:
            self.run_in_thread(self._work)
        else:
            self.run(self._serve(), self.make_context(False))

    # ---- what goes in and out: a gRPC call has other things ----------------------------------------------------

    def _look_up(self) -> Method:
        return self.floor.user.find(self.incoming.head.method)

    def _load(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return codec.load_call(self.body)

    def _dump(self, item: Any) -> bytes:
        return codec.dump_value(item)

    def _stream_headers(self) -> Headers:
        return NO_HEADERS

    def _give(self, result: Any) -> None:
        self.answer(0, NO_HEADERS, codec.dump_value(result, self.incoming.take))

    # ---- on the loop -----------------------------------------------------------------------------------------

    def _find(self) -> None:
        """The first call of a method: looking it up may run user code, so it is not done while bytes are received."""
        try:
            self.method = self._look_up()
        except BaseException as error:  # user code (a property, say) may raise anything
            self.failed(error)
            return
        self._start()

    async def _serve(self) -> None:
        """A task's root."""
        try:
            self.enter()
            args, kwargs = self._load()
            self.body = b""
            method = self.method
            result = method.function(*args, **kwargs)
            del args, kwargs
            await self.respond(await result if method.is_async or isawaitable(result) else result)
        except (
            BaseException
        ) as error:  # user code may raise anything; this call, and only this one, ends by it
            self.failed(error)
        finally:
            self.ended()

    async def respond(self, result: Any) -> None:
        kind = type(result)
        if not self.incoming.head.stream:
            self._check_value(kind)
            self._give(result)
        elif kind is AsyncGeneratorType:
            await self._stream(result)
        elif kind is GeneratorType:
            self._stream_in_thread(result)
        else:
            raise TypeError(self._not_a_generator(kind))

    async def _stream(self, items: AsyncGenerator[Any, None]) -> None:
        outflow = None
        try:
            async for item in items:
                outflow = self._push(outflow, item)
                if outflow.due:
                    await self._wait_at_yield(outflow, items)
                if self.cancelled:
                    raise asyncio.CancelledError
        finally:
            await items.aclose()
        self._end_stream(outflow)

    async def _wait_at_yield(self, outflow: Any, items: AsyncGenerator[Any, None]) -> None:
        """A cancel that comes while the generator waits for the reader is thrown into it, as at an await."""
        try:
            await outflow.flow()
        except asyncio.CancelledError as cancel:
            try:
                await items.athrow(cancel)
            except StopAsyncIteration:
                pass
            raise

    # ---- in a thread -----------------------------------------------------------------------------------------

    def _work(self) -> None:
        self.floor.base_context.copy().run(self._work_in_context)

    def _work_in_context(self) -> None:
        try:
            _serve_request_context.set(self.make_context(False))
            if self.cancelled:
                raise asyncio.CancelledError
            args, kwargs = self._load()
            self.body = b""
            result = self.method.function(*args, **kwargs)
            del args, kwargs
            kind = type(result)
            if kind is AsyncGeneratorType or isawaitable(result):
                self.floor.put(self.continue_on_loop, result)
            elif not self.incoming.head.stream:
                self._check_value(kind)
                self._give(result)
            elif kind is GeneratorType:
                self._stream_here(result)
            else:
                raise TypeError(self._not_a_generator(kind))
        except BaseException as error:  # the root of this thread's work
            self.failed(error)

    def _stream_here(self, items: Generator[Any, None, None]) -> None:
        outflow = None
        room = threading.Semaphore(0)
        try:
            for item in items:
                outflow = self._push(outflow, item)
                while outflow.full and not self.cancelled and outflow.wait(room.release):
                    room.acquire()
                if self.cancelled:
                    raise asyncio.CancelledError
        finally:
            items.close()
        self._end_stream(outflow)

    # ---- the items of a stream, from both --------------------------------------------------------------------

    def _push(self, outflow: Outflow | None, item: Any) -> Outflow:
        """Sends an item; the first one with the beginning of the answer."""
        data = self._dump(item)
        if outflow is None:
            return self.begin(0, self._stream_headers(), data)
        outflow.push(data)
        return outflow

    def _end_stream(self, outflow: Outflow | None) -> None:
        if outflow is None:
            self.begin(0, NO_HEADERS)
        self.finish()

    def _stream_in_thread(self, items: Generator[Any, None, None]) -> None:
        """A coroutine has returned a sync generator: it runs in a thread, like any sync code."""
        self.run_in_thread(lambda: self._stream_to_end(items))

    def _stream_to_end(self, items: Generator[Any, None, None]) -> None:
        try:
            self.floor.base_context.copy().run(self._stream_in_context, items)
        except BaseException as error:  # the root of this thread's work
            self.failed(error)

    def _stream_in_context(self, items: Generator[Any, None, None]) -> None:
        if self.context is not None:
            _serve_request_context.set(self.context)
        self._stream_here(items)

    def describe(self, code: str) -> tuple[str, str, int | str]:
        status = "CANCELLED" if code == "cancelled" else "ERROR" if code or self.has_failed() else "OK"
        return "CALL", self.incoming.head.method or "__call__", status

    def has_failed(self) -> bool:
        """Whether an answer that came to its end tells of a failure."""
        return False

    # ---- failures --------------------------------------------------------------------------------------------

    def _check_value(self, kind: type) -> None:
        if kind is GeneratorType or kind is AsyncGeneratorType:
            raise TypeError(
                f"Method '{self.method.name}' of {self.floor.user.name} returns a generator: call it with "
                f"`handle.options(stream=True)`."
            )

    def _not_a_generator(self, kind: type) -> str:
        return (
            f"Method '{self.method.name}' of {self.floor.user.name} was called with `stream=True`, but it returned "
            f"{kind.__name__} and not a generator."
        )

    def failed(self, error: BaseException) -> None:
        self.body = b""
        if self.cancelled or issubclass(type(error), asyncio.CancelledError):
            self.fail_cancelled()
            return
        try:
            self.count_error(type(error).__name__)
            body = codec.dump_error(error, trimmed_text(error))
        except BaseException as second:  # a user's exception may fail to say what it is
            self.fail(
                "internal", f"{type(error).__name__} was raised, and describing it: {type(second).__name__}"
            )
        else:
            self.fail(USER, type(error).__name__, body)
