from quartet.common.v1 import message_pb2
from quartet.gateway.v1.gateway_pb2 import Generation
from tests.contract.cli.edge import TEXT, Edge


def said(generation: Generation) -> list[tuple[str, str]]:
    return [
        (message_pb2.Role.Name(message.role).removeprefix("ROLE_").lower(), message.parts[0].text)
        for message in generation.messages
    ]


async def test_each_answer_knows_what_was_said_before(edge: Edge) -> None:
    result = await edge.run("chat", stdin="What is it?\n\nAnd why?\n")
    assert result.code == 0, result.err
    assert [line for line in result.out.splitlines() if line == TEXT] == [TEXT, TEXT]
    assert [said(generation) for generation in edge.generations] == [
        [("user", "What is it?")],
        [("user", "What is it?"), ("assistant", TEXT), ("user", "And why?")],
    ]
    assert edge.generations[0].session == edge.generations[1].session != ""


async def test_reset_forgets_and_begins_a_new_session(edge: Edge) -> None:
    await edge.run("chat", stdin="One\n/reset\nTwo\n")
    assert [said(generation) for generation in edge.generations] == [[("user", "One")], [("user", "Two")]]
    assert edge.generations[0].session != edge.generations[1].session


async def test_the_model_can_be_changed_on_the_way(edge: Edge) -> None:
    result = await edge.run("chat", "-c", "handbook", stdin="One\n/model auto\nTwo\n/model\n")
    assert [generation.target.name for generation in edge.generations] == ["rag/handbook", "auto"]
    assert result.out.splitlines()[-1] == "auto answers"


async def test_quit_ends_and_what_follows_is_not_asked(edge: Edge) -> None:
    result = await edge.run("chat", stdin="/help\n/quit\nTwo\n")
    assert result.code == 0
    assert "/model NAME" in result.out
    assert edge.generations == []


async def test_a_failed_question_is_not_remembered_and_fails_a_pipe_at_its_end(edge: Edge) -> None:
    result = await edge.run("chat", "-m", "unknown-1", stdin="One\n/model auto\nTwo\n")
    assert result.code == 1
    assert "[MODEL_NOT_FOUND, field target.name" in result.err
    assert said(edge.generations[-1]) == [("user", "Two")]
    assert TEXT in result.out


async def test_an_unknown_command_is_named(edge: Edge) -> None:
    result = await edge.run("chat", stdin="/modle auto\n")
    assert result.code == 1
    assert result.err == "error: there is no /modle; /help lists what there is\n"


async def test_on_a_terminal_it_prompts_and_ends_with_ctrl_d(edge: Edge) -> None:
    result = await edge.run_on_terminal("chat", typed=("Why?\n", "\x04"))
    assert result.code == 0
    assert "rag/default answers; /help lists the commands" in result.out
    assert TEXT in result.out
    assert [said(generation) for generation in edge.generations] == [[("user", "Why?")]]
