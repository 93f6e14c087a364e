"""An answer on the screen and as JSON."""

from typing import Any

from rich.console import Console

from quartet.common.v1 import generation_pb2
from quartet.common.v1.decision_pb2 import Decision
from quartet.common.v1.message_pb2 import Citation, Passage
from quartet.common.v1.run_pb2 import Run
from services.cli.answer import Answer, text_of
from services.cli.progress import counted, describe_run, is_partial, stop_reason_of
from services.cli.render import console, enum_word, plain, printable, usd

MAX_QUOTE_CHARS = 300
"""Of a citation's quote on the screen; JSON has it whole."""


class Screen:
    """Where an answer is written as it comes: its text on stdout, progress and notes on stderr."""

    def __init__(self, *, progress: bool) -> None:
        self._out = console()
        self._notes = console(stderr=True)
        self._progress = progress
        self._shared = self._out.is_terminal and self._notes.is_terminal
        self._mid_line = False

    def write(self, piece: str) -> None:
        """Adds a piece of the answer's text."""
        self._out.print(printable(piece), end="")
        self._mid_line = not piece.endswith("\n")

    def note(self, line: str) -> None:
        """Says what was done, where that is wanted."""
        if self._progress:
            self._begin_line()
            self._notes.print(printable(line), style="dim")

    def end(self, answer: Answer) -> None:
        """Writes the rest of the text, the citations, what to know of them, and the line of figures."""
        if answer.text.strip() != answer.streamed.strip():
            if answer.streamed:
                self._out.print("\n\nThe answer in full:", style="dim")
            self.write(answer.text)
        if self._mid_line:
            self._out.print()
            self._mid_line = False
        if answer.citations:
            self._out.print()
        for citation in answer.citations:
            _print_citation(citation, self._out)
        for line in _notes(answer):
            self._notes.print(printable(line), style="yellow")
        self._out.print()
        self._out.print(printable(figures(answer)), style="dim")

    def _begin_line(self) -> None:
        if self._mid_line and self._shared:
            self._out.print()
            self._mid_line = False


def figures(answer: Answer) -> str:
    """Route, model, tokens, exact cost, time and trace of an answer, on one line."""
    usage = answer.completion.usage
    if answer.first_text_s is None:
        pace = f"whole after {answer.total_s:.2f} s"
    else:
        pace = f"first token after {answer.first_text_s:.2f} s"
    parts = [
        f"route {describe_route(answer.decision)}",
        f"model {answer.completion.model or answer.decision.model or 'none'}",
        f"{usage.input_tokens} tokens in, {usage.output_tokens} out",
        usd(usage.cost_micro_usd),
        pace,
    ]
    if answer.trace_id:
        parts.append(f"trace {answer.trace_id}")
    return " · ".join(parts)


def describe_route(decision: Decision) -> str:
    """The route's name and the rule that chose it; the handler where the caller named that."""
    name = decision.route or describe_handler(decision)
    return f"{name} ({decision.rule})" if decision.rule else name


def describe_handler(decision: Decision) -> str:
    """Who serves: a model, a pipeline or the orchestrator, as it can be named."""
    handler = decision.handler
    match handler.WhichOneof("kind"):
        case "model":
            return handler.model
        case "pipeline":
            return f"pipeline/{handler.pipeline.name} on {handler.pipeline.collection or 'default'}"
        case "agent":
            return f"agent/{handler.agent.collection or 'default'}"
    return decision.model or "none: no model can serve it as things are"


def answer_as_json(answer: Answer) -> dict[str, Any]:
    """Everything about an answer, for programs; times in seconds, money in micro-USD and as text in USD."""
    usage = answer.completion.usage
    document: dict[str, Any] = {
        "answer": answer.text,
        "citations": [plain(citation) for citation in answer.citations],
        "route": answer.decision.route,
        "decision": plain(answer.decision),
        "model": answer.completion.model or answer.decision.model,
        "finish_reason": _finish_reason(answer.completion),
        "stop_detail": answer.completion.stop_detail,
        "adapted": list(answer.completion.adapted),
        "usage": {field.name: getattr(usage, field.name) for field in usage.DESCRIPTOR.fields},
        "cost_usd": usd(usage.cost_micro_usd).removeprefix("$").replace(",", ""),
        "first_token_s": answer.first_text_s,
        "total_s": answer.total_s,
        "trace_id": answer.trace_id,
        "stages": [plain(stage) for stage in answer.stages],
    }
    if answer.run is not None:
        document["run"] = plain(answer.run)
    return document


def print_passage(passage: Passage, out: Console) -> None:
    """A passage that a search found: how near, where it stands, and its text."""
    where = _place(passage.title or passage.document_id, passage.source, passage.start_char, passage.end_char)
    out.print(printable(f"{passage.score:.3f} {where}"), style="bold")
    out.print(printable(f"      {_shortened(passage.text)}"))


def print_run(run: Run, out: Console) -> None:
    """A run with its answer, citations and figures."""
    out.print(printable(describe_run(run)), style="bold")
    if text := text_of(run.completion.message.parts):
        out.print("\n" + printable(text))
    for part in run.completion.message.parts:
        for citation in part.citations:
            _print_citation(citation, out)
    usage = run.usage
    tokens = f"{usage.input_tokens} tokens in, {usage.output_tokens} out"
    out.print(
        f"\n{tokens} · {usd(usage.cost_micro_usd)} · {counted(usage.model_calls, 'model call')}", style="dim"
    )


def _print_citation(citation: Citation, out: Console) -> None:
    where = _place(
        citation.title or citation.document_id, citation.source, citation.start_char, citation.end_char
    )
    out.print(printable(f"[{citation.index}] {where}"), style="bold")
    out.print(printable(f"    “{_shortened(citation.quote)}”"))


def _place(title: str, source: str, start_char: int, end_char: int) -> str:
    name = f"{title} ({source})" if source and source != title else title
    return f"{name}, characters {start_char}-{end_char}"


def _shortened(quote: str) -> str:
    line = " ".join(quote.split())
    return line if len(line) <= MAX_QUOTE_CHARS else line[: MAX_QUOTE_CHARS - 1] + "…"


def _notes(answer: Answer) -> list[str]:
    notes = list(answer.decision.warnings)
    completion = answer.completion
    if completion.adapted:
        notes.append(f"changed for the model: {', '.join(completion.adapted)}")
    if completion.finish_reason == generation_pb2.FINISH_REASON_LENGTH:
        notes.append("the answer was cut at the limit of output tokens")
    if completion.finish_reason == generation_pb2.FINISH_REASON_ABORTED:
        notes.append(f"the pipeline ended early: {completion.stop_detail or 'no reason was given'}")
    if answer.run is not None and is_partial(answer.run):
        taken = counted(answer.run.iterations, "iteration")
        notes.append(f"partial answer, stopped after {taken}: {stop_reason_of(answer.run)}")
    return [f"note: {note}" for note in notes]


def _finish_reason(completion: generation_pb2.Completion) -> str:
    return enum_word(generation_pb2.FinishReason.Name(completion.finish_reason), "FINISH_REASON_")
