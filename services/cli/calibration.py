"""`quartet router calibrate`: reads outcomes, writes a calibration, and says what it changes."""

from datetime import UTC, datetime, timedelta

import typer

from services.cli.render import console, print_table
from services.cli.settings import StackSettings
from services.kit.errors import QuartetError
from services.kit.postgres import Pool
from services.kit.settings import SettingsError
from services.router.adapters.postgres.outcomes import PostgresOutcomes
from services.router.domain.policy import Calibration, Policy
from services.router.domain.recalibration import recalibrate
from services.router.learned.learned import Learned

COST_RATIO = 20.0
"""Of a strong call to a cheaper one, for the table only; live decisions take the models' own prices."""
_POLICIES = (Policy(keep=0.99), Policy(keep=0.95), Policy(keep=0.9), Policy(save=0.3), Policy(save=0.5))


async def run_calibration(*, days: int, dry_run: bool) -> int:
    """Calibrates from the last days; returns the exit status."""
    try:
        settings = StackSettings.load()
        if not settings.database_url:
            typer.echo("error: DATABASE_URL is not set: name the database of the suite's router", err=True)
            return 2
        async with Pool(
            settings.database_url,
            min_size=0,
            max_size=1,
            timeout=2.0,
            open=False,
            kwargs={"autocommit": True},
        ) as pool:
            return await _calibrate(PostgresOutcomes(pool), days=days, dry_run=dry_run)
    except (QuartetError, SettingsError) as error:
        typer.echo(f"error: {error}", err=True)
        return 1


async def _calibrate(store: PostgresOutcomes, *, days: int, dry_run: bool) -> int:
    shipped = Learned.load().calibration
    uplifts, outcomes = await store.read_evidence(datetime.now(UTC) - timedelta(days=days))
    after = recalibrate(shipped, uplifts, outcomes)
    out = console()
    out.print(f"{len(uplifts):,} decisions and {len(outcomes):,} outcomes of the last {days} days")
    columns = ("policy", "shipped threshold", "threshold now", "expected quality", "expected saving")
    print_table(out, columns, (_row(policy, shipped, after) for policy in _POLICIES))
    if dry_run:
        out.print("nothing was written")
    elif not outcomes:
        out.print("nothing was written: no outcome was recorded; send some with RecordOutcome")
    else:
        await store.write(after, len(outcomes))
        out.print("written: routers take it over within half a minute")
    return 0


def _row(policy: Policy, shipped: Calibration, after: Calibration) -> tuple[str, ...]:
    threshold = after.threshold(policy, cost_ratio=COST_RATIO)
    quality, saving = after.expect(threshold, cost_ratio=COST_RATIO)
    before = shipped.threshold(policy, cost_ratio=COST_RATIO)
    return (str(policy), f"{before:.3f}", f"{threshold:.3f}", f"{quality:.1%}", f"{saving:.1%}")
