"""The ledger's bounds, with a database that is never there."""

import asyncio
import logging
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from services.router.adapters.postgres.journal import LEDGER, PostgresJournal
from services.router.domain.ledger import Entry

NOWHERE = "postgresql://nobody@127.0.0.1:1/none"


def entry(number: int = 1) -> Entry:
    return Entry(
        call_id=f"test-{number}",
        time=datetime.now(UTC),
        tenant="acme",
        key_id="",
        operation="chat",
        route="",
        model="gpt-6-luna",
        provider="openai",
        run_id="",
        trace_id="",
        cache="",
        status="OK",
        estimated=False,
        duration_us=1,
        input_tokens=1,
        output_tokens=1,
        cached_input_tokens=0,
        cache_write_tokens=0,
        reasoning_tokens=0,
        cost_micro_usd=1,
        baseline_micro_usd=1,
    )


@pytest.fixture
def reader() -> InMemoryMetricReader:
    return InMemoryMetricReader()


def unreachable(reader: InMemoryMetricReader, close_timeout_s: float) -> PostgresJournal[Entry]:
    meter = MeterProvider(metric_readers=[reader], shutdown_on_exit=False).get_meter("test")
    return PostgresJournal(
        NOWHERE,
        meter,
        statement=LEDGER,
        interval_s=0.01,
        max_batch=10,
        max_waiting=100,
        close_timeout_s=close_timeout_s,
    )


@pytest.fixture
def ledger(reader: InMemoryMetricReader) -> PostgresJournal[Entry]:
    return unreachable(reader, close_timeout_s=0.2)


def drops_in(reader: InMemoryMetricReader) -> Any:
    data = reader.get_metrics_data()
    assert data is not None
    (metric,) = data.resource_metrics[0].scope_metrics[0].metrics
    assert metric.name == "quartet.ledger.dropped"
    return metric.data.data_points[0].value  # type: ignore[union-attr]


async def test_entries_beyond_the_bound_are_dropped_counted_and_logged(
    ledger: PostgresJournal[Entry], reader: InMemoryMetricReader, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(130):
        ledger.record(entry(number))
    assert ledger.dropped == 30
    assert drops_in(reader) == 30
    lines = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert 1 <= len(lines) <= 6


async def test_closing_has_a_bound_and_says_what_was_lost(
    ledger: PostgresJournal[Entry], reader: InMemoryMetricReader, caplog: pytest.LogCaptureFixture
) -> None:
    ledger.open()
    for number in range(100):
        ledger.record(entry(number))
    begun = time.monotonic()
    await ledger.close()
    assert time.monotonic() - begun < 10
    assert ledger.dropped == drops_in(reader) == 100
    assert "stopped before they could be written" in caplog.text


async def test_a_ledger_without_entries_closes_at_once(reader: InMemoryMetricReader) -> None:
    ledger = unreachable(reader, close_timeout_s=60)
    ledger.open()
    async with asyncio.timeout(20):
        await ledger.close()
    assert ledger.dropped == 0
