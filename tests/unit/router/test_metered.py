"""The span of a model call, as an exporter sees it."""

import asyncio
from collections.abc import AsyncGenerator

import pytest
from opentelemetry.metrics import NoOpMeter
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NoOpTracer, SpanKind, StatusCode

from quartet.common.v1 import generation_pb2 as generation
from services.kit.call import Call
from services.router.adapters.metered import Instruments, MeteredProvider
from services.router.domain import failures
from services.router.domain.adaptation import ModelRequest, adapt
from services.router.domain.catalogue import Catalogue
from services.router.domain.ledger import JUDGE, OK, Entry, Purpose
from services.router.domain.routes import RouteTable
from services.router.ports import Accepted, ProviderEvent
from tests.unit.router.conftest import Ask


class FakeProvider:
    """Answers a word, or fails."""

    def __init__(self, *, fails: bool = False) -> None:
        self._fails = fails

    async def generate(self, request: ModelRequest, call: Call) -> generation.Completion:
        if self._fails:
            raise failures.unreachable("openai", request.model.id, "gone")
        usage = generation.Usage(input_tokens=1000, output_tokens=100, cached_input_tokens=200)
        return generation.Completion(finish_reason=generation.FINISH_REASON_STOP, usage=usage)

    async def stream(self, request: ModelRequest, call: Call) -> AsyncGenerator[ProviderEvent]:
        yield Accepted()
        yield generation.Delta(text="word")
        yield await self.generate(request, call)


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def instruments(exporter: InMemorySpanExporter) -> Instruments:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return Instruments(provider.get_tracer("test"), NoOpMeter("test"))


@pytest.fixture
def request_to_luna(catalogue: Catalogue, routes: RouteTable, ask: Ask) -> ModelRequest:
    return adapt(ask(), catalogue.find("gpt-6-luna"), routes.named, output_tokens=300)


def only(exporter: InMemorySpanExporter) -> ReadableSpan:
    (span,) = exporter.get_finished_spans()
    return span


async def test_a_call_is_a_client_span_with_tokens_and_cost(
    exporter: InMemorySpanExporter, instruments: Instruments, request_to_luna: ModelRequest
) -> None:
    completion = await MeteredProvider(FakeProvider(), instruments).generate(
        request_to_luna, Call.root(timeout_s=1)
    )
    span = only(exporter)
    assert (span.name, span.kind) == ("chat gpt-6-luna", SpanKind.CLIENT)
    attributes = dict(span.attributes or {})
    assert attributes["gen_ai.provider.name"] == "openai"
    assert attributes["gen_ai.request.max_tokens"] == 300
    assert attributes["gen_ai.usage.input_tokens"] == 1000
    assert attributes["gen_ai.response.finish_reasons"] == ("stop",)
    # 800 at 0.1, 200 at 0.01 and 100 at 0.5 micro-USD.
    assert attributes["quartet.cost_micro_usd"] == completion.usage.cost_micro_usd == 132


async def test_a_stream_knows_when_its_first_word_came(
    exporter: InMemorySpanExporter, instruments: Instruments, request_to_luna: ModelRequest
) -> None:
    provider = MeteredProvider(FakeProvider(), instruments)
    events = [event async for event in provider.stream(request_to_luna, Call.root(timeout_s=1))]
    assert isinstance(events[-1], generation.Completion)
    assert events[-1].usage.cost_micro_usd == 132
    assert "gen_ai.response.time_to_first_chunk" in (only(exporter).attributes or {})


async def test_a_failed_call_has_its_reason_on_the_span(
    exporter: InMemorySpanExporter, instruments: Instruments, request_to_luna: ModelRequest
) -> None:
    provider = MeteredProvider(FakeProvider(fails=True), instruments)
    with pytest.raises(Exception, match="gone"):
        await provider.generate(request_to_luna, Call.root(timeout_s=1))
    span = only(exporter)
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["error.type"] == "PROVIDER_UNAVAILABLE"


class Kept:
    """A ledger that keeps what it is given."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def record(self, entry: Entry) -> None:
        self.entries.append(entry)


def test_an_answer_that_supersedes_another_is_compared_once(catalogue: Catalogue) -> None:
    baseline = catalogue.find("gpt-6.1-sol").prices
    instruments = Instruments(NoOpTracer(), NoOpMeter("test"), baseline=baseline)
    draft = generation.Usage(input_tokens=1000, output_tokens=100)
    answer = generation.Usage(input_tokens=1000, output_tokens=300)
    booked = [
        instruments.compare(Purpose(route="complex"), draft, OK),
        instruments.compare(Purpose(route="complex", overhead=JUDGE), draft, OK),
        instruments.compare(Purpose(route="complex", superseded=draft), answer, OK),
    ]
    assert sum(booked) == instruments.compare(Purpose(route="complex"), answer, OK)


class Pending:
    """A provider that never gets as far as an answer."""

    async def generate(self, request: ModelRequest, call: Call) -> generation.Completion:
        await asyncio.sleep(30)
        raise AssertionError("it is given up before")

    async def stream(self, request: ModelRequest, call: Call) -> AsyncGenerator[ProviderEvent]:
        yield await self.generate(request, call)


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_call_that_is_given_up_is_booked_with_what_it_read(
    catalogue: Catalogue, routes: RouteTable, ask: Ask, streamed: bool
) -> None:
    ledger = Kept()
    provider = MeteredProvider(Pending(), Instruments(NoOpTracer(), NoOpMeter("test"), ledger))
    purpose = Purpose(route="complex", input_tokens=1000)
    model = catalogue.find("gpt-6-luna")
    request = adapt(ask(), model, routes.named, output_tokens=300, purpose=purpose)
    call = Call.root(timeout_s=5)

    async def ask_for() -> None:
        if streamed:
            async for _ in provider.stream(request, call):
                pass
        else:
            await provider.generate(request, call)

    task = asyncio.create_task(ask_for())
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (entry,) = ledger.entries
    assert (entry.status, entry.estimated) == ("CANCELLED", True)
    assert (entry.input_tokens, entry.cost_micro_usd) == (1000, 100)
