"""What the cache of vectors costs: requests that it serves whole, and such as it keeps, by their texts.

`python bench/vectors.py` starts a Redis of its own. Vectors have 1,536 numbers; the model takes no time.
"""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median

from quartet.router.v1.router_pb2 import EmbedRequest
from services.cli.settings import StackSettings
from services.cli.stack.ports import assign_ports
from services.cli.stack.process import ProcessRoom
from services.cli.stack.redis import prepare_redis
from services.cli.stack.supervisor import Supervisor
from services.kit.call import Call
from services.router.adapters.config.models import read_models
from services.router.adapters.redis.vectors import RedisVectors
from services.router.domain.cached_embedding import CachedEmbedding
from services.router.domain.catalogue import Model, VectorCaching
from services.router.domain.embedding import Embedding
from services.router.domain.fleet import Fleet
from services.router.domain.retrying import Retrying, RetryPolicy
from services.router.ports import Batch, Vectors

SIZES = ((1, 300), (64, 100), (256, 40), (2048, 10))
"""Texts of a request, and how many requests."""
CONFIG = Path(__file__).parents[1] / "config"


class Constant:
    """A provider that makes one vector for all texts."""

    async def embed(self, batch: Batch, call: Call) -> Vectors:
        del call
        dimension, count = batch.model.dimension, len(batch.texts)
        return Vectors(packed=bytes(4 * dimension * count), dimension=dimension, input_tokens=9 * count)


@asynccontextmanager
async def redis() -> AsyncIterator[str]:
    """The address of a Redis that ends with the context."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        room = ProcessRoom.within(home)
        url, program = await prepare_redis(
            assign_ports(StackSettings(home=home, redis_port=0, redis_memory_mib=512), ("redis",))
        )
        supervisor = Supervisor(room, say=lambda _: None)
        try:
            await supervisor.start(program)
            yield url
        finally:
            await supervisor.stop()


async def measure(cached: CachedEmbedding, model: Model, texts: int, rounds: int) -> None:
    """Prints the time and this process' CPU time of a request that is kept, and of one that is served."""
    for name in ("kept", "served"):
        took: list[float] = []
        cpu, found = time.process_time(), 0
        for number in range(rounds):
            asked = [f"round {number} of {texts}, text {place}" for place in range(texts)]
            begun = time.perf_counter()
            call = Call.root(timeout_s=60, tenant="t")
            response = await cached.embed(model, EmbedRequest(texts=asked), call)
            took.append(time.perf_counter() - begun)
            found += response.cached_texts
        spent_us = (time.process_time() - cpu) / rounds * 1e6
        times = f"{median(took) * 1e3:9.2f} {max(took) * 1e3:9.2f}"
        print(f"{texts:6} {name:8} {times} {spent_us:10,.0f} {found / (texts * rounds):7.0%}")


async def main() -> None:
    """Measures all sizes, one after the other."""
    catalogue, _ = read_models(CONFIG / "models.yaml")
    caching = VectorCaching(ttl_s=600, max_tenant_bytes=300 * 1024 * 1024)
    model = replace(catalogue.find("text-embedding-3-small"), vector_caching=caching)
    providers = {"openai": Constant()}
    embedding = Embedding(providers, Retrying(Fleet([model], providers), RetryPolicy()))
    print(f"{'texts':>6} {'':8} {'ms':>9} {'max ms':>9} {'CPU us':>10} {'found':>7}")
    async with redis() as url:
        store = RedisVectors(url, timeout_s=0.05)
        cached = CachedEmbedding(embedding, store, lambda *_: None)
        for texts, rounds in SIZES:
            await measure(cached, model, texts, rounds)
        await store.close()


if __name__ == "__main__":
    asyncio.run(main())
