"""Tables of what a suite holds."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console

from quartet.common.v1.document_pb2 import Collection, Document
from quartet.common.v1.price_pb2 import LongerPrice
from quartet.common.v1.run_pb2 import Run
from quartet.gateway.v1.gateway_pb2 import Model, PolicyComparison
from quartet.gateway.v1.key_pb2 import AuditEntry, Key, UsageRow
from quartet.gateway.v1.tenant_pb2 import Tenant
from services.cli.progress import counted, state_of, stop_reason_of
from services.cli.render import print_table, printable, usd


def print_collections(out: Console, collections: Iterable[Collection]) -> None:
    """Collections with what they hold."""
    columns = ("collection", "documents", "chunks", "embedding model")
    rows = (
        (one.name, str(one.document_count), str(one.chunk_count), one.embedding_model) for one in collections
    )
    print_table(out, columns, rows)


def print_documents(out: Console, documents: Iterable[Document]) -> None:
    """Documents with where they come from."""
    columns = ("source", "title", "type", "chunks", "stored", "id")
    rows = (
        (one.source, one.title, one.mime_type, str(one.chunk_count), moment(one.update_time), one.id)
        for one in documents
    )
    print_table(out, columns, rows)


def print_models(out: Console, models: Iterable[Model]) -> None:
    """Models with their prices, and with why one cannot answer."""
    columns = ("model", "provider", "$ per million in", "out", "longer prompts", "state")
    rows = (
        (
            one.id,
            one.provider or one.kind,
            usd(one.input_micro_usd_per_mtok) if one.kind == "model" else "",
            usd(one.output_micro_usd_per_mtok) if one.kind == "model" else "",
            "; ".join(map(_tell_longer, one.longer_prices)),
            "ready" if one.available else one.unavailable_because or "not available",
        )
        for one in models
    )
    print_table(out, columns, rows)


def print_readiness(out: Console, models: Sequence[Model]) -> None:
    """Which models can answer, and the others by what they lack."""
    ready = [one.id for one in models if one.available]
    out.print(f"{len(ready)} of {counted(len(models), 'model')} can answer: {', '.join(ready) or 'none'}")
    lacking: dict[str, list[str]] = {}
    for one in models:
        if not one.available:
            lacking.setdefault(one.unavailable_because or "not available", []).append(one.id)
    for reason, names in lacking.items():
        out.print(printable(f"  {reason}: {', '.join(names)}"), style="dim")


def print_runs(out: Console, runs: Iterable[Run]) -> None:
    """Runs with where they are and what they used."""
    columns = ("run", "state", "stopped", "iterations", "replans", "cost", "started")
    rows = (
        (
            one.id,
            state_of(one),
            stop_reason_of(one),
            str(one.iterations),
            str(one.replans),
            usd(one.usage.cost_micro_usd),
            moment(one.create_time),
        )
        for one in runs
    )
    print_table(out, columns, rows)


def print_keys(out: Console, keys: Iterable[Key], now: datetime) -> None:
    """Keys with what they may do, and whether they still may."""
    columns = ("key", "name", "state", "scopes", "created", "expires")
    rows = (
        (
            one.id,
            one.name,
            _state_of_key(one, now),
            ", ".join(one.scopes),
            moment(one.create_time),
            moment(one.expire_time) or "never",
        )
        for one in keys
    )
    print_table(out, columns, rows)


def print_tenants(out: Console, tenants: Iterable[Tenant]) -> None:
    """Tenants with what they may use."""
    columns = ("tenant", "name", "state", "limits", "created")
    rows = (
        (
            one.id,
            one.name,
            "being deleted" if one.HasField("delete_time") else "live",
            ", ".join(f"{limit.name}={value}" for limit, value in one.limits.ListFields()) or "limits.yaml's",
            moment(one.create_time),
        )
        for one in tenants
    )
    print_table(out, columns, rows)


def print_audit(out: Console, entries: Iterable[AuditEntry]) -> None:
    """Changes with who made them."""
    columns = ("time", "tenant", "by", "action", "of", "details")
    rows = (
        (moment(one.time), one.tenant, one.key_id, one.action, one.subject, one.details) for one in entries
    )
    print_table(out, columns, rows)


def _state_of_key(key: Key, now: datetime) -> str:
    if key.HasField("revoke_time"):
        return "revoked"
    if key.HasField("expire_time") and key.expire_time.ToDatetime(UTC) <= now:
        return "expired"
    return "live"


def print_usage(out: Console, group_by: Sequence[str], used: Sequence[UsageRow]) -> None:
    """What each group used, and below them all together."""
    columns = (*group_by, "calls", "tokens in", "of them cached", "tokens out", "cost")
    rows = [(*(name or "(none)" for name in row.group), *_amounts([row])) for row in used]
    if group_by:
        rows.append(("all", *("" for _ in group_by[1:]), *_amounts(used)))
    print_table(out, columns, rows or [_amounts(used)])


def print_savings(out: Console, group: str, used: Sequence[UsageRow]) -> None:
    """What routed calls cost and would have cost, group by group, and below them all together."""
    columns = (group, "routed cost", "baseline", "saved")
    routed = [row for row in used if row.baseline_micro_usd or row.routed_cost_micro_usd]
    rows = [(row.group[0] or "(none)", *_saved([row])) for row in routed]
    print_table(out, columns, [*rows, ("all", *_saved(routed))])


def _saved(used: Sequence[UsageRow]) -> tuple[str, ...]:
    cost = sum(row.routed_cost_micro_usd for row in used)
    baseline = sum(row.baseline_micro_usd for row in used)
    share = f" ({1 - cost / baseline:.1%})" if baseline else ""
    return usd(cost), usd(baseline), f"{_signed_usd(baseline - cost)}{share}"


def print_comparison(out: Console, routes: Sequence[PolicyComparison]) -> None:
    """Each route's live and shadow policy on the same requests."""
    columns = ("route", "decisions", "disagree", "live, expected", "shadow, expected", "shadow saves")
    print_table(out, columns, (_compared(row) for row in routes))
    if not routes:
        out.print("No route had a shadow policy: give one a `shadow` in routes.yaml.")


def _compared(row: PolicyComparison) -> tuple[str, ...]:
    live, shadow = row.live_micro_usd, row.shadow_micro_usd
    saved = f"{1 - shadow / live:.1%}" if live else "0.0%"
    disagreement = f"{row.disagreements / max(row.decisions, 1):.1%}"
    return row.route, f"{row.decisions:,}", disagreement, usd(live), usd(shadow), saved


def _tell_longer(longer: LongerPrice) -> str:
    prices = f"{usd(longer.input_micro_usd_per_mtok)} in, {usd(longer.output_micro_usd_per_mtok)} out"
    return f"above {longer.above_input_tokens:,}: {prices}"


def _signed_usd(micro_usd: int) -> str:
    return f"-{usd(-micro_usd)}" if micro_usd < 0 else usd(micro_usd)


def _amounts(used: Sequence[UsageRow]) -> tuple[str, ...]:
    counts = (
        sum(row.calls for row in used),
        sum(row.input_tokens for row in used),
        sum(row.cached_input_tokens for row in used),
        sum(row.output_tokens for row in used),
    )
    return (*(f"{count:,}" for count in counts), usd(sum(row.cost_micro_usd for row in used)))


def moment(time: Timestamp) -> str:
    """A time in UTC to the second; empty when there is none."""
    return f"{time.ToDatetime():%Y-%m-%d %H:%M:%S}" if time.seconds else ""
