import asyncio
from typing import Any, cast

from quartet.router.v1 import router_pb2
from services.gateway.domain.models import Models
from services.kit.call import Call
from services.kit.errors import Unavailable


class TellingRouter:
    """Tells its models, counts how often, and waits or fails when told to."""

    def __init__(self) -> None:
        self.asked = 0
        self.window = 1000
        self.pause: asyncio.Event | None = None
        self.fails = False

    async def list_models(
        self, request: router_pb2.ListModelsRequest, call: Call
    ) -> router_pb2.ListModelsResponse:
        self.asked += 1
        if self.pause is not None:
            await self.pause.wait()
        if self.fails:
            raise Unavailable("away")
        old = router_pb2.Model(id="old", successor="new", context_window=10)
        old.shutdown_time.FromJsonString("2020-01-01T00:00:00Z")
        soon = router_pb2.Model(id="soon", successor="new", context_window=20)
        soon.shutdown_time.FromJsonString("2999-01-01T00:00:00Z")
        new = router_pb2.Model(id="new", aliases=["fresh"], context_window=self.window)
        return router_pb2.ListModelsResponse(models=[old, soon, new], routes=["faq"])


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def models_of(router: TellingRouter, clock: Clock) -> Models:
    return Models(cast("Any", router), clock=clock)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def window_of(models: Models, name: str) -> int:
    model = await models.find(name)
    assert model is not None
    return model.context_window


async def test_the_router_is_asked_once_however_many_ask_at_once() -> None:
    router = TellingRouter()
    models = models_of(router, Clock())
    assert await asyncio.gather(*(window_of(models, "fresh") for _ in range(50))) == [1000] * 50
    assert await window_of(models, "new") == 1000
    assert router.asked == 1
    assert (await models.listing()).routes == ("faq",)


async def test_what_is_too_old_is_served_while_the_router_is_asked_again() -> None:
    router, clock = TellingRouter(), Clock()
    models = models_of(router, clock)
    await models.find("new")
    router.window, router.pause = 2000, asyncio.Event()
    clock.now_s = 31
    assert [await window_of(models, "new") for _ in range(3)] == [1000] * 3
    await settle()
    assert router.asked == 2
    router.pause.set()
    await settle()
    assert await window_of(models, "new") == 2000


async def test_while_the_router_is_away_its_last_word_stands() -> None:
    router, clock = TellingRouter(), Clock()
    models = models_of(router, clock)
    await models.find("new")
    router.fails, clock.now_s = True, 31
    for _ in range(3):
        assert await window_of(models, "new") == 1000
        await settle()
    assert router.asked == 2
    router.fails, clock.now_s = False, 33
    await models.find("new")
    await settle()
    assert router.asked == 3


async def test_before_the_router_ever_answered_no_model_is_known_and_it_is_asked_again_soon() -> None:
    router, clock = TellingRouter(), Clock()
    router.fails = True
    models = models_of(router, clock)
    assert await models.find("new") is None
    assert await models.find("new") is None
    assert router.asked == 1
    router.fails, clock.now_s = False, 1.5
    assert await window_of(models, "new") == 1000


async def test_a_model_past_its_shutdown_stands_for_its_successor() -> None:
    models = models_of(TellingRouter(), Clock())
    assert await window_of(models, "old") == 1000
    assert await window_of(models, "soon") == 20
    assert await models.find("unheard-of") is None


async def test_one_who_is_cancelled_while_waiting_does_not_stop_the_others() -> None:
    router = TellingRouter()
    router.pause = asyncio.Event()
    models = models_of(router, Clock())
    first = asyncio.create_task(models.find("new"))
    second = asyncio.create_task(models.find("new"))
    await settle()
    first.cancel()
    await settle()
    router.pause.set()
    found = await second
    assert found is not None
    assert router.asked == 1


async def test_closing_gives_up_asking() -> None:
    router = TellingRouter()
    router.pause = asyncio.Event()
    models = models_of(router, Clock())
    waiting = asyncio.create_task(models.find("new"))
    await settle()
    await models.close()
    assert await waiting is None
