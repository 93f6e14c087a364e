from collections.abc import Sequence
from typing import Any

import pytest

from quartet.common.v1 import generation_pb2
from quartet.router.v1 import router_pb2
from services.gateway.domain.admission import Caller
from services.gateway.domain.identity import Identity
from services.gateway.domain.limits import SHARED_LIMITS, Limits
from services.gateway.domain.models import Models
from services.gateway.domain.options import Options
from services.gateway.domain.quotas import QuotaRules, Quotas
from services.kit.accounts.account import Amount, Caps, Limit, Standing
from services.kit.call import Call
from services.kit.errors import Unavailable
from tests.contract.gateway.neighbours import FakeRouter


@pytest.mark.parametrize("name", SHARED_LIMITS)
async def test_every_limit_of_a_key_is_looked_at(name: str) -> None:
    key = Identity(id="k", tenant="acme", scopes=frozenset({"*"}), limits=Limits(**{name: 0}))
    caller = Caller(call=Call.root(timeout_s=5), rpc="Generate", key=key, options=Options())
    router: Any = FakeRouter()
    quotas = Quotas(None, Models(router), QuotaRules())
    with pytest.raises(Unavailable) as caught:
        await quotas.open(caller, generation_pb2.Budget(), "", input_tokens=1, output_tokens=1)
    assert caught.value.metadata == {"limit": name}


class Reserved:
    """Accounts that note what is reserved."""

    def __init__(self) -> None:
        self.amounts: list[Amount] = []

    async def open(
        self, tenant: str, limits: Sequence[Limit], amount: Amount, caps: Caps
    ) -> tuple[str, list[Standing]]:
        self.amounts.append(amount)
        return "a", []

    def close(self, tenant: str, account: str) -> None:
        """Nothing is kept."""

    def release(self, account: str) -> None:
        """Nothing is kept."""


class Shop:
    """A router with a dear model that writes, and two that embed."""

    async def list_models(
        self, request: router_pb2.ListModelsRequest, call: Call
    ) -> router_pb2.ListModelsResponse:
        prices = {"writer": 10_000_000, "small": 20_000, "large": 130_000}
        models = [
            router_pb2.Model(
                id=name,
                available=True,
                input_micro_usd_per_mtok=price,
                capabilities=[] if name == "writer" else ["embeddings"],
            )
            for name, price in prices.items()
        ]
        return router_pb2.ListModelsResponse(models=models)


@pytest.mark.parametrize(("model", "cost"), [("", 130), ("large", 130), ("small", 20)])
async def test_texts_to_embed_reserve_the_price_of_models_that_embed(model: str, cost: int) -> None:
    key = Identity(id="k", tenant="acme", scopes=frozenset({"*"}), limits=Limits(micro_usd_per_day=10**6))
    caller = Caller(call=Call.root(timeout_s=5), rpc="Embed", key=key, options=Options())
    shop: Any = Shop()
    accounts = Reserved()
    quotas = Quotas(accounts, Models(shop), QuotaRules())
    request = router_pb2.EmbedRequest(model=model, texts=["four" * 1000])
    async with quotas.admit_texts(caller, request):
        assert request.budget.account_id == "a"
    await quotas.open(caller, generation_pb2.Budget(), "", input_tokens=1000, output_tokens=0)
    assert [amount.cost_micro_usd for amount in accounts.amounts] == [cost, 10_000]


class LongShop:
    """A router with a model whose prices rise twice with the length of the input."""

    async def list_models(
        self, request: router_pb2.ListModelsRequest, call: Call
    ) -> router_pb2.ListModelsResponse:
        model = router_pb2.Model(
            id="writer", available=True, input_micro_usd_per_mtok=10**6, output_micro_usd_per_mtok=4 * 10**6
        )
        for above, price in ((1000, 2), (5000, 3)):
            model.longer_prices.add(
                above_input_tokens=above,
                input_micro_usd_per_mtok=price * 10**6,
                output_micro_usd_per_mtok=5 * 10**6,
            )
        return router_pb2.ListModelsResponse(models=[model])


@pytest.mark.parametrize(("tokens", "cost"), [(1000, 1040), (1001, 2052), (5000, 10_050), (5001, 15_053)])
async def test_what_is_reserved_goes_by_the_length_of_the_input(tokens: int, cost: int) -> None:
    key = Identity(id="k", tenant="acme", scopes=frozenset({"*"}), limits=Limits(micro_usd_per_day=10**6))
    caller = Caller(call=Call.root(timeout_s=5), rpc="Generate", key=key, options=Options())
    shop: Any = LongShop()
    accounts = Reserved()
    quotas = Quotas(accounts, Models(shop), QuotaRules())
    for named in ("", "writer"):
        await quotas.open(caller, generation_pb2.Budget(), named, input_tokens=tokens, output_tokens=10)
    assert [amount.cost_micro_usd for amount in accounts.amounts] == [cost, cost]


@pytest.mark.parametrize(
    ("scopes", "cost"),
    [({"route:auto"}, 10_000), ({"model:writer", "route:auto"}, 10_000), ({"model:other"}, 0)],
)
async def test_what_is_reserved_is_the_dearest_model_of_the_key(scopes: set[str], cost: int) -> None:
    limits = Limits(micro_usd_per_day=10**6)
    key = Identity(id="k", tenant="acme", scopes=frozenset(scopes), limits=limits)
    caller = Caller(call=Call.root(timeout_s=5), rpc="Generate", key=key, options=Options())
    shop: Any = Shop()
    accounts = Reserved()
    quotas = Quotas(accounts, Models(shop), QuotaRules())
    await quotas.open(caller, generation_pb2.Budget(), "", input_tokens=1000, output_tokens=0)
    assert [amount.cost_micro_usd for amount in accounts.amounts] == [cost]
