import pytest

from services.kit.testing import KINDS, client_of
from tests.contract.kit.asking import ROUTER, Connect


@pytest.fixture(params=KINDS)
def connect(request: pytest.FixtureRequest) -> Connect:
    return lambda service: client_of(str(request.param), ROUTER, service)
