import json
from pathlib import Path

import pytest

from services.kit.errors import Internal, ResourceExhausted
from tests.contract.cli.edge import QUOTE, TEXT, TRACE_ID, Edge


async def test_an_answer_comes_with_its_citations_and_figures(edge: Edge) -> None:
    result = await edge.run("ask", "What does the router do?")
    assert result.code == 0, result.err
    assert result.out.splitlines() == [
        TEXT,
        "",
        "[1] Architecture (docs/architecture.md), characters 120-174",
        f"    “{QUOTE}”",
        "",
        result.out.splitlines()[-1],
    ]
    assert edge.generations[0].target.name == "rag/default"
    figures = result.out.splitlines()[-1].split(" · ")
    assert figures[:4] == [
        "route pipeline/rag_answer on default (named)",
        "model local/extractive",
        "512 tokens in, 43 out",
        "$1.00007",
    ]
    assert figures[4].startswith("first token after 0.")
    assert figures[5] == f"trace {TRACE_ID}"
    assert result.err == ""


async def test_a_question_can_come_from_stdin(edge: Edge) -> None:
    result = await edge.run("ask", "-", stdin="Why\nnot?\n")
    assert result.code == 0, result.err
    assert edge.generations[0].messages[0].parts[0].text == "Why\nnot?"


async def test_json_holds_the_whole_answer_with_exact_numbers(edge: Edge) -> None:
    result = await edge.run("ask", "Why?", "--json")
    answer = json.loads(result.out)
    assert answer["answer"] == TEXT
    assert answer["citations"][0]["source"] == "docs/architecture.md"
    assert (answer["citations"][0]["start_char"], answer["citations"][0]["end_char"]) == (120, 174)
    assert answer["usage"]["cost_micro_usd"] == 1_000_070
    assert answer["cost_usd"] == "1.00007"
    assert answer["trace_id"] == TRACE_ID
    assert 0 < answer["first_token_s"] <= answer["total_s"]


async def test_without_streaming_the_answer_comes_whole(edge: Edge) -> None:
    result = await edge.run("ask", "Why?", "--no-stream")
    assert result.out.splitlines()[0] == TEXT
    assert " · whole after " in result.out


async def test_plans_and_replans_are_told_beside_the_answer(edge: Edge) -> None:
    result = await edge.run("ask", "Why?", "--agent")
    assert result.out.splitlines()[0] == TEXT
    assert edge.generations[0].target.name == "agent/default"
    assert result.err.splitlines() == [
        "plan 1",
        "  1.1 retrieval: router",
        "  1.1 retrieval done, confidence 0.31: nothing fits",
        "replan 2: confidence 0.31 < 0.70",
        "  2.1 retrieval: request routing",
        "  2.1 retrieval done, confidence 0.92",
        "run run-7 succeeded, stopped: max iterations, 8 iterations, 7 replans",
        "note: partial answer, stopped after 8 iterations: max iterations",
    ]


async def test_stages_are_told_when_asked_for(edge: Edge) -> None:
    result = await edge.run("ask", "Why?", "--stages")
    assert result.err == "retrieve: 5 passages, best 0.62 (1.5 ms)\n"


async def test_text_from_a_model_cannot_drive_the_terminal(edge: Edge) -> None:
    result = await edge.run("ask", "Why?", "--model", "gpt-hostile")
    assert result.out.startswith("]0;owned[bold]x\n")
    assert "\x1b" not in result.out
    assert "\x07" not in result.out


async def test_an_error_is_one_line_with_reason_field_and_trace(edge: Edge) -> None:
    result = await edge.run("ask", "Why?", "--model", "unknown-1", "--no-stream")
    assert result.code == 1
    assert result.out == ""
    assert result.err == (
        "error: there is no model named unknown-1: /v1/models lists them "
        f"[MODEL_NOT_FOUND, field target.name, trace {TRACE_ID}]\n"
    )


async def test_a_quota_error_says_which_one_and_when_to_come_back(edge: Edge) -> None:
    edge.failures["generate"] = ResourceExhausted(
        "too many requests",
        reason="QUOTA_EXCEEDED",
        quota_violations=[("key:qk_1/requests", "60 of 60 used")],
        retry_after_s=12,
    )
    result = await edge.run("ask", "Why?", "--no-stream")
    assert "[QUOTA_EXCEEDED, key:qk_1/requests: 60 of 60 used, retry after 12 s, trace" in result.err


async def test_a_stream_that_breaks_fails_after_what_came(edge: Edge) -> None:
    edge.failures["stream_end"] = Internal("internal error e-42", metadata={"id": "e-42"})
    result = await edge.run("ask", "Why?")
    assert result.code == 1
    assert result.out.startswith(TEXT)
    assert "error id e-42" in result.err
    assert "Traceback" not in result.err


async def test_a_key_that_is_not_valid_says_where_keys_come_from(edge: Edge) -> None:
    result = await edge.run("ask", "Why?", environment={"QUARTET_API_KEY": "wrong"})
    assert result.code == 1
    assert "INVALID_API_KEY" in result.err
    assert "The key that was sent is not valid: set QUARTET_API_KEY" in result.err
    assert "wrong" not in result.err


async def test_no_key_at_all_names_the_file_that_was_looked_for(edge: Edge, tmp_path: Path) -> None:
    environment = {"QUARTET_API_KEY": "", "QUARTET_HOME": str(tmp_path)}
    result = await edge.run("ask", "Why?", environment=environment)
    assert result.code == 1
    assert "No key was sent: set QUARTET_API_KEY, or QUARTET_HOME" in result.err
    assert str(tmp_path / "dev.key") in result.err


async def test_the_key_of_a_local_suite_is_found_in_its_home(edge: Edge, tmp_path: Path) -> None:
    (tmp_path / "dev.key").write_text("qk_test_1234\n")
    environment = {"QUARTET_API_KEY": "", "QUARTET_HOME": str(tmp_path)}
    result = await edge.run("ask", "Why?", environment=environment)
    assert result.code == 0, result.err


async def test_a_suite_that_is_not_there_is_said_to_be_started(edge: Edge, closed_port: int) -> None:
    url = f"http://127.0.0.1:{closed_port}"
    result = await edge.run("ask", "Why?", environment={"QUARTET_URL": url})
    assert result.code == 1
    assert f"error: no suite answers at {url}: Connection refused [PEER_UNREACHABLE" in result.err
    assert "`make run`" in result.err
    assert "QUARTET_URL" in result.err


@pytest.mark.parametrize(("extra", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
async def test_a_terminal_gets_colours_unless_it_wants_none(
    edge: Edge, extra: dict[str, str], coloured: bool
) -> None:
    result = await edge.run_on_terminal("ask", "Why?", "--model", "unknown-1", environment=extra)
    assert result.code == 1
    assert "there is no model named unknown-1" in result.out
    assert ("\x1b[31m" in result.out) is coloured


async def test_pipes_carry_the_question_and_the_answer_without_control_codes(edge: Edge) -> None:
    colourful = {"TERM": "xterm-256color"}
    result = await edge.run_process("ask", "-", "--agent", stdin="Why\nnot?\n", environment=colourful)
    assert result.code == 0, result.err
    assert edge.generations[0].messages[0].parts[0].text == "Why\nnot?"
    assert result.out.splitlines()[0] == TEXT
    assert result.err.splitlines()[0] == "plan 1"
    assert "\x1b" not in result.out + result.err
