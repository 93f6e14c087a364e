import pytest

from quartet.pipeline.v1 import pipeline_pb2  # noqa: F401 - registers the contract
from quartet.router.v1 import router_pb2
from services.kit.binding import Binding, rpcs_of

ROUTER = "quartet.router.v1.RouterService"


def test_the_rpcs_of_a_contract_have_snake_case_methods() -> None:
    methods = [rpc.attribute for rpc in rpcs_of(ROUTER)]
    assert methods[:5] == ["route", "generate", "stream_generate", "embed", "list_models"]


def test_an_rpc_knows_its_types_and_directions() -> None:
    rpcs = {rpc.attribute: rpc for rpc in (*rpcs_of(ROUTER), *rpcs_of("quartet.pipeline.v1.PipelineService"))}
    stream = rpcs["stream_generate"]
    assert stream.path == "/quartet.router.v1.RouterService/StreamGenerate"
    assert stream.request_type is router_pb2.StreamGenerateRequest
    assert (stream.client_streaming, stream.server_streaming, stream.error_field) == (False, True, "error")
    assert rpcs["ingest_documents"].client_streaming
    assert rpcs["generate"].error_field is None


def test_a_contract_that_was_not_imported_says_what_to_import() -> None:
    with pytest.raises(LookupError, match=r"nobody\.v1\.Nothing.*_pb2"):
        rpcs_of("nobody.v1.Nothing")


def test_a_binding_is_served_when_one_method_is_there() -> None:
    class Half:
        async def route(self) -> None: ...

    assert Binding(ROUTER, Half()).served
    assert not Binding(ROUTER, object()).served
