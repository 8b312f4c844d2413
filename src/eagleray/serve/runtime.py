"""The carrier of handle calls in one process: a router, its table subscription and a client of the controller.

It lives on one loop. In a replica that is the user's own loop, so a handle call crosses no thread. In a driver it
is a background thread's loop, because the driver's code may block for as long as it likes and the routing table must
still be acknowledged; calls cross over in batches through `rpc.bridge`.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, Self, TypeVar
from weakref import WeakKeyDictionary

from eagleray.base.errors import NotRunningError, ReplicaDiedError
from eagleray.base.ids import new_unique_id
from eagleray.base.metrics import Registry
from eagleray.base.settings import Settings
from eagleray.base.tasks import Tasks
from eagleray.routing.call import RoutedCall
from eagleray.routing.metrics import Origin
from eagleray.routing.router import Router
from eagleray.routing.subscription import Subscription
from eagleray.routing.table import RoutingTable
from eagleray.routing.waiting_room import Fanout
from eagleray.rpc.bridge import Bridge
from eagleray.rpc.client import Client
from eagleray.rpc.memory import SharedMemory
from eagleray.rpc.unix import directory_of
from eagleray.wire.control import Message

T = TypeVar("T")

_RETRY_S = 0.05
"""Seconds before a control call is repeated: a controller that has died is back within a second."""


class Runtime:
    """Belongs to `loop`; `post` and `request` may be called from any thread. The maker closes it."""

    table_is_current = False
    """Whether `table` knows all that there is: what it does not name does not exist."""
    in_process = False
    """Whether the replicas live in this process (local testing mode)."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        address: str,
        name: str,
        *,
        shared: bool = False,
        memory: SharedMemory | None = None,
        router: Router | None = None,
        registry: Registry | None = None,
        origin: Origin = ("DRIVER", ""),
    ) -> None:
        """On the thread of `loop` only. The subscription starts with the first call that needs it.

        `shared`: other threads make most of the calls, and may send them by themselves. `memory` is for large values;
        the runtime closes it. `registry` is the replica's; without, this is a driver that has one of its own.
        """
        self.loop = loop
        self.address = address
        self.thread_id = threading.get_ident()
        self.submit_here: Callable[[RoutedCall], None] = self._submit_first
        self._name = name
        self._memory = memory
        self.take = None if memory is None else memory.take
        """Gives memory for large arguments, from any thread; see `codec.dump_call`."""
        self._is_driver = registry is None
        if router is None:
            own = registry or Registry(enabled=Settings.from_env().metrics)
            router = Router(
                shared=shared, memory=memory, directory=directory_of(address), registry=own, origin=origin
            )
        self._router = router
        self.registry = router.registry
        """What handles and user code of this process count in."""
        self._subscription: Subscription | None = None
        self._watching: asyncio.Task[None] | None = None
        self._bridge = Bridge(loop)
        self._bridges: WeakKeyDictionary[asyncio.AbstractEventLoop, Bridge] = WeakKeyDictionary()
        self._client: Client | None = None
        self._tasks = Tasks("runtime")
        self._closed = False

    @classmethod
    def for_loop(
        cls,
        loop: asyncio.AbstractEventLoop,
        address: str,
        name: str = "replica",
        memory: SharedMemory | None = None,
        registry: Registry | None = None,
        origin: Origin = ("REPLICA", ""),
    ) -> Self:
        """A runtime on the caller's own loop; to be called on that loop's thread."""
        return cls(loop, address, name, memory=memory, registry=registry, origin=origin)

    # ---- from any thread -------------------------------------------------------------------------------------

    @property
    def is_here(self) -> bool:
        """Whether the calling thread is the one that this runtime lives on."""
        return threading.get_ident() == self.thread_id

    def post(self, function: Callable[..., object], *args: Any) -> None:
        """Runs `function(*args)` on the loop: at once when this is its thread, else in order with the next batch."""
        if threading.get_ident() == self.thread_id:
            function(*args)
        else:
            self._bridge.put(function, *args)

    def submit(self, call: RoutedCall) -> None:
        """Hands the call to the router; never blocks."""
        if threading.get_ident() == self.thread_id:
            self.submit_here(call)
        else:
            self._bridge.put(self.submit_here, call)

    def begin(self, call: RoutedCall, begin: Callable[[], None]) -> None:
        """Starts a call that has no parent: sends it from this thread if it can, else has `begin` run on the loop."""
        if threading.get_ident() == self.thread_id:
            begin()
        elif not self._router.submit_alone(call, self._bridge.put):
            self._bridge.put(begin)

    def bridge_to(self, loop: asyncio.AbstractEventLoop) -> Bridge:
        """The hand-over to a user's loop, from the thread of this runtime; one for each loop."""
        bridge = self._bridges.get(loop)
        if bridge is None:
            bridge = self._bridges.setdefault(loop, Bridge(loop))
        return bridge

    def request(
        self, method: str, message: Message, reply: type[T], *, timeout_s: float | None = None
    ) -> Future[T]:
        """A CONTROL call to the controller. Raises EaglerayError through the future."""
        return self.run(self._request(method, message, reply, timeout_s))

    def run(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Runs a coroutine on the loop as a task that this runtime owns."""
        done: Future[T] = Future()
        self.post(self._start, coroutine, done)
        return done

    @property
    def table(self) -> RoutingTable:
        """The last routing table, empty before the first."""
        return self._router.table

    # ---- on the loop -----------------------------------------------------------------------------------------

    def _start(self, coroutine: Coroutine[Any, Any, T], done: Future[T]) -> None:
        if self._closed:
            coroutine.close()
            done.set_exception(NotRunningError("Eagleray has been shut down."))
            return
        task = self._tasks.start(
            _into(coroutine, done), name=f"{self._name} {getattr(coroutine, '__qualname__', 'work')}"
        )
        task.add_done_callback(lambda _: done.cancel())

    def _submit_first(self, call: RoutedCall) -> None:
        self.watch()
        self._router.submit(call)

    def watch(self) -> None:
        """Begins to follow the routing table, unless that has begun; calls wait in the router until it is there."""
        if self._subscription is None:
            self._subscription = Subscription(
                self._router, self.address, self._name, is_driver=self._is_driver
            )
            self._watching = self._tasks.start(self._subscription.start(), name="wait for the first table")
            self.submit_here = self._router.submit

    def resolved(self, key: str, seconds: float) -> None:
        """See `Router.resolved`."""
        self._router.resolved(key, seconds)

    def spread(self, key: str, fanout: Fanout) -> None:
        """Gives `fanout` all replicas of the deployment that run."""
        self.watch()
        self._router.spread(key, fanout)

    async def _request(self, method: str, message: Message, reply: type[T], timeout_s: float | None) -> T:
        """Every control call may be repeated, so one that the controller's death has interrupted is."""
        while True:
            client = await self.controller()
            try:
                return await client.request(method, message, reply, timeout_s=timeout_s)
            except ReplicaDiedError:
                await client.wait_closed()
                await asyncio.sleep(_RETRY_S)

    async def controller(self) -> Client:
        """A live connection to the controller; node holds its socket, so a restart only makes this wait.

        Raises NotRunningError when node has gone.
        """
        if self._client is None or self._client.closed:
            try:
                self._client = await Client.connect(self.address)
            except OSError as error:
                raise NotRunningError(
                    f"The Eagleray instance at {self.address} has ended ({error})."
                ) from None
        return self._client

    async def first_table(self) -> RoutingTable:
        """The routing table, once there is one."""
        self.watch()
        if self._watching is not None:
            await asyncio.shield(self._watching)
        return self._router.table

    async def close(self) -> None:
        """Fails what is in flight and drops all connections. Idempotent."""
        self._closed = True
        await self._tasks.close()
        if self._subscription is not None:
            await self._subscription.close()
        await self._router.close()
        if self._client is not None:
            self._client.close()
            await self._client.wait_closed()
        if self._memory is not None:
            self._memory.close()
        for bridge in self._bridges.values():
            bridge.close()
        self._bridge.close()


class RuntimeThread:
    """A background thread that carries a driver's runtime. `close` ends thread, loop and connections."""

    def __init__(self, address: str, name: str = "driver") -> None:
        started: Future[Runtime] = Future()
        self._stop: Future[None] = Future()
        self._thread = threading.Thread(
            target=self._main, args=(address, name, started), name="eagleray-handles", daemon=True
        )
        self._thread.start()
        self.runtime = started.result()

    def _main(self, address: str, name: str, started: Future[Runtime]) -> None:
        loop = _new_loop()
        asyncio.set_event_loop(loop)
        try:
            loop.run_until_complete(self._serve(loop, address, name, started))
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            asyncio.set_event_loop(None)
            loop.close()

    async def _serve(
        self, loop: asyncio.AbstractEventLoop, address: str, name: str, started: Future[Runtime]
    ) -> None:
        origin = "DRIVER", f"{os.getpid()}-{new_unique_id()}"
        runtime = Runtime(loop, address, name, shared=True, memory=SharedMemory.for_loop(loop), origin=origin)
        started.set_result(runtime)
        try:
            await asyncio.wrap_future(self._stop)
        finally:
            await runtime.close()

    def close(self, timeout_s: float = 5.0) -> None:
        """Returns when the thread has ended, or `timeout_s` has passed. Idempotent; not from the thread itself."""
        if not self._stop.done():
            self._stop.set_result(None)
        self._thread.join(timeout_s)


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop  # absent on some platforms
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


async def _into(coroutine: Coroutine[Any, Any, T], done: Future[T]) -> None:
    """A task's root: the outcome goes to whoever waits in another thread."""
    try:
        result = await coroutine
    except asyncio.CancelledError:
        done.cancel()
        raise
    except BaseException as error:
        done.set_exception(error)
    else:
        done.set_result(result)
