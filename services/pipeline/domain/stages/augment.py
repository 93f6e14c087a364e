from typing import ClassVar

from quartet.common.v1 import message_pb2
from quartet.router.v1 import router_pb2
from services.pipeline.domain.configuration import AugmentSettings
from services.pipeline.domain.stages.work import Outcome, Slot, Work


class AugmentStage:
    """Makes the prompt: the template first, the conversation, and the passages ahead of the question."""

    kind: ClassVar = "augment"
    needs: ClassVar = frozenset({Slot.QUESTION, Slot.PASSAGES})
    gives: ClassVar = frozenset({Slot.PROMPT})

    def __init__(self, settings: AugmentSettings, template: str) -> None:
        self._settings = settings
        self._template = template

    async def process(self, work: Work) -> Outcome:
        passages = work.passages or []
        prompt = router_pb2.Prompt(models_only=True)
        prompt.messages.add(role=message_pb2.ROLE_SYSTEM).parts.add(text=self._template)
        for index, message in enumerate(work.question.messages):
            if index == work.question.position:
                asked = prompt.messages.add(role=message.role, name=message.name)
                asked.parts.extend(message_pb2.Part(passage=passage) for passage in passages)
                asked.parts.extend(message.parts)
            else:
                prompt.messages.append(message)
        work.prompt = prompt
        return Outcome(summary=f"{self._settings.template} with {len(passages)} passages")
