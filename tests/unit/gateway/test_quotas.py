from typing import Any

import pytest

from quartet.common.v1 import generation_pb2
from services.gateway.domain.admission import Caller
from services.gateway.domain.identity import Identity
from services.gateway.domain.limits import SHARED_LIMITS, Limits
from services.gateway.domain.models import Models
from services.gateway.domain.options import Options
from services.gateway.domain.quotas import QuotaRules, Quotas
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
