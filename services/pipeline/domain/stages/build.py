from collections.abc import Mapping
from dataclasses import dataclass

from services.pipeline.domain.configuration import (
    AugmentSettings,
    ChunkSettings,
    EmbedSettings,
    GenerateSettings,
    RetrieveSettings,
    StageSettings,
)
from services.pipeline.domain.embedding import Embedder
from services.pipeline.domain.stages.augment import AugmentStage
from services.pipeline.domain.stages.chunk import ChunkStage
from services.pipeline.domain.stages.embed import EmbedStage
from services.pipeline.domain.stages.generate import GenerateStage
from services.pipeline.domain.stages.retrieve import RetrieveStage
from services.pipeline.domain.stages.validate import ValidateStage
from services.pipeline.domain.stages.work import Stage
from services.pipeline.ports import DocumentReader, DocumentStore, Router


class UnknownTemplateError(Exception):
    """An augment stage names a template that the file does not have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageParts:
    """What stages are made of.

    Attributes:
        default_model: The embedder whose figures split a request's documents where nothing names another.
    """

    router: Router
    reader: DocumentReader
    store: DocumentStore
    embedder: Embedder
    templates: Mapping[str, str]
    default_model: str


def build_stage(settings: StageSettings, parts: StageParts) -> Stage:
    """The stage that the settings describe; raises UnknownTemplateError."""
    match settings:
        case ChunkSettings():
            return ChunkStage(settings, parts.reader, parts.embedder, parts.default_model)
        case EmbedSettings():
            return EmbedStage(settings, parts.embedder)
        case RetrieveSettings():
            return RetrieveStage(settings, parts.store, parts.embedder)
        case AugmentSettings():
            if settings.template not in parts.templates:
                raise UnknownTemplateError(
                    f"there is no template {settings.template!r}: there are {', '.join(parts.templates)}"
                )
            return AugmentStage(settings, parts.templates[settings.template])
        case GenerateSettings():
            return GenerateStage(settings, parts.router)
        case _:
            return ValidateStage(settings)
