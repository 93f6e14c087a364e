"""Rpcs that the gateway hands on: the public message and the inner one have the same fields by number."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from typing import Any, TypeVar

from google.protobuf.message import Message

from services.gateway.domain.admission import Caller
from services.gateway.domain.front import Front
from services.gateway.domain.targets import DEFAULT_COLLECTION, Kind, Target
from services.kit.call import Call

M = TypeVar("M", bound=Message)
Inner = TypeVar("Inner", bound=Message)
Outer = TypeVar("Outer", bound=Message)
CollectionOf = Callable[[Any], str]
"""Which collection a request names; empty means `default`."""
LookUp = Callable[[Any, Call], Awaitable[str]]
"""Finds the collection of what a request names by its id; raises NotFound."""
Within = Callable[[Caller, Any], AbstractAsyncContextManager[None]]


def _nothing(caller: Caller, asked: Any) -> AbstractAsyncContextManager[None]:
    del caller, asked
    return nullcontext()


def convert(message: Message, kind: type[M]) -> M:
    """The same message as its twin's type; 1 to 2 µs for an ordinary one."""
    return kind.FromString(message.SerializeToString())


class PassThrough:
    """Makes methods that admit a call and hand it to a peer's method of the same meaning."""

    def __init__(self, front: Front) -> None:
        self._front = front

    def unary(
        self,
        rpc: str,
        method: Callable[[Inner, Call], Awaitable[Message]],
        inner: type[Inner],
        outer: type[Outer],
        *,
        collection_of: CollectionOf | None = None,
        look_up: LookUp | None = None,
        lists: bool = False,
        within: Within = _nothing,
        gated: bool = True,
    ) -> Callable[[Message, Call], Awaitable[Outer]]:
        """A method for a unary rpc; `inner` is the peer's request, `outer` our response.

        What `lists` shows each key the entries of its own collections: `inner` has a field `collections`.
        The peer is called `within` a context, which may still change what it is asked.
        Gated ones take a place among the calls under way; what ends work must pass under overload, too.
        """

        async def answer(request: Message, call: Call) -> Outer:
            caller = await self._front.enter(call, rpc)
            if collection_of is not None:
                collection_target(collection_of(request)).check_scope(caller.key)
            await _check_found(caller, request, look_up)
            asked = convert(request, inner)
            if lists:
                _narrow(asked, caller)
            with self._front.vigil.hold(caller), self._front.hold(caller) if gated else nullcontext():
                async with within(caller, asked):
                    return convert(await method(asked, caller.outgoing()), outer)

        return answer

    def stream(
        self,
        rpc: str,
        method: Callable[[Inner, Call], AsyncGenerator[Message]],
        inner: type[Inner],
        outer: type[Outer],
        *,
        look_up: LookUp | None = None,
    ) -> Callable[[Message, Call], AsyncGenerator[Outer]]:
        """A method for a server stream; it watches and works little, hence takes no place."""

        async def stream(request: Message, call: Call) -> AsyncGenerator[Outer]:
            caller = await self._front.enter(call, rpc)
            await _check_found(caller, request, look_up)
            with self._front.vigil.hold(caller):
                async with aclosing(method(convert(request, inner), caller.outgoing())) as responses:
                    async for response in responses:
                        yield convert(response, outer)

        return stream


async def _check_found(caller: Caller, request: Message, look_up: LookUp | None) -> None:
    """Refuses what belongs to a collection that the key's scopes leave out; costs other keys nothing."""
    if look_up is not None and caller.key.is_held_to_targets():
        collection_target(await look_up(request, caller.outgoing())).check_scope(caller.key)


def _narrow(asked: Any, caller: Caller) -> None:
    """Asks for what the key's scopes name alone, whatever a client may have written there."""
    asked.ClearField("collections")
    names = caller.key.names_of("collection")
    if names is not None:
        asked.collections.SetInParent()
        asked.collections.names.extend(names)


def collection_target(name: str) -> Target:
    """A collection as a key's scopes see it."""
    return Target(kind=Kind.PIPELINE, collection=name or DEFAULT_COLLECTION)
