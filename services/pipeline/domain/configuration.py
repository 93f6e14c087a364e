"""What `pipelines.yaml` may say: the embedders' figures, templates, and pipelines as lists of stages."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.pipeline.domain.chunking import ChunkSize


class Declared(BaseModel):
    """A part of the file: nothing unknown, nothing changed later."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class EmbedderFigures(Declared):
    """What is known of an embedding model; tokens are word pieces of MiniLM's tokenizer."""

    window_tokens: int = Field(ge=192)
    """Most tokens of a text that the model reads, special tokens aside."""
    max_tokens: int = Field(ge=128)
    """Most tokens of a chunk."""
    overlap_tokens: int = Field(ge=0)
    threshold: float = Field(ge=-1, le=1)
    """Least cosine similarity at which a passage counts as found."""

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        ChunkSize(max_tokens=self.max_tokens, overlap_tokens=self.overlap_tokens)
        if self.max_tokens > self.window_tokens:
            raise ValueError(f"max_tokens is over the model's window_tokens, {self.window_tokens}")
        return self

    @property
    def chunk_size(self) -> ChunkSize:
        """How documents are split for this model."""
        return ChunkSize(max_tokens=self.max_tokens, overlap_tokens=self.overlap_tokens)

    @property
    def label_tokens(self) -> int:
        """Room that the largest chunk leaves in the window for the title, up to 48 tokens."""
        return min(48, self.window_tokens - self.max_tokens)


class ChunkSettings(Declared):
    """Splits documents; absent figures are the embedder's."""

    kind: Literal["chunk"]
    max_tokens: int | None = Field(default=None, ge=128)
    overlap_tokens: int | None = Field(default=None, ge=0)
    timeout_s: float = Field(default=20, gt=0, le=600)
    """For reading the documents of one request."""


class EmbedSettings(Declared):
    """Turns the question, and the chunks that came with it, into vectors."""

    kind: Literal["embed"]
    model: str = Field(default="", max_length=256)
    """For the request's own documents; empty is the router's default. A collection keeps its own model."""
    timeout_s: float = Field(default=30, gt=0, le=600)


class RetrieveSettings(Declared):
    """Finds the passages that are nearest to the question."""

    kind: Literal["retrieve"]
    top_k: int = Field(default=5, ge=1, le=100)
    threshold: float | None = Field(default=None, ge=-1, le=1)
    """Absent: the embedder's calibrated floor."""
    on_empty: Literal["abort", "continue"] = "abort"
    """What is done when nothing is near enough: say so, or let the model answer without passages."""
    timeout_s: float = Field(default=10, gt=0, le=600)


class AugmentSettings(Declared):
    """Makes the prompt of question and passages."""

    kind: Literal["augment"]
    template: str = Field(default="answer_with_sources", min_length=1)


class GenerateSettings(Declared):
    """Has a model answer, by a route or by a model's name."""

    kind: Literal["generate"]
    route: str = ""
    model: str = ""
    max_tokens: int = Field(default=2000, ge=1)

    @model_validator(mode="after")
    def _check_target(self) -> Self:
        if bool(self.route) == bool(self.model):
            raise ValueError("set either `route` or `model`")
        return self


class NoHallucinationSettings(Declared):
    """Each sentence of the answer must be borne out by the passages."""

    check: Literal["no_hallucination"]
    least_support: float = Field(default=0.5, ge=0, le=1)
    on_failure: Literal["abort", "flag"] = "flag"


class HasCitationsSettings(Declared):
    """The answer must cite at least one passage."""

    check: Literal["has_citations"]
    on_failure: Literal["abort", "flag"] = "flag"


CheckSettings = Annotated[NoHallucinationSettings | HasCitationsSettings, Field(discriminator="check")]


class ValidateSettings(Declared):
    """Checks the answer against the passages."""

    kind: Literal["validate"]
    checks: tuple[CheckSettings, ...] = Field(min_length=1)


StageSettings = Annotated[
    ChunkSettings | EmbedSettings | RetrieveSettings | AugmentSettings | GenerateSettings | ValidateSettings,
    Field(discriminator="kind"),
]


class PipelineDeclaration(Declared):
    """A pipeline."""

    description: str = ""
    stages: tuple[StageSettings, ...] = Field(min_length=1, max_length=32)


class PipelinesFile(Declared):
    """The whole file."""

    embedders: dict[str, EmbedderFigures] = Field(min_length=1)
    templates: dict[str, str] = Field(min_length=1)
    pipelines: dict[Annotated[str, Field(pattern="^[a-z0-9][a-z0-9_-]*$")], PipelineDeclaration] = Field(
        min_length=1
    )
