from typing import Annotated

import typer

from services.cli.commands.options import JsonOption

app = typer.Typer(help="Ingest jobs, by the id that `ingest` told.", no_args_is_help=True)

WATCH_TIMEOUT_S = 24 * 3600.0

JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")]


@app.command()
def show(job_id: JobArgument, json: JsonOption = False) -> None:
    """Show how far a job is."""
    from quartet.gateway.v1.document_pb2 import GetIngestJobRequest
    from services.cli.client import Client
    from services.cli.jobs import print_job
    from services.cli.session import run

    async def act(client: Client) -> int:
        response = await client.documents.get_ingest_job(GetIngestJobRequest(job_id=job_id), client.call())
        print_job(response.job, json=json)
        return 0

    run(act)


@app.command()
def watch(job_id: JobArgument, json: JsonOption = False) -> None:
    """Wait for a job's end and show what became of it."""
    from services.cli.client import Client
    from services.cli.jobs import follow, print_job, succeeded
    from services.cli.session import run

    async def act(client: Client) -> int:
        job = await follow(client, job_id, WATCH_TIMEOUT_S, lambda _: None)
        print_job(job, json=json)
        return 0 if succeeded([job]) else 1

    run(act)


@app.command()
def cancel(job_id: JobArgument, json: JsonOption = False) -> None:
    """Stop a job; the documents that it stored stay."""
    from quartet.gateway.v1.document_pb2 import CancelIngestJobRequest
    from services.cli.client import Client
    from services.cli.jobs import print_job
    from services.cli.session import run

    async def act(client: Client) -> int:
        response = await client.documents.cancel_ingest_job(
            CancelIngestJobRequest(job_id=job_id), client.call()
        )
        print_job(response.job, json=json)
        return 0

    run(act)
