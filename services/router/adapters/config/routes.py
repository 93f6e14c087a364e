"""`routes.yaml`: read, checked against the models and its own test prompts, and compiled once."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from services.kit.config_file import ConfigFile, Location, Strict
from services.router.adapters.config.rules import Name, RuleEntry, TestEntry, Words, read_rules
from services.router.domain.catalogue import Balance, Capability, Catalogue
from services.router.domain.checking import HEDGES, Cascade
from services.router.domain.features import SCANNED_HEAD_CHARS
from services.router.domain.labelling import Labelling
from services.router.domain.latency import Hedge
from services.router.domain.policy import Policy
from services.router.domain.routes import Caching, Route, RouteTable

NAMED_ROUTE = ""


Share = Annotated[float, Field(gt=0, lt=1)]


class _Policy(Strict):
    keep: Share | None = None
    save: Share | None = None

    @model_validator(mode="after")
    def _check_aim(self) -> Self:
        if (self.keep is None) is (self.save is None):
            raise ValueError("name either `keep`, a quality floor, or `save`, a savings target")
        return self


class _Cache(Strict):
    ttl_s: int = Field(ge=1, le=30 * 24 * 3600)
    semantic: float | None = Field(None, ge=0.5, le=1)


class _DefaultCache(Strict):
    ttl_s: int = Field(ge=1, le=30 * 24 * 3600)


class _Hedge(Strict):
    after_ms: int = Field(ge=1, le=600_000)
    percentile: float | None = Field(None, gt=0, lt=100)


class _Cascade(Strict):
    check: frozenset[Literal["form", "phrases", "judge"]] = frozenset(("form", "phrases"))
    phrases: tuple[Annotated[str, Field(min_length=1, max_length=200)], ...] | None = None
    judge_output_tokens: int = Field(16, ge=1, le=1000)


class _Route(Strict):
    name: Name
    max_output_tokens: int = Field(ge=1)
    expected_output_tokens: int = Field(ge=1)
    reasoning_effort: str = ""
    candidates: Words = Field(min_length=1)
    cheaper: Words = ()
    policy: _Policy | None = None
    shadow: _Policy | None = None
    cache: _Cache | Literal[False] | None = None
    balance: Balance | None = None
    last_resort: str = ""
    first_token_s: float | None = Field(None, gt=0)
    between_tokens_s: float | None = Field(None, gt=0)
    hedge: _Hedge | None = None
    cascade: _Cascade | None = None


class _Named(Strict):
    max_output_tokens: int = Field(ge=1)
    expected_output_tokens: int = Field(ge=1)


class _Llm(Strict):
    model: str
    timeout_ms: int = Field(400, ge=1, le=10_000)
    below: float | None = Field(None, ge=0, le=1)
    max_prompt_chars: int = Field(2000, ge=1, le=SCANNED_HEAD_CHARS)
    output_tokens: int = Field(16, ge=1, le=1000)
    labels: dict[Name, Annotated[str, Field(max_length=500)]] | None = None


class _Classifier(Strict):
    min_confidence: float = Field(ge=0, le=1)
    llm: _Llm | None = None


class _Routes(Strict):
    default: Name
    baseline: str = ""
    classifier: _Classifier | None = None
    cache: _DefaultCache | None = None
    last_resort: str = ""
    named: _Named
    routes: tuple[_Route, ...] = Field(min_length=1)
    rules: tuple[RuleEntry, ...] = ()
    tests: tuple[TestEntry, ...] = ()


def read_routes(path: Path, catalogue: Catalogue) -> RouteTable:
    """The routes and rules of the file; raises SettingsError naming the line of each fault."""
    source = ConfigFile(path)
    content = source.read(_Routes)
    _check_names(content, source)
    if content.last_resort:
        _check_model(content.last_resort, ("last_resort",), catalogue, source)
    routes = [_route(entry, index, content, catalogue, source) for index, entry in enumerate(content.routes)]
    names = {route.name for route in routes}
    rules = read_rules(content.rules, content.tests, names, source)
    named = Route(
        name=NAMED_ROUTE,
        max_output_tokens=content.named.max_output_tokens,
        expected_output_tokens=content.named.expected_output_tokens,
        candidates=(),
        caching=_caching(None, content),
    )
    classifier = content.classifier
    labelling = None if classifier is None else _labelling(classifier, content, catalogue, source)
    return RouteTable(
        routes,
        rules,
        default=content.default,
        named=named,
        baseline=_baseline(content, catalogue, source),
        classifier_confidence=None if classifier is None else classifier.min_confidence,
        labelling=labelling,
    )


def _check_names(content: _Routes, source: ConfigFile) -> None:
    routes: set[str] = set()
    for index, route in enumerate(content.routes):
        if route.name in routes:
            raise source.fault(("routes", index, "name"), f"a second route {route.name!r}")
        routes.add(route.name)
    if content.default not in routes:
        raise source.fault(("default",), f"there is no route {content.default!r}")


def _route(entry: _Route, index: int, content: _Routes, catalogue: Catalogue, source: ConfigFile) -> Route:
    for member, listed in (("candidates", entry.candidates), ("cheaper", entry.cheaper)):
        for place, name in enumerate(listed):
            _check_model(name, ("routes", index, member, place), catalogue, source)
    if entry.last_resort:
        _check_model(entry.last_resort, ("routes", index, "last_resort"), catalogue, source)
    if bool(entry.cheaper) is not bool(entry.policy or entry.shadow or entry.cascade):
        message = (
            "a policy chooses between `candidates` and `cheaper`, and a cascade goes from these to those: "
            "name both it and the cheaper models"
        )
        raise source.fault(("routes", index), message)
    return Route(
        name=entry.name,
        max_output_tokens=entry.max_output_tokens,
        expected_output_tokens=entry.expected_output_tokens,
        candidates=entry.candidates,
        reasoning_effort=entry.reasoning_effort,
        cheaper=entry.cheaper,
        policy=_policy(entry.policy),
        shadow=_policy(entry.shadow),
        caching=_caching(entry.cache, content),
        balance=entry.balance,
        last_resort=entry.last_resort or content.last_resort,
        first_token_s=entry.first_token_s,
        between_tokens_s=entry.between_tokens_s,
        hedge=_hedge(entry.hedge),
        cascade=_cascade(entry.cascade),
    )


def _check_model(name: str, location: Location, catalogue: Catalogue, source: ConfigFile) -> None:
    if name not in catalogue:
        raise source.fault(location, f"there is no model {name!r} in models.yaml")
    if catalogue.find(name).can(Capability.EMBEDDINGS):
        raise source.fault(location, f"{name} makes embeddings and writes no text")


def _caching(entry: _Cache | Literal[False] | None, content: _Routes) -> Caching | None:
    """The route's own entry, else the default one, which keeps only what is asked for at temperature 0."""
    if entry is False:
        return None
    if entry is not None:
        return Caching(ttl_s=entry.ttl_s, only_deterministic=False, semantic=entry.semantic)
    return None if content.cache is None else Caching(ttl_s=content.cache.ttl_s, only_deterministic=True)


def _labelling(
    entry: _Classifier, content: _Routes, catalogue: Catalogue, source: ConfigFile
) -> Labelling | None:
    if (llm := entry.llm) is None:
        return None
    location = ("classifier", "llm")
    _check_model(llm.model, (*location, "model"), catalogue, source)
    if catalogue.find(llm.model).can(Capability.PASSAGES_ONLY):
        raise source.fault((*location, "model"), f"{llm.model} answers from passages and from nothing else")
    names = [route.name for route in content.routes]
    labels = dict.fromkeys(names, "") if llm.labels is None else llm.labels
    unknown = next((label for label in labels if label not in names), "")
    if unknown or len(labels) < 2:
        message = f"there is no route {unknown!r}" if unknown else "there is nothing to choose between"
        raise source.fault((*location, "labels") if llm.labels is not None else location, message)
    return Labelling(
        model=llm.model,
        labels=tuple(labels.items()),
        below=entry.min_confidence if llm.below is None else llm.below,
        timeout_s=llm.timeout_ms / 1000,
        max_chars=llm.max_prompt_chars,
        output_tokens=llm.output_tokens,
    )


def _baseline(content: _Routes, catalogue: Catalogue, source: ConfigFile) -> str:
    """The model that the file names, else the default route's first one."""
    if not content.baseline:
        return next(route for route in content.routes if route.name == content.default).candidates[0]
    if content.baseline not in catalogue:
        raise source.fault(("baseline",), f"there is no model {content.baseline!r} in models.yaml")
    return content.baseline


def _cascade(entry: _Cascade | None) -> Cascade | None:
    if entry is None:
        return None
    phrases = HEDGES if entry.phrases is None else tuple(phrase.lower() for phrase in entry.phrases)
    return Cascade(
        hedges=phrases if "phrases" in entry.check else (),
        judge_output_tokens=entry.judge_output_tokens if "judge" in entry.check else 0,
    )


def _hedge(entry: _Hedge | None) -> Hedge | None:
    if entry is None:
        return None
    quantile = None if entry.percentile is None else entry.percentile / 100
    return Hedge(after_s=entry.after_ms / 1000, quantile=quantile)


def _policy(entry: _Policy | None) -> Policy | None:
    return None if entry is None else Policy(keep=entry.keep, save=entry.save)
