"""The rules of `routes.yaml` and their test prompts: checked, and compiled once."""

import re
from collections.abc import Sequence, Set
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from quartet.common.v1 import message_pb2 as message
from quartet.router.v1.router_pb2 import Prompt
from services.kit.config_file import ConfigFile, Strict
from services.router.adapters.languages import Languages, load_languages
from services.router.domain.features import read_features
from services.router.domain.rules import (
    AgentHandler,
    Handler,
    PipelineHandler,
    Rule,
    RuleConflictError,
    RuleSet,
    Vocabulary,
)

MAX_LABELS = 16
"""As many as a request may bear."""


def _compile(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    return pattern


def _list(value: Any) -> Any:
    """A single word stands for a list of one."""
    return (value,) if isinstance(value, str) else value


Pattern = Annotated[str, AfterValidator(_compile)]
Name = Annotated[str, Field(pattern="^[a-z0-9][a-z0-9_-]*$", max_length=128)]
Words = tuple[Annotated[str, Field(min_length=1)], ...]
_LabelName = Annotated[str, Field(pattern="^[a-z0-9][a-z0-9_.-]*$", max_length=64)]
_LabelValue = Annotated[str, Field(min_length=1, max_length=128)]
_LabelValues = Annotated[tuple[_LabelValue, ...], BeforeValidator(_list), Field(min_length=1)]


class _Handler(Strict):
    pipeline: Name | None = None
    agent: Literal[True] | None = None
    collection: str = ""


class RuleEntry(Strict):
    """A rule as the file has it."""

    name: Name
    priority: int = Field(ge=0, le=1000)
    route: Name
    handler: _Handler | None = None
    keywords: Words = ()
    with_keywords: Words = ()
    without_keywords: Words = ()
    patterns: tuple[Pattern, ...] = ()
    min_chars: int = Field(0, ge=0)
    max_chars: int | None = Field(None, ge=1)
    has_code: bool | None = None
    session: bool | None = None
    labels: dict[_LabelName, _LabelValues] = Field(default_factory=dict, max_length=MAX_LABELS)
    language: Annotated[Words, BeforeValidator(_list)] = ()


class TestEntry(Strict):
    """A prompt, as a caller would send it, and what must decide it."""

    prompt: str
    session: bool = False
    labels: dict[_LabelName, _LabelValue] = Field(default_factory=dict, max_length=MAX_LABELS)
    rule: str
    """The rule, or `default`."""


def read_rules(
    entries: Sequence[RuleEntry], tests: Sequence[TestEntry], routes: Set[str], source: ConfigFile
) -> RuleSet:
    """The rules, which lead to these routes; raises SettingsError naming the line of each fault."""
    _check_names(entries, routes, source)
    tell_language = None
    if any(entry.language for entry in entries):
        languages = load_languages()
        _check_languages(entries, languages, source)
        tell_language = languages.tell
    rules = RuleSet([_rule(entry) for entry in entries], tell_language)
    _check_tests(tests, rules, source)
    return rules


def _check_names(entries: Sequence[RuleEntry], routes: Set[str], source: ConfigFile) -> None:
    names: set[str] = set()
    for index, rule in enumerate(entries):
        if rule.name in names:
            raise source.fault(("rules", index, "name"), f"a second rule {rule.name!r}")
        names.add(rule.name)
        if rule.route not in routes:
            raise source.fault(("rules", index, "route"), f"there is no route {rule.route!r}")
        handler = rule.handler
        if handler is not None and (handler.pipeline is None) is (handler.agent is None):
            raise source.fault(("rules", index, "handler"), "name either a pipeline or the agent")


def _check_languages(entries: Sequence[RuleEntry], languages: Languages, source: ConfigFile) -> None:
    for index, rule in enumerate(entries):
        for place, code in enumerate(rule.language):
            if code not in languages.codes:
                reason = f"no language of code {code!r} can be told: name an ISO 639 code such as `de`"
                raise source.fault(("rules", index, "language", place), reason)


def _rule(entry: RuleEntry) -> Rule:
    groups = (entry.keywords, entry.with_keywords)
    return Rule(
        name=entry.name,
        priority=entry.priority,
        route=entry.route,
        handler=_handler(entry.handler),
        keywords=tuple(Vocabulary(group) for group in groups if group),
        excluded=Vocabulary(entry.without_keywords) if entry.without_keywords else None,
        patterns=tuple(re.compile(pattern, re.IGNORECASE) for pattern in entry.patterns),
        min_chars=entry.min_chars,
        max_chars=entry.max_chars,
        has_code=entry.has_code,
        has_session=entry.session,
        labels={name: frozenset(values) for name, values in entry.labels.items()},
        languages=frozenset(entry.language),
    )


def _handler(entry: _Handler | None) -> Handler:
    if entry is None:
        return None
    if entry.pipeline is not None:
        return PipelineHandler(name=entry.pipeline, collection=entry.collection)
    return AgentHandler(collection=entry.collection)


def _check_tests(tests: Sequence[TestEntry], rules: RuleSet, source: ConfigFile) -> None:
    for index, test in enumerate(tests):
        features = read_features(_prompt(test))
        location = ("tests", index)
        try:
            rules.check(features)
        except RuleConflictError as error:
            raise source.fault(location, str(error)) from None
        rule = rules.decide(features, models_only=False)
        decided = rule.name if rule is not None else "default"
        if decided != test.rule:
            raise source.fault(location, f"{decided!r} decides it, not {test.rule!r}")


def _prompt(test: TestEntry) -> Prompt:
    turn = message.Message(role=message.ROLE_USER, parts=[message.Part(text=test.prompt)])
    return Prompt(messages=[turn], labels=test.labels, session="a session" if test.session else "")
