import subprocess
import sys
from pathlib import Path

import pytest

from services.kit.settings import SettingsError
from services.router.adapters.config.models import read_models
from services.router.adapters.config.routes import read_routes
from services.router.domain.catalogue import Batching, Catalogue, Dialect, VectorCaching
from services.router.domain.prices import TokenKind

MODELS = """\
sources:
  own: {title: here, as_of: 2026-11}
default_embedding: a
models:
  - id: a
    provider: local
    source: own
    context_window: 10
    max_output_tokens: 10
    capabilities: [embeddings]
"""
ROUTES = """\
default: complex
named: {max_output_tokens: 100, expected_output_tokens: 10}
routes:
  - {name: complex, max_output_tokens: 100, expected_output_tokens: 10, candidates: [gpt-6.1-sol]}
  - {name: simple, max_output_tokens: 100, expected_output_tokens: 10, candidates: [gpt-6-luna]}
rules:
  - {name: greet, priority: 10, route: simple, keywords: [hello]}
  - {name: world, priority: 10, route: complex, keywords: [world]}
"""


NAMER = "model: gpt-6-luna"


def write(folder: Path, text: str) -> Path:
    path = folder / "file.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("change", "line", "reason"),
    [
        (("context_window: 10", "context_window: many"), 8, "valid integer"),
        (("capabilities: [embeddings]", "capabilities: [flying]"), 10, "Input should be"),
        (("source: own", "source: rumour"), 7, "'rumour' is not among"),
        (("default_embedding: a", "default_embedding: b"), 5, "'b' is not there"),
        (("provider: local", "provider: local\n    colour: red"), 7, "Extra inputs"),
        (("as_of: 2026-11", "as_of: soon"), 2, "match pattern"),
        (("models:", "models: ["), 5, "expected"),
        (("capabilities: [embeddings]", "batch: {texts: 0}"), 10, "greater than or equal to 1"),
        (("capabilities: [embeddings]", "cache: off"), 5, "for models that make embeddings"),
        (("models:", "embedding_cache: on\nmodels:"), 4, "Input should be"),
    ],
)
def test_a_bad_file_of_models_is_refused_with_line_and_reason(
    tmp_path: Path, change: tuple[str, str], line: int, reason: str
) -> None:
    path = write(tmp_path, MODELS.replace(*change))
    with pytest.raises(SettingsError) as caught:
        read_models(path)
    assert str(caught.value).startswith(f"{path}:{line}:")
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("for_all", "own", "kept"),
    [
        ("", "", (604800, 16)),
        ("embedding_cache: off", "", None),
        ("embedding_cache: {ttl_s: 60, max_tenant_mib: 2}", "", (60, 2)),
        ("embedding_cache: {ttl_s: 60, max_tenant_mib: 2}", "    cache: off", None),
        ("embedding_cache: {ttl_s: 60, max_tenant_mib: 2}", "    cache: {ttl_s: 5}", (5, 2)),
        ("embedding_cache: off", "    cache: {ttl_s: 5}", (5, 16)),
    ],
)
def test_vectors_are_kept_unless_the_file_says_otherwise(
    tmp_path: Path, for_all: str, own: str, kept: tuple[int, int] | None
) -> None:
    catalogue, _ = read_models(write(tmp_path, f"{for_all}\n{MODELS}{own}\n"))
    caching = catalogue.find("a").vector_caching
    ttl_s, mib = kept or (0, 0)
    expected = VectorCaching(ttl_s=ttl_s, max_tenant_bytes=mib * 1024 * 1024) if kept else None
    assert caching == expected


def test_a_model_says_how_many_texts_its_server_takes(tmp_path: Path) -> None:
    batch = "    batch: {texts: 32, concurrent: 2}\n"
    catalogue, _ = read_models(write(tmp_path, MODELS + batch))
    assert catalogue.find("a").batching == Batching(texts=32, tokens=300_000, concurrent=2)


LISTED = """\
    prices:
      - {source: own, input: 100, output: 400, cached_input: 10}
      - {source: own, batch: BATCH}
"""


def test_priority_costs_what_is_listed_and_else_what_a_standard_call_does(tmp_path: Path) -> None:
    lines = LISTED.replace("batch: BATCH", "batch: {input: 50}, priority: {input: 250, cache_write: 300}")
    prices = read_models(write(tmp_path, MODELS + lines))[0].find("a").prices
    kinds = (TokenKind.INPUT, TokenKind.CACHED_INPUT, TokenKind.CACHE_WRITE, TokenKind.OUTPUT)
    assert [prices.of(1, "priority").per_mtok(kind) for kind in kinds] == [250, 10, 300, 400]
    assert [prices.of(1, "batch").per_mtok(kind) for kind in kinds] == [50, 10, 50, 400]


def test_a_batch_costs_what_is_listed_and_else_what_a_single_call_does(tmp_path: Path) -> None:
    text = MODELS + LISTED.replace("BATCH", "{input: 50, output: 200}")
    prices = read_models(write(tmp_path, text))[0].find("a").prices
    kinds = (TokenKind.INPUT, TokenKind.CACHED_INPUT, TokenKind.OUTPUT, TokenKind.REASONING)
    assert [prices.of(1, "flex").per_mtok(kind) for kind in kinds] == [50, 10, 200, 200]
    assert [prices.of(1, "default").per_mtok(kind) for kind in kinds] == [100, 10, 400, 400]


@pytest.mark.parametrize(
    ("batch", "reason"),
    [
        ("{input: 101}", r":13: models\.0\.prices\.1\.batch\.input: input costs more in a batch than alone"),
        ("{reasoning: 401}", "reasoning costs more in a batch than alone"),
        ("{input: 50}}\n      - {source: own, batch: {input: 50}", "a second price for input"),
        ("{input: 50}, priority: {input: -1}", r"prices\.1\.priority\.input: .*greater than or equal to 0"),
        ("{flex: 50}", "Extra inputs"),
    ],
)
def test_prices_of_tiers_that_cannot_be_meant_are_refused(tmp_path: Path, batch: str, reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        read_models(write(tmp_path, MODELS + LISTED.replace("BATCH", batch)))


LONGER = """\
    prices:
      - {source: own, input: 100, output: 400, cached_input: 10, batch: {input: 50}}
      - {source: own, above_tokens: 5, input: 200, cached_input: 20}
      - {source: own, above_tokens: 5, batch: {output: 300}, priority: {input: 500}}
      - {source: own, above_tokens: 8, output: 900}
"""


def test_a_longer_request_costs_what_is_listed_and_else_what_a_shorter_one_does(tmp_path: Path) -> None:
    prices = read_models(write(tmp_path, MODELS + LONGER))[0].find("a").prices
    kinds = (TokenKind.INPUT, TokenKind.CACHED_INPUT, TokenKind.OUTPUT)
    found = {
        (tokens, tier): [prices.of(tokens, tier).per_mtok(kind) for kind in kinds]
        for tokens in (5, 6, 9)
        for tier in ("default", "batch", "priority")
    }
    assert found == {
        (5, "default"): [100, 10, 400],
        (5, "batch"): [50, 10, 400],
        (5, "priority"): [100, 10, 400],
        (6, "default"): [200, 20, 400],
        (6, "batch"): [200, 20, 300],
        (6, "priority"): [500, 20, 400],
        (9, "default"): [200, 20, 900],
        (9, "batch"): [200, 20, 900],
        (9, "priority"): [200, 20, 900],
    }


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("tokens: 8", "tokens: 10"), r":15: models\.0\.prices\.3\.above_tokens: .* context window of 10"),
        (
            ("tokens: 8", "tokens: 0"),
            r":15: models\.0\.prices\.3\.above_tokens: .* greater than or equal to 1",
        ),
        (("tokens: 8", "tokens: many"), r":15: models\.0\.prices\.3\.above_tokens: .* valid integer"),
        (("8, output: 900", "5, input: 900"), r":15: models\.0\.prices\.3\.input: a second price for input"),
        (("output: 300", "output: 401"), r":14: .*\.prices\.2\.batch\.output: output costs more in a batch"),
        (("own, input: 100, ", "own, "), r"models\.0\.prices: no price for input"),
    ],
)
def test_prices_by_length_that_cannot_be_meant_are_refused(
    tmp_path: Path, change: tuple[str, str], reason: str
) -> None:
    assert change[0] in LONGER
    with pytest.raises(SettingsError, match=reason):
        read_models(write(tmp_path, MODELS + LONGER.replace(*change)))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"absent\.yaml: cannot be read"):
        read_models(tmp_path / "absent.yaml")


def test_a_server_by_url_brings_its_own_models(tmp_path: Path) -> None:
    text = MODELS + (
        "servers:\n"
        "  - name: workstation\n"
        "    base_url: http://127.0.0.1:11434/v1\n"
        "    models:\n"
        "      - {id: ws/llama, upstream: 'llama:70b', context_window: 100, max_output_tokens: 50}\n"
    )
    catalogue, servers = read_models(write(tmp_path, text))
    found = catalogue.find("ws/llama")
    assert (found.provider, found.dialect, found.upstream) == ("workstation", Dialect.OPENAI, "llama:70b")
    assert found.prices.are_free
    assert servers[0].base_url == "http://127.0.0.1:11434/v1"


CLOUD = """\
servers:
  - name: east
    kind: azure
    base_url: https://east.openai.azure.com
    api_version: 2025-04-01-preview
  - name: eu
    kind: bedrock
    region: eu-central-1
  - name: west
    kind: vertex
    region: europe-west1
    project: mine
    models:
      - {id: w/claude, upstream: "claude@1", context_window: 100, max_output_tokens: 50}
"""


def test_a_cloud_has_settings_of_its_kind_and_the_dialect_of_its_vendor(tmp_path: Path) -> None:
    catalogue, servers = read_models(write(tmp_path, MODELS + CLOUD))
    assert [(server.kind, server.speaks) for server in servers] == [
        ("azure", Dialect.OPENAI),
        ("bedrock", Dialect.ANTHROPIC),
        ("vertex", Dialect.ANTHROPIC),
    ]
    assert catalogue.find("w/claude").dialect is Dialect.ANTHROPIC


@pytest.mark.parametrize(
    ("change", "line", "reason"),
    [
        (("kind: azure", "kind: azur"), 12, "does not match any of the expected tags"),
        (("    api_version: 2025-04-01-preview\n", ""), 12, "api_version: Field required"),
        (("api_version: 2025-04-01-preview", "api_version: newest"), 15, "match pattern"),
        (("region: eu-central-1", "region: evil.example/?"), 18, "match pattern"),
        (("project: mine", "project: mine\n    api_version: 2025-04-01"), 23, "Extra inputs"),
        (("project: mine", "project: ../other"), 22, "match pattern"),
        (("project: mine", "project: mine\n    credentials_variable: my key"), 23, "match pattern"),
        (("https://east.openai.azure.com", "east.openai.azure.com"), 14, "match pattern"),
    ],
)
def test_a_cloud_that_cannot_be_called_is_refused_with_line_and_reason(
    tmp_path: Path, change: tuple[str, str], line: int, reason: str
) -> None:
    assert change[0] in CLOUD
    path = write(tmp_path, MODELS + CLOUD.replace(*change))
    with pytest.raises(SettingsError) as caught:
        read_models(path)
    assert str(caught.value).startswith(f"{path}:{line}:")
    assert reason in str(caught.value)


@pytest.mark.parametrize("name", ["openai", "east"])
def test_a_server_s_name_is_its_own(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, MODELS + CLOUD.replace("name: eu", f"name: {name}"))
    with pytest.raises(SettingsError, match=f":16: servers.1.name: '{name}' is taken"):
        read_models(path)


def test_the_shipped_routes_are_four_with_their_limits(catalogue: Catalogue) -> None:
    table = read_routes(Path("config/routes.yaml"), catalogue)
    assert {route.name: route.max_output_tokens for route in table} == {
        "simple_faq": 200,
        "technical": 2000,
        "complex": 4000,
        "code_gen": 8000,
    }
    assert table.default.name == "complex"
    assert all(route.candidates[-1] == "local/extractive" for route in table)


@pytest.mark.parametrize(
    ("addition", "line", "reason"),
    [
        ('tests:\n  - {prompt: "hello world", rule: greet}\n', 10, "give one of them another priority"),
        ('tests:\n  - {prompt: "hello", rule: world}\n', 10, "'greet' decides it, not 'world'"),
        ("  - {name: greet, priority: 1, route: simple}\n", 9, "a second rule"),
        ("  - {name: other, priority: 1, route: nowhere}\n", 9, "no route 'nowhere'"),
        ("  - {name: other, priority: 1, route: simple, patterns: ['(']}\n", 9, "not a regular expression"),
        ("  - {name: other, priority: 1, route: simple, handler: {}}\n", 9, "either a pipeline or the agent"),
        ("classifier: {min_confidence: 0.6, llm: {model: gpt-0}}\n", 9, "no model 'gpt-0'"),
        ("classifier: {min_confidence: 0.6, llm: {model: local/minilm}}\n", 9, "writes no text"),
        ("classifier: {min_confidence: 0.6, llm: {model: local/extractive}}\n", 9, "from passages"),
        (f"classifier: {{min_confidence: 1, llm: {{{NAMER}, labels: {{x: '', y: ''}}}}}}\n", 9, "route 'x'"),
        (
            f"classifier: {{min_confidence: 1, llm: {{{NAMER}, labels: {{simple: ''}}}}}}\n",
            9,
            "nothing to choose",
        ),
        ("  - {name: other, priority: 1, route: simple, session: maybe}\n", 9, "valid boolean"),
        ("  - {name: other, priority: 1, route: simple, labels: {Team: a}}\n", 9, "match pattern"),
        ("  - {name: other, priority: 1, route: simple, labels: {team: []}}\n", 9, "at least 1 item"),
        ("  - {name: other, priority: 1, route: simple, labels: {team: 1}}\n", 9, "valid tuple"),
        ("  - {name: other, priority: 1, route: simple, language: [de, xx]}\n", 9, "code 'xx'"),
        ("  - {name: other, priority: 1, route: simple, language: 1}\n", 9, "valid tuple"),
    ],
)
def test_a_bad_file_of_routes_is_refused_with_line_and_reason(
    tmp_path: Path, catalogue: Catalogue, addition: str, line: int, reason: str
) -> None:
    path = write(tmp_path, ROUTES + addition)
    with pytest.raises(SettingsError) as caught:
        read_routes(path, catalogue)
    assert str(caught.value).startswith(f"{path}:{line}:")
    assert reason in str(caught.value)


CONDITIONS = """\
  - {name: gold, priority: 20, route: complex, labels: {tier: [gold, platinum], team: search}}
  - {name: german, priority: 20, route: complex, language: de}
  - {name: follow-up, priority: 20, route: complex, session: true}
  - {name: first, priority: 5, route: simple, session: false}
"""
GERMAN = "Wie lange dauert die Lieferung nach Hamburg?"


@pytest.mark.parametrize(
    ("test", "said"),
    [
        ("prompt: hi, session: true, labels: {tier: gold, team: search}", "'gold' and 'follow-up'"),
        (f"prompt: '{GERMAN}', session: true", "'german' and 'follow-up'"),
        (f"prompt: '{GERMAN}', labels: {{tier: platinum, team: search}}", "'gold' and 'german'"),
    ],
)
def test_two_rules_of_one_priority_that_both_match_what_is_tried_are_refused(
    tmp_path: Path, catalogue: Catalogue, test: str, said: str
) -> None:
    path = write(tmp_path, f"{ROUTES}{CONDITIONS}tests:\n  - {{{test}, rule: gold}}\n")
    with pytest.raises(SettingsError) as caught:
        read_routes(path, catalogue)
    assert str(caught.value).startswith(f"{path}:14: tests.0: the rules {said} of priority 20 both match")


def test_rules_ask_what_the_caller_says_whether_there_is_a_session_and_for_the_language(
    tmp_path: Path, catalogue: Catalogue
) -> None:
    tests = (
        """\
tests:
  - {prompt: hi, labels: {tier: gold, team: search}, rule: gold}
  - {prompt: hi, labels: {tier: silver, team: search}, rule: first}
  - {prompt: hi, labels: {tier: gold}, rule: first}
  - {prompt: hi, session: true, rule: follow-up}
  - {prompt: hi, rule: first}
"""
        + f"  - {{prompt: '{GERMAN}', rule: german}}\n"
    )
    table = read_routes(write(tmp_path, ROUTES + CONDITIONS + tests), catalogue)
    assert [route.name for route in table] == ["complex", "simple"]


def test_no_language_is_loaded_where_no_rule_asks_for_one(catalogue: Catalogue) -> None:
    script = (
        "import sys; from pathlib import Path; "
        "from services.router.adapters.config.models import read_models; "
        "from services.router.adapters.config.routes import read_routes; "
        "read_routes(Path('config/routes.yaml'), read_models(Path('config/models.yaml'))[0]); "
        "sys.exit('py3langid' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_a_candidate_that_does_not_exist_is_refused(tmp_path: Path, catalogue: Catalogue) -> None:
    path = write(tmp_path, ROUTES.replace("gpt-6-luna", "gpt-0"))
    with pytest.raises(SettingsError, match=r":5: routes\.1\.candidates\.0: there is no model 'gpt-0'"):
        read_routes(path, catalogue)


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        ("policy: {keep: 0.9, save: 0.5}, cheaper: [gpt-6-luna]", "either `keep`"),
        ("policy: {}, cheaper: [gpt-6-luna]", "either `keep`"),
        ("policy: {keep: 1.5}, cheaper: [gpt-6-luna]", "less than 1"),
        ("policy: {keep: 0.9}", "name both it and the cheaper models"),
        ("cheaper: [gpt-6-luna]", "name both it and the cheaper models"),
        ("shadow: {save: 0.9}, cheaper: [gpt-0]", "no model 'gpt-0'"),
    ],
)
def test_a_policy_that_cannot_be_followed_is_refused_with_its_line(
    tmp_path: Path, catalogue: Catalogue, policy: str, reason: str
) -> None:
    text = ROUTES.replace("candidates: [gpt-6.1-sol]}", f"candidates: [gpt-6.1-sol], {policy}}}")
    path = write(tmp_path, text)
    with pytest.raises(SettingsError) as caught:
        read_routes(path, catalogue)
    assert str(caught.value).startswith(f"{path}:4:")
    assert reason in str(caught.value)


DEPLOYED = MODELS.replace("    provider: local\n", "    provider: openai\n") + (
    "    deployments: [{provider: openai}, {provider: east}]\n"
    "servers:\n"
    "  - {name: east, base_url: 'http://127.0.0.1:1/v1', dialect: openai}\n"
)


def test_a_model_may_be_deployed_at_several_providers(tmp_path: Path) -> None:
    text = DEPLOYED.replace(
        "{provider: east}", "{provider: east, upstream: b, weight: 2, limits: {concurrent: 3}}"
    )
    catalogue, _ = read_models(write(tmp_path, text))
    first, second = catalogue.find("a").sites
    assert (first.provider, first.upstream, first.weight, first.limits) == ("openai", "a", 1, None)
    assert (second.provider, second.upstream, second.weight) == ("east", "b", 2)
    assert second.limits is not None
    assert (second.limits.concurrent, second.limits.requests_per_minute) == (3, None)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("{provider: east}]", "{provider: west}]"), "no provider or server 'west'"),
        (("{provider: east}]", "{provider: openai}]"), "a second deployment at openai"),
        (("{provider: openai}, ", ""), "name openai among them"),
        (("dialect: openai", "dialect: anthropic"), "speaks another dialect"),
        (("{provider: east}]", "{provider: east, limits: {concurrent: 0}}]"), "greater than or equal to 1"),
        (("{provider: east}]", "{provider: east, weight: 0}]"), "greater than 0"),
    ],
)
def test_deployments_that_contradict_each_other_are_refused(
    tmp_path: Path, change: tuple[str, str], reason: str
) -> None:
    assert change[0] in DEPLOYED
    path = write(tmp_path, DEPLOYED.replace(*change))
    with pytest.raises(SettingsError, match=reason):
        read_models(path)


def test_a_route_may_hedge_cascade_and_name_a_last_resort(catalogue: Catalogue, tmp_path: Path) -> None:
    extra = (
        "candidates: [gpt-6.1-sol], cheaper: [gpt-6-luna], balance: least_latency, first_token_s: 3, "
        "cascade: {check: [form, judge], judge_output_tokens: 8}, hedge: {after_ms: 800, percentile: 95}}"
    )
    text = "last_resort: claude-haiku-5-5\n" + ROUTES.replace("candidates: [gpt-6.1-sol]}", extra)
    route = read_routes(write(tmp_path, text), catalogue).find("complex")
    assert (route.last_resort, route.first_token_s) == ("claude-haiku-5-5", 3)
    assert route.hedge is not None
    assert (route.hedge.after_s, route.hedge.quantile) == (0.8, 0.95)
    assert route.cascade is not None
    assert (route.cascade.hedges, route.cascade.judge_output_tokens) == ((), 8)


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        ("cascade: {}", "name both it and the cheaper models"),
        ("last_resort: gpt-1", "no model 'gpt-1'"),
        ("last_resort: local/minilm", "writes no text"),
        ("hedge: {after_ms: 0}", "greater than or equal to 1"),
        ("hedge: {after_ms: 10, percentile: 100}", "less than 100"),
    ],
)
def test_a_route_that_cannot_be_resilient_so_is_refused(
    catalogue: Catalogue, tmp_path: Path, extra: str, reason: str
) -> None:
    text = ROUTES.replace("candidates: [gpt-6.1-sol]}", f"candidates: [gpt-6.1-sol], {extra}}}")
    with pytest.raises(SettingsError, match=reason):
        read_routes(write(tmp_path, text), catalogue)


def test_a_model_that_names_routes_is_asked_below_the_classifiers_own_confidence(
    tmp_path: Path, catalogue: Catalogue
) -> None:
    entry = f"classifier: {{min_confidence: 0.6, llm: {{{NAMER}, timeout_ms: 250}}}}\n"
    labelling = read_routes(write(tmp_path, ROUTES + entry), catalogue).labelling
    assert labelling is not None
    assert (labelling.below, labelling.timeout_s) == (0.6, 0.25)
    assert labelling.labels == (("complex", ""), ("simple", ""))
    assert read_routes(Path("config/routes.yaml"), catalogue).labelling is None
