from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from quartet.pipeline.v1 import pipeline_pb2
from quartet.router.v1 import router_pb2
from services.kit.binding import Binding
from services.kit.client import local, remote
from services.kit.config_file import ConfigFile
from services.kit.settings import SettingsError
from services.pipeline.adapters.documents.process import DocumentProcess
from services.pipeline.adapters.durable import DurableJobs
from services.pipeline.adapters.postgres.collections import PostgresCollections
from services.pipeline.adapters.postgres.documents import PostgresDocuments
from services.pipeline.adapters.postgres.items import PostgresItems
from services.pipeline.adapters.postgres.jobs import PostgresJobs
from services.pipeline.adapters.postgres.pool import Database
from services.pipeline.adapters.postgres.tenant_data import PostgresTenantData
from services.pipeline.domain.configuration import PipelinesFile
from services.pipeline.domain.embedding import Embedder
from services.pipeline.domain.ingestion import Ingestion
from services.pipeline.domain.library import Library
from services.pipeline.domain.pipeline import Pipeline, StageContractError
from services.pipeline.domain.reception import Reception
from services.pipeline.domain.retrieval import Retriever
from services.pipeline.domain.stages.build import StageParts, UnknownTemplateError, build_stage
from services.pipeline.service import PipelineService
from services.pipeline.service_documents import Documents

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from services.pipeline.settings import Settings

SERVICE = pipeline_pb2.DESCRIPTOR.services_by_name["PipelineService"].full_name
ROUTER = router_pb2.DESCRIPTOR.services_by_name["RouterService"].full_name


@asynccontextmanager
async def build(
    settings: Settings, peers: Mapping[str, object] | None = None
) -> AsyncIterator[list[Binding]]:
    """The service with all its parts; `peers` are this process's other services, by their contracts' names.

    Raises:
        SettingsError: DATABASE_URL is missing, or pipelines.yaml is wrong.
        Unavailable: the database cannot be reached.
    """
    if not settings.database_url:
        raise SettingsError(
            "DATABASE_URL: set it to a PostgreSQL database with pgvector, or run `quartet up`"
        )
    source = ConfigFile(settings.config_dir / "pipelines.yaml")
    declared = source.read(PipelinesFile)
    async with AsyncExitStack() as stack:
        peer = (peers or {}).get(ROUTER)
        router = local(ROUTER, peer) if peer is not None else remote(ROUTER, settings.router_address)
        stack.push_async_callback(router.close)
        database = Database(settings.database_url)
        await database.open()
        stack.push_async_callback(database.close)
        # One for requests and one for jobs, so that a big job keeps no caller waiting.
        readers = [
            DocumentProcess(
                settings.artifacts_dir,
                timeout_s=settings.read_timeout_s,
                memory_bytes=settings.reader_memory_bytes,
            )
            for _ in range(2)
        ]
        for reader in readers:
            stack.push_async_callback(reader.close)
        collections, documents = PostgresCollections(database), PostgresDocuments(database)
        jobs, items = PostgresJobs(database), PostgresItems(database)
        embedder = Embedder(router, declared.embedders)
        library = Library(collections, embedder)
        parts = StageParts(
            router=router,
            reader=readers[0],
            store=documents,
            embedder=embedder,
            templates=declared.templates,
            default_model=next(iter(declared.embedders)),
        )
        pipelines = build_pipelines(source, declared, parts)
        ingestion = Ingestion(library, items, documents, readers[1], embedder)
        runner = await stack.enter_async_context(
            DurableJobs(
                settings.database_url,
                executor_id=settings.executor_id,
                ingestion=ingestion,
                jobs=jobs,
                items=items,
            )
        )
        service = PipelineService(
            pipelines=pipelines,
            library=library,
            retriever=Retriever(embedder, documents),
            documents=Documents(
                library=library,
                reception=Reception(library, jobs, runner),
                collections=collections,
                documents=documents,
                jobs=jobs,
                tenant_data=PostgresTenantData(database),
            ),
        )
        yield [Binding(SERVICE, service)]


def build_pipelines(source: ConfigFile, declared: PipelinesFile, parts: StageParts) -> dict[str, Pipeline]:
    """The file's pipelines by name; SettingsError names the line of a stage that does not fit."""
    pipelines: dict[str, Pipeline] = {}
    for name, settings in declared.pipelines.items():
        place = ("pipelines", name, "stages")
        stages = []
        for index, stage in enumerate(settings.stages):
            try:
                stages.append(build_stage(stage, parts))
            except UnknownTemplateError as error:
                raise source.fault((*place, index, "template"), str(error)) from None
        try:
            pipelines[name] = Pipeline(name, settings, stages)
        except StageContractError as error:
            raise source.fault((*place, error.index), str(error)) from None
    return pipelines
