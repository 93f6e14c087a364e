"""A suite's edge as the `quartet` command sees it: the public contracts, with an invented inside."""

import asyncio
import os
import pty
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, chdir
from dataclasses import dataclass, field
from pathlib import Path

from typer.testing import CliRunner

from quartet.common.v1 import decision_pb2, document_pb2, generation_pb2, message_pb2, run_pb2, stage_pb2
from quartet.gateway.v1 import document_pb2 as documents_pb2
from quartet.gateway.v1 import gateway_pb2, key_pb2
from quartet.gateway.v1 import run_pb2 as runs_pb2
from services.cli.__main__ import app
from services.kit.call import Call
from services.kit.errors import NotFound, QuartetError, Unauthenticated

KEY = "qk_test_1234"
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
QUOTE = "The router sends each request to the cheapest handler."
TEXT = f"{QUOTE} [1]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    code: int
    out: str
    err: str


@dataclass(slots=True)
class Edge:
    """Where the contracts are served, what they were asked, and the errors that they are to answer with."""

    address: str = ""
    generations: list[gateway_pb2.Generation] = field(default_factory=list)
    uploads: list[list[documents_pb2.IngestDocumentsRequest]] = field(default_factory=list)
    jobs: dict[str, document_pb2.IngestJob] = field(default_factory=dict)
    usages: list[key_pb2.GetUsageRequest] = field(default_factory=list)
    outcomes: list[gateway_pb2.RecordOutcomeRequest] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    failures: dict[str, QuartetError] = field(default_factory=dict)
    stuck: bool = False
    watched: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(
        self,
        *arguments: str,
        folder: Path = Path("/"),
        stdin: str = "",
        environment: Mapping[str, str] | None = None,
    ) -> Result:
        """What the command does without a terminal, from its start to its end.

        It runs in a thread of ours, with a loop of its own: a process each would take most of the time.
        """

        def invoke() -> Result:
            alone: dict[str, str | None] = {**dict.fromkeys(os.environ), **self._environment(environment)}
            with chdir(folder):
                done = CliRunner().invoke(app, arguments, input=stdin, env=alone, catch_exceptions=False)
            return Result(code=done.exit_code, out=done.stdout, err=done.stderr)

        return await asyncio.to_thread(invoke)

    async def run_process(
        self, *arguments: str, stdin: str = "", environment: Mapping[str, str] | None = None
    ) -> Result:
        """What the command does as a process on pipes, from its start to its end."""
        async with self.start(*arguments, environment=environment) as process:
            out, err = await asyncio.wait_for(process.communicate(stdin.encode()), timeout=60)
        assert process.returncode is not None
        return Result(code=process.returncode, out=out.decode(), err=err.decode())

    async def run_on_terminal(
        self,
        *arguments: str,
        folder: Path = Path("/"),
        typed: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> Result:
        """What the command does as a process on a terminal, where one thing is typed at each prompt."""
        ours, its = pty.openpty()
        extra = {"TERM": "xterm-256color", **(environment or {})}
        async with self.start(*arguments, folder=folder, environment=extra, terminal=its) as process:
            os.close(its)
            written = await asyncio.wait_for(asyncio.to_thread(_converse, ours, typed), timeout=60)
            code = await asyncio.wait_for(process.wait(), timeout=60)
        os.close(ours)
        return Result(code=code, out=written.decode(), err="")

    @asynccontextmanager
    async def start(
        self,
        *arguments: str,
        folder: Path = Path("/"),
        environment: Mapping[str, str] | None = None,
        terminal: int = asyncio.subprocess.PIPE,
    ) -> AsyncIterator[asyncio.subprocess.Process]:
        """The `quartet` command as a process in a folder, on pipes or on a terminal; ended with the block."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "services.cli", *arguments),
            cwd=folder,
            env=self._environment(environment),
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            preexec_fn=_heed_ctrl_c,
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    def admit(self, rpc: str, call: Call) -> None:
        """Checks the key as a gateway does, names the trace, and fails where the test wants it."""
        call.response_headers["x-quartet-trace-id"] = TRACE_ID
        if call.metadata.get("authorization") != f"Bearer {KEY}":
            raise Unauthenticated("no valid API key came with the call", reason="INVALID_API_KEY")
        if rpc in self.failures:
            raise self.failures[rpc]

    def _environment(self, extra: Mapping[str, str] | None) -> dict[str, str]:
        """Of a command that talks to this edge."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        kept |= {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONUTF8": "1"}
        return kept | {"QUARTET_URL": f"http://{self.address}", "QUARTET_API_KEY": KEY} | dict(extra or {})


def _converse(terminal: int, typed: Sequence[str]) -> bytes:
    written = b""
    waiting = list(typed)
    try:
        while piece := os.read(terminal, 65536):
            written += piece
            if waiting and written.endswith(b"> "):
                os.write(terminal, waiting.pop(0).encode())
    except OSError:  # how Linux says that nobody writes to the terminal any more
        return written
    return written


def usage() -> generation_pb2.Usage:
    return generation_pb2.Usage(input_tokens=512, output_tokens=43, cost_micro_usd=1_000_070, model_calls=1)


def citation() -> message_pb2.Citation:
    return message_pb2.Citation(
        document_id="doc-1",
        chunk_id="chunk-1",
        title="Architecture",
        source="docs/architecture.md",
        quote=QUOTE,
        start_char=120,
        end_char=174,
        score=0.71,
        index=1,
        collection="default",
    )


def completion(text: str, *citations: message_pb2.Citation) -> generation_pb2.Completion:
    part = message_pb2.Part(text=text, citations=citations)
    return generation_pb2.Completion(
        message=message_pb2.Message(role=message_pb2.ROLE_ASSISTANT, parts=[part]),
        finish_reason=generation_pb2.FINISH_REASON_STOP,
        usage=usage(),
        model="local/extractive",
    )


def run_of(state: run_pb2.RunState.ValueType = run_pb2.RUN_STATE_SUCCEEDED) -> run_pb2.Run:
    return run_pb2.Run(
        id="run-7",
        state=state,
        stop_reason=run_pb2.STOP_REASON_MAX_ITERATIONS,
        iterations=8,
        replans=7,
        usage=usage(),
        completion=completion(TEXT, citation()),
    )


def run_events() -> list[run_pb2.RunEvent]:
    first = run_pb2.Step(id="1.1", kind=run_pb2.STEP_KIND_RETRIEVAL, input="router")
    second = run_pb2.Step(id="2.1", kind=run_pb2.STEP_KIND_RETRIEVAL, input="request routing")
    missed = run_pb2.StepResult(step=first, confidence=0.31, judgement="nothing fits")
    found = run_pb2.StepResult(step=second, confidence=0.92)
    return [
        run_pb2.RunEvent(number=1, started=run_pb2.RunStarted()),
        run_pb2.RunEvent(number=2, plan=run_pb2.PlanMade(iteration=1, steps=[first])),
        run_pb2.RunEvent(number=3, step_ended=missed),
        run_pb2.RunEvent(
            number=4, plan=run_pb2.PlanMade(iteration=2, steps=[second], reason="confidence 0.31 < 0.70")
        ),
        run_pb2.RunEvent(number=5, step_ended=found),
        run_pb2.RunEvent(number=0, delta=generation_pb2.Delta(text=TEXT)),
        run_pb2.RunEvent(number=6, ended=run_pb2.RunEnded(run=run_of())),
    ]


class FakeGateway:
    """Answers each target as the real gateway would, with the same words."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    async def record_outcome(
        self, request: gateway_pb2.RecordOutcomeRequest, call: Call
    ) -> gateway_pb2.RecordOutcomeResponse:
        self._edge.admit("record_outcome", call)
        self._edge.outcomes.append(request)
        return gateway_pb2.RecordOutcomeResponse()

    async def compare_policies(
        self, request: gateway_pb2.ComparePoliciesRequest, call: Call
    ) -> gateway_pb2.ComparePoliciesResponse:
        self._edge.admit("compare_policies", call)
        row = gateway_pb2.PolicyComparison(
            route="complex",
            decisions=1000,
            disagreements=400,
            live_micro_usd=8_000_000,
            shadow_micro_usd=2_000_000,
        )
        return gateway_pb2.ComparePoliciesResponse(routes=[row])

    async def generate(
        self, request: gateway_pb2.GenerateRequest, call: Call
    ) -> gateway_pb2.GenerateResponse:
        self._edge.admit("generate", call)
        self._edge.generations.append(request.generation)
        return gateway_pb2.GenerateResponse(
            decision=self._decide(request.generation),
            completion=completion(TEXT, citation()),
            trace_id=TRACE_ID,
        )

    async def stream_generate(
        self, request: gateway_pb2.StreamGenerateRequest, call: Call
    ) -> AsyncIterator[gateway_pb2.StreamGenerateResponse]:
        self._edge.admit("stream_generate", call)
        self._edge.generations.append(request.generation)
        target = request.generation.target.name
        decision = self._decide(request.generation)
        yield gateway_pb2.StreamGenerateResponse(decision=decision, event_number=1, trace_id=TRACE_ID)
        if target.startswith("agent"):
            for event in run_events():
                yield gateway_pb2.StreamGenerateResponse(run_event=event)
        elif target == "gpt-hostile":
            yield gateway_pb2.StreamGenerateResponse(
                delta=generation_pb2.Delta(text="\x1b]0;owned\x07[bold]x")
            )
        else:
            stage = stage_pb2.StageReport(stage="retrieve", duration_us=1500, summary="5 passages, best 0.62")
            yield gateway_pb2.StreamGenerateResponse(stage=stage)
            for piece in ("The router sends each ", "request to the cheapest handler. [1]"):
                yield gateway_pb2.StreamGenerateResponse(delta=generation_pb2.Delta(text=piece))
        if "stream_end" in self._edge.failures:
            raise self._edge.failures["stream_end"]
        end = completion(TEXT, citation())
        if target == "gpt-hostile":
            end.ClearField("message")
        yield gateway_pb2.StreamGenerateResponse(end=end)

    async def explain_route(
        self, request: gateway_pb2.ExplainRouteRequest, call: Call
    ) -> gateway_pb2.ExplainRouteResponse:
        self._edge.admit("explain_route", call)
        self._edge.generations.append(request.generation)
        rejected = decision_pb2.Candidate(
            model="gpt-6-luna",
            provider="openai",
            estimated_cost_micro_usd=4_250,
            rejected_because="no OPENAI_API_KEY or OPENAI_BASE_URL is set",
        )
        chosen = decision_pb2.Candidate(model="local/extractive", provider="local", chosen=True)
        decision = decision_pb2.Decision(
            route="technical",
            intent="technical",
            confidence=1,
            rule="code_words",
            handler=decision_pb2.Handler(model="local/extractive"),
            candidates=[rejected, chosen],
            session="stays on local/extractive" if request.generation.session else "",
            warnings=["gpt-4o-mini was shut down: gpt-6-luna takes over"],
        )
        return gateway_pb2.ExplainRouteResponse(decision=decision, input_tokens=9)

    async def list_models(
        self, request: gateway_pb2.ListModelsRequest, call: Call
    ) -> gateway_pb2.ListModelsResponse:
        self._edge.admit("list_models", call)
        ready = gateway_pb2.Model(id="local/extractive", kind="model", provider="local", available=True)
        missing = gateway_pb2.Model(
            id="gpt-6-luna",
            kind="model",
            provider="openai",
            input_micro_usd_per_mtok=1_250_000,
            output_micro_usd_per_mtok=10_000_000,
            unavailable_because="no OPENAI_API_KEY or OPENAI_BASE_URL is set",
        )
        missing.longer_prices.add(
            above_input_tokens=272_000,
            input_micro_usd_per_mtok=2_500_000,
            output_micro_usd_per_mtok=15_000_000,
        )
        auto = gateway_pb2.Model(id="auto", kind="auto", available=True)
        return gateway_pb2.ListModelsResponse(models=[auto, ready, missing])

    def _decide(self, generation: gateway_pb2.Generation) -> decision_pb2.Decision:
        name = generation.target.name
        if name.startswith("rag/"):
            pipeline = decision_pb2.PipelineTarget(name="rag_answer", collection=name.removeprefix("rag/"))
            return decision_pb2.Decision(rule="named", handler=decision_pb2.Handler(pipeline=pipeline))
        if name.startswith("agent"):
            agent = decision_pb2.AgentTarget(collection=name.removeprefix("agent/"))
            return decision_pb2.Decision(rule="named", handler=decision_pb2.Handler(agent=agent))
        if name.startswith("unknown"):
            message = f"there is no model named {name}: /v1/models lists them"
            raise NotFound(message, reason="MODEL_NOT_FOUND", field_violations=[("target.name", message)])
        handler = decision_pb2.Handler(model=name)
        return decision_pb2.Decision(route="simple_faq", rule="default", handler=handler, model=name)


class FakeDocuments:
    """Takes uploads, and ends their jobs at once unless the edge is stuck."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    async def ingest_documents(
        self, requests: AsyncIterator[documents_pb2.IngestDocumentsRequest], call: Call
    ) -> documents_pb2.IngestDocumentsResponse:
        self._edge.admit("ingest_documents", call)
        upload = [request async for request in requests]
        self._edge.uploads.append(upload)
        sources = [piece.header.source for piece in upload if piece.HasField("header")]
        failures = [
            document_pb2.IngestFailure(source=source, message="it holds no text: is it a scan?")
            for source in sources
            if "scan" in source
        ]
        failed = document_pb2.INGEST_STATE_FAILED if failures else document_pb2.INGEST_STATE_SUCCEEDED
        job = document_pb2.IngestJob(
            id=f"job-{len(self._edge.uploads)}",
            collection=upload[0].collection,
            state=document_pb2.INGEST_STATE_RUNNING if self._edge.stuck else failed,
            total_documents=len(sources),
            done_documents=0 if self._edge.stuck else len(sources),
            unchanged_documents=sum("same" in source for source in sources),
            stored_chunks=3 * len(sources),
            failures=failures,
        )
        self._edge.jobs[job.id] = job
        pending = document_pb2.IngestJob(
            id=job.id,
            collection=job.collection,
            state=document_pb2.INGEST_STATE_PENDING,
            total_documents=len(sources),
        )
        return documents_pb2.IngestDocumentsResponse(job=pending)

    async def watch_ingest_job(
        self, request: documents_pb2.WatchIngestJobRequest, call: Call
    ) -> AsyncIterator[documents_pb2.WatchIngestJobResponse]:
        self._edge.admit("watch_ingest_job", call)
        yield documents_pb2.WatchIngestJobResponse(job=self._job(request.job_id))
        self._edge.watched.set()
        if self._edge.stuck:
            await asyncio.Event().wait()
        yield documents_pb2.WatchIngestJobResponse(job=self._job(request.job_id))

    async def get_ingest_job(
        self, request: documents_pb2.GetIngestJobRequest, call: Call
    ) -> documents_pb2.GetIngestJobResponse:
        self._edge.admit("get_ingest_job", call)
        return documents_pb2.GetIngestJobResponse(job=self._job(request.job_id))

    async def cancel_ingest_job(
        self, request: documents_pb2.CancelIngestJobRequest, call: Call
    ) -> documents_pb2.CancelIngestJobResponse:
        self._edge.admit("cancel_ingest_job", call)
        job = self._job(request.job_id)
        job.state = document_pb2.INGEST_STATE_CANCELLED
        return documents_pb2.CancelIngestJobResponse(job=job)

    async def list_collections(
        self, request: documents_pb2.ListCollectionsRequest, call: Call
    ) -> documents_pb2.ListCollectionsResponse:
        self._edge.admit("list_collections", call)
        one = document_pb2.Collection(
            name="default", document_count=12, chunk_count=340, embedding_model="local/minilm"
        )
        return documents_pb2.ListCollectionsResponse(collections=[one])

    async def list_documents(
        self, request: documents_pb2.ListDocumentsRequest, call: Call
    ) -> documents_pb2.ListDocumentsResponse:
        self._edge.admit("list_documents", call)
        if request.collection != "default":
            raise NotFound(f"there is no collection {request.collection}", reason="COLLECTION_NOT_FOUND")
        one = document_pb2.Document(
            id="doc-1", source="docs/architecture.md", title="Architecture", chunk_count=4
        )
        return documents_pb2.ListDocumentsResponse(documents=[one], next_page_token="more-1")

    async def get_document(
        self, request: documents_pb2.GetDocumentRequest, call: Call
    ) -> documents_pb2.GetDocumentResponse:
        self._edge.admit("get_document", call)
        document = document_pb2.Document(id=request.document_id, source="docs/architecture.md")
        return documents_pb2.GetDocumentResponse(document=document)

    async def search(self, request: documents_pb2.SearchRequest, call: Call) -> documents_pb2.SearchResponse:
        self._edge.admit("search", call)
        passage = message_pb2.Passage(
            document_id="doc-1",
            title="Architecture",
            source="docs/architecture.md",
            text=f"{request.query}: {QUOTE}",
            start_char=120,
            end_char=174,
            score=0.71,
        )
        return documents_pb2.SearchResponse(passages=[passage] * request.top_k)

    def _job(self, job_id: str) -> document_pb2.IngestJob:
        if job_id not in self._edge.jobs:
            raise NotFound(f"there is no job {job_id}", reason="JOB_NOT_FOUND")
        return self._edge.jobs[job_id]


class FakeUsage:
    """Has an entry for every group: one of a dollar and a half, and one without a name that is free."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    async def get_usage(self, request: key_pb2.GetUsageRequest, call: Call) -> key_pb2.GetUsageResponse:
        self._edge.admit("get_usage", call)
        self._edge.usages.append(request)
        dear = key_pb2.UsageRow(
            group=[f"some {name}" for name in request.group_by],
            calls=1200,
            input_tokens=3_000_000,
            cached_input_tokens=7,
            output_tokens=500,
            cost_micro_usd=1_500_001,
            routed_cost_micro_usd=1_000_000,
            baseline_micro_usd=4_000_000,
        )
        free = key_pb2.UsageRow(group=["" for _ in request.group_by], calls=3, input_tokens=30)
        return key_pb2.GetUsageResponse(rows=[dear, free])


class FakeRuns:
    """Knows one run, which ended at its cap."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    async def list_runs(self, request: runs_pb2.ListRunsRequest, call: Call) -> runs_pb2.ListRunsResponse:
        self._edge.admit("list_runs", call)
        return runs_pb2.ListRunsResponse(runs=[run_of()])

    async def get_run(self, request: runs_pb2.GetRunRequest, call: Call) -> runs_pb2.GetRunResponse:
        self._edge.admit("get_run", call)
        self._check(request.run_id)
        return runs_pb2.GetRunResponse(run=run_of())

    async def watch_run(
        self, request: runs_pb2.WatchRunRequest, call: Call
    ) -> AsyncIterator[runs_pb2.WatchRunResponse]:
        self._edge.admit("watch_run", call)
        self._check(request.run_id)
        for event in run_events():
            if event.number == 0 or event.number >= request.from_event_number:
                yield runs_pb2.WatchRunResponse(event=event)

    async def cancel_run(self, request: runs_pb2.CancelRunRequest, call: Call) -> runs_pb2.CancelRunResponse:
        self._edge.admit("cancel_run", call)
        self._check(request.run_id)
        self._edge.cancelled.append(request.run_id)
        return runs_pb2.CancelRunResponse(run=run_of(run_pb2.RUN_STATE_CANCELLED))

    def _check(self, run_id: str) -> None:
        if run_id != "run-7":
            raise NotFound(f"there is no run {run_id}", reason="RUN_NOT_FOUND")


def _heed_ctrl_c() -> None:
    """A program that a shell started in the background ignores SIGINT, and so do its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
