"""A conversation with history, and the commands that steer it."""

import uuid

from quartet.common.v1 import message_pb2
from services.cli.answer import make_generation, stream_answer, user_message
from services.cli.client import Client
from services.cli.presentation import Screen
from services.cli.render import console
from services.cli.session import print_error
from services.kit.errors import QuartetError

MAX_MESSAGES = 100
"""Of the history that goes with a question; the oldest are forgotten first."""

HELP = """\
/model NAME   go on with auto, a model, route/NAME, rag/NAME, pipeline/NAME or agent/NAME
/model        say who answers
/reset        forget what was said
/help         this list
/quit         leave, as Ctrl-D does; Ctrl-C stops an answer"""


class Conversation:
    """What was said so far, and with whom.

    Attributes:
        target: Who answers, by a name as in `/v1/models`.
        ended: True once `/quit` was said.
        failures: How many lines could not be answered or understood.
    """

    def __init__(self, client: Client, target: str) -> None:
        self.target = target
        self.ended = False
        self.failures = 0
        self._client = client
        self._out = console()
        self._history: list[message_pb2.Message] = []
        self._session = uuid.uuid4().hex

    async def take(self, line: str) -> None:
        """Obeys a command, or answers anything else; an error is written and the conversation goes on."""
        text = line.strip()
        if text.startswith("/"):
            self._obey(*text.split(maxsplit=1))
        elif text:
            try:
                await self._answer(text)
            except QuartetError as error:
                self.failures += 1
                print_error(error, self._client)

    def _obey(self, command: str, argument: str = "") -> None:
        match command:
            case "/model":
                self.target = argument.strip() or self.target
                self._out.print(f"{self.target} answers", style="dim")
            case "/reset":
                self._start_anew()
                self._out.print("nothing was said so far", style="dim")
            case "/help":
                self._out.print(HELP, style="dim")
            case "/quit" | "/exit":
                self.ended = True
            case _:
                self.failures += 1
                console(stderr=True).print(
                    f"error: there is no {command}; /help lists what there is", style="red"
                )

    async def _answer(self, text: str) -> None:
        asked = [*self._history, user_message(text)]
        generation = make_generation(self.target, asked)
        generation.session = self._session
        screen = Screen(progress=self.target.startswith("agent"))
        answer = await stream_answer(self._client, generation, write=screen.write, note=screen.note)
        screen.end(answer)
        self._out.print()
        said = message_pb2.Message(
            role=message_pb2.ROLE_ASSISTANT, parts=[message_pb2.Part(text=answer.text)]
        )
        self._history = [*asked, said][-MAX_MESSAGES:]

    def _start_anew(self) -> None:
        self._history = []
        self._session = uuid.uuid4().hex
