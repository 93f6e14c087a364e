"""The server: takes a request, asks the script, and lets the dialect's wire format answer."""

import asyncio
import itertools
import ssl
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import orjson
from aiohttp import web
from pydantic import ValidationError

from tests.doubles.provider import anthropic_wire, embedding, openai_wire
from tests.doubles.provider.answers import PromptCache, compose
from tests.doubles.provider.clouds import TOKEN_PATH, Clouds, Entry
from tests.doubles.provider.delivery import Delivery
from tests.doubles.provider.entra import EXCHANGE_PATH, IDENTITY_PATH
from tests.doubles.provider.ledger import Disconnect, Ledger, RecordedRequest
from tests.doubles.provider.refusals import Refusal, refuse_anthropic, refuse_openai
from tests.doubles.provider.script import FAULT, NO_FAULT, REPLY, RULE, Fault, Match, Reply, Rule, Script
from tests.doubles.provider.wire import Wire

LINEUP = (
    "gpt-6-luna",
    "gpt-6.1-terra",
    "gpt-6.1-sol",
    "gpt-6-astra",
    "claude-haiku-5-5",
    "claude-sonnet-5-5",
    "claude-opus-5-5",
    "claude-fable-5-1",
    "text-embedding-3-small",
    "text-embedding-3-large",
)
_MAX_BODY_BYTES = 32 * 1024 * 1024
_CHAT = "/v1/chat/completions"
_EMBEDDINGS = "/v1/embeddings"
_MODELS = "/v1/models"
_MESSAGES = "/v1/messages"
_COUNT_TOKENS = "/v1/messages/count_tokens"
_METHODS = {_CHAT: "POST", _EMBEDDINGS: "POST", _MODELS: "GET", _MESSAGES: "POST", _COUNT_TOKENS: "POST"}


class ProviderDouble:
    """A provider on a loopback port, for as long as its context lasts.

    Args:
        models: The models that exist; None accepts every name.
        api_keys: The keys that are right; None accepts every key that is not empty.
        chunks: Pieces of text in a stream; None sends a piece per word.
        keep: How many requests and disconnects to remember; 0 remembers none.
        host: Address to bind.
        port: Port to bind; 0 takes a free one.
    """

    def __init__(
        self,
        *,
        models: Collection[str] | None = None,
        api_keys: Collection[str] | None = None,
        chunks: int | None = None,
        keep: int = 1000,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._models = models
        self._api_keys = api_keys
        self._chunks = chunks
        self._address = (host, port)
        self._tls = tls
        self._script = Script()
        self._cache = PromptCache()
        self._ledger = Ledger(keep)
        self.clouds = Clouds()
        self._serials = itertools.count(1)
        self._in_flight = 0
        self._closing = asyncio.Event()
        self._web: web.Server | None = None
        self._listener: asyncio.Server | None = None
        self.url = ""

    async def __aenter__(self) -> Self:
        self._web = web.Server(self._handle, handler_cancellation=True, access_log=None)
        host, port = self._address
        self._listener = await asyncio.get_running_loop().create_server(self._web, host, port, ssl=self._tls)
        scheme = "https" if self._tls else "http"
        self.url = f"{scheme}://{host}:{self._listener.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._web is not None
        assert self._listener is not None
        self._closing.set()
        self._listener.close()
        await self._web.shutdown(0.05)
        await self._listener.wait_closed()

    @property
    def openai_url(self) -> str:
        """What `OPENAI_BASE_URL` takes; `ANTHROPIC_BASE_URL` takes `url` itself."""
        return f"{self.url}/v1"

    @property
    def requests(self) -> list[RecordedRequest]:
        """The provider calls so far, oldest first."""
        return list(self._ledger.requests)

    @property
    def disconnects(self) -> list[Disconnect]:
        """The clients that left before their answer was complete, oldest first."""
        return list(self._ledger.disconnects)

    @property
    def open_connections(self) -> int:
        return len(self._web.connections) if self._web else 0

    @property
    def in_flight(self) -> int:
        """Requests that have come and are neither answered nor given up."""
        return self._in_flight

    def calls(self, endpoint: str | None = None, model: str | None = None) -> int:
        """How many calls came for the endpoint and the model; None stands for all of them."""
        return sum(
            count
            for (called, named), count in self._ledger.calls.items()
            if endpoint in (None, called) and model in (None, named)
        )

    def stats(self) -> dict[str, Any]:
        return self._ledger.stats(self.open_connections)

    def script(
        self,
        *,
        match: Match | str | Callable[[RecordedRequest], bool] | None = None,
        reply: Reply | None = None,
        fault: Fault | None = None,
        times: int | None = 1,
    ) -> Rule:
        """Queue an answer for the next `times` requests that match: a model's name, a predicate, or any.

        `times=None` answers all of them. The rule's `used` tells how often it was taken.
        """
        if match is None or isinstance(match, str):
            match = Match(model=match)
        elif not isinstance(match, Match):
            match = Match(where=match)
        rule = Rule(match=match, reply=reply, fault=fault, times=times)
        self._script.add(rule)
        return rule

    def reset(self) -> None:
        """Forget scripts, counts, requests and cached prompts."""
        self._script.clear()
        self._ledger.clear()
        self._cache.clear()

    async def wait_disconnects(self, count: int = 1, *, timeout_s: float = 5.0) -> None:
        """Return once so many clients have left before their answer was complete; raises TimeoutError."""
        await self._ledger.wait(lambda: self._ledger.disconnect_count >= count, timeout_s)

    async def wait_calls(self, count: int = 1, *, timeout_s: float = 5.0) -> None:
        """Return once so many calls have come in; raises TimeoutError."""
        await self._ledger.wait(lambda: self.calls() >= count, timeout_s)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path.startswith("/_double/"):
            return await self._control(request)
        if request.path == TOKEN_PATH:
            return await self._give_token(request)
        if request.path == IDENTITY_PATH:
            status, given = self.clouds.entra.give_to_app(request.headers, request.query)
            return web.json_response(given, status=status)
        if request.path == EXCHANGE_PATH:
            status, given = self.clouds.entra.give_to_workload(await request.content.read())
            return web.json_response(given, status=status)
        door = self.clouds.find(request.path)
        wire = door.wire if door else _vendor(request)
        method = "POST" if door else _METHODS.get(request.path)
        if method != request.method:
            status = 404 if method is None else 405
            return _json(status, wire.error(status, message=f"Unknown request URL: {request.path}"))
        if (request.content_length or 0) > _MAX_BODY_BYTES:
            return _json(413, wire.error(413))
        raw = await request.content.read()
        try:
            body = orjson.loads(raw) if raw else {}
            if not isinstance(body, dict):
                raise TypeError("the body is no object")
            asked = _rule_in_headers(request.headers)
        except (TypeError, ValueError) as problem:
            return _json(400, wire.error(400, message=f"We could not parse your request: {problem}"))
        recorded = RecordedRequest(
            method=request.method,
            endpoint=request.path,
            model=str(body.get("model", "")),
            headers={name.lower(): value for name, value in request.headers.items()},
            body=body,
            at=time.monotonic(),
        )
        entry = door.enter(recorded, request.raw_path, raw) if door else Entry(request=recorded)
        recorded = replace(recorded, model=entry.request.model)
        self._ledger.record(recorded)
        self._in_flight += 1
        try:
            return await self._deliver(request, recorded, asked, wire, entry)
        finally:
            self._in_flight -= 1

    async def _deliver(
        self,
        request: web.BaseRequest,
        recorded: RecordedRequest,
        asked: Rule | None,
        wire: Wire,
        entry: Entry,
    ) -> web.StreamResponse:
        rule = asked or self._script.take(entry.request) or Rule()
        delivery = Delivery(request, rule.fault or NO_FAULT, self._closing)
        try:
            await delivery.begin()
            return await self._answer(entry, rule, wire, delivery)
        except (asyncio.CancelledError, ConnectionError) as gone:
            if not delivery.cut and not self._closing.is_set():
                self._ledger.record_disconnect(recorded, delivery.chunks_sent)
            if isinstance(gone, asyncio.CancelledError):
                raise
            return web.Response()  # for nobody: a socket closed in mid-write is no error of the server's

    async def _answer(self, entry: Entry, rule: Rule, wire: Wire, delivery: Delivery) -> web.StreamResponse:
        request = entry.request
        serial = f"{next(self._serials):012x}"
        fault = rule.fault or NO_FAULT
        headers = {wire.REQUEST_ID: f"req_{serial}", **fault.headers}
        if fault.retry_after_s is not None:
            headers["retry-after"] = f"{fault.retry_after_s:g}"
        if fault.status is not None:
            status, body = fault.status, wire.error(fault.status, message=fault.message)
        elif entry.refusal is not None:
            status, body = entry.refusal[0], wire.error(entry.refusal[0], message=entry.refusal[1])
        elif refused := self._refuse(request, wire):
            status, body = refused
        elif request.endpoint == _MODELS:
            status, body = 200, wire.models(sorted(self._models) if self._models is not None else LINEUP)
        elif request.endpoint == _EMBEDDINGS:
            status, body = _embeddings(request)
        elif request.endpoint == _COUNT_TOKENS:
            status, body = 200, anthropic_wire.count_tokens(anthropic_wire.read_prompt(request.body))
        else:
            try:
                prompt = wire.read_prompt(request.body)
            except (AttributeError, KeyError, TypeError) as problem:
                self._ledger.statuses[400] += 1
                body = wire.error(400, message=f"We could not understand your request: {problem!r}")
                return await delivery.send_body(400, body, headers)
            answer = compose(prompt, rule.reply, chunks=self._chunks, cache=self._cache)
            if prompt.stream:
                self._ledger.statuses[200] += 1
                return await delivery.send_stream(
                    wire.stream(answer, prompt.model, serial, request.body),
                    headers,
                    malformed=wire.MALFORMED,
                    error=wire.error_event(fault.message),
                )
            status, body = 200, wire.unary(answer, prompt.model, serial)
        self._ledger.statuses[status] += 1
        return await delivery.send_body(status, body, headers)

    def _refuse(self, request: RecordedRequest, wire: Wire) -> tuple[int, bytes] | None:
        """The status and body of a refusal: of the key first, then the model, then the parameters."""
        key = _api_key(request.headers)
        if not key or (self._api_keys is not None and key not in self._api_keys):
            return 401, wire.error(401, message=None if key else "You didn't provide an API key.")
        if request.endpoint == _MODELS:
            return None
        if not request.model:
            return 400, wire.error(400, message="model: Field required", param="model")
        if self._models is not None and request.model not in self._models:
            return 404, wire.model_not_found(request.model)
        refusal = None
        if request.endpoint == _CHAT:
            refusal = refuse_openai(request.body)
        elif request.endpoint in (_MESSAGES, _COUNT_TOKENS):
            refusal = refuse_anthropic(
                request.body,
                version=request.headers.get("anthropic-version"),
                counting=request.endpoint == _COUNT_TOKENS,
            )
        if refusal is None:
            return None
        return 400, wire.error(400, message=refusal.message, param=refusal.param, code=refusal.code)

    async def _give_token(self, request: web.BaseRequest) -> web.Response:
        given = self.clouds.give_token(await request.content.read())
        if given is None:
            return web.json_response({"error": "invalid_grant", "error_description": "No."}, status=400)
        return web.json_response(given)

    async def _control(self, request: web.BaseRequest) -> web.Response:
        match (request.method, request.path):
            case ("POST", "/_double/script"):
                try:
                    self._script.add(RULE.validate_json(await request.read()))
                except ValidationError as problem:
                    return web.json_response({"error": str(problem)}, status=400)
                return web.json_response({"ok": True})
            case ("GET", "/_double/stats"):
                return _json(200, orjson.dumps(self.stats()))
            case ("GET", "/_double/requests"):
                return _json(200, orjson.dumps(self.requests))
            case ("GET", "/_double/service-account"):
                return web.Response(text=self.clouds.service_account(self.url))
            case ("POST", "/_double/reset"):
                self.reset()
                return web.json_response({"ok": True})
        return web.json_response({"error": f"no such control: {request.method} {request.path}"}, status=404)


def _vendor(request: web.BaseRequest) -> Wire:
    is_anthropic = request.path.startswith(_MESSAGES) or "anthropic-version" in request.headers
    return anthropic_wire if is_anthropic else openai_wire


def _api_key(headers: Mapping[str, str]) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return (
        headers.get("x-api-key")
        or headers.get("api-key")
        or (token.strip() if scheme.lower() == "bearer" else "")
    )


def _rule_in_headers(headers: Mapping[str, str]) -> Rule | None:
    """What the request asks for itself: JSON in `x-double-reply` and `x-double-fault`."""
    reply, fault = headers.get("x-double-reply"), headers.get("x-double-fault")
    if reply is None and fault is None:
        return None
    return Rule(
        reply=REPLY.validate_json(reply) if reply else None,
        fault=FAULT.validate_json(fault) if fault else None,
    )


def _embeddings(request: RecordedRequest) -> tuple[int, bytes]:
    inputs = embedding.read_inputs(request.body)
    if isinstance(inputs, Refusal):
        return 400, openai_wire.error(400, message=inputs.message, param=inputs.param)
    dimensions, encoding = request.body.get("dimensions"), request.body.get("encoding_format")
    vectors = [
        embedding.encode(embedding.embed(text, request.model, dimensions), encoding) for text in inputs
    ]
    return 200, openai_wire.embeddings(vectors, request.model, sum(map(len, inputs)))


def _json(status: int, body: bytes) -> web.Response:
    return web.Response(status=status, body=body, content_type="application/json")
