"""Asset checks: what is judged of the stored data as a whole, shown beside each base asset.

A check targets an asset of a chain, and the chain is one step. A check that is a step of its own would be drawn into
every backfill of its asset and skipped there, because the chain's step yields no output: so checks are declared on the
chain's step and evaluated in it, and by the job `check_everything`. None of them fails a run.
"""

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager

import dagster as dg

from backfill_pipeline.domain.timeframe import CHAINS, Base, Chain
from backfill_pipeline.providers.errors import ProviderError
from backfill_pipeline.steps import checks as judged
from backfill_pipeline.steps.checks import Check, Finding
from backfill_pipeline.steps.warehouse import Warehouse

from .bookkeeping import Context
from .resources import Pipeline
from .running import bars_asset, told_in_one_line

_WARN = dg.AssetCheckSeverity.WARN
_ERROR = dg.AssetCheckSeverity.ERROR

_CHECKS: dict[str, tuple[Check, dg.AssetCheckSeverity, str, tuple[Base, ...]]] = {
    "bars_are_valid": (
        judged.bars_are_valid,
        _ERROR,
        "No row of the newest answers was refused; why one was: `backfill explain`. Table `market.quarantine`.",
        ("1m", "1d"),
    ),
    "session_is_complete": (
        judged.session_is_complete,
        _ERROR,
        "Every wanted session that is due has its bars, or an explanation; else: `backfill gaps`.",
        ("1m", "1d"),
    ),
    "no_open_gaps": (
        judged.no_open_gaps,
        _ERROR,
        "No gap waits to be filled; all of them: `backfill gaps`. Table `market.gaps`.",
        ("1m", "1d"),
    ),
    "daily_agrees_with_minutes": (
        judged.daily_agrees_with_minutes,
        _WARN,
        "Minutes hold their usual share of the day's volume, at prices within the day's. Last 90 days.",
        ("1d",),
    ),
    "calendar_is_current": (
        judged.calendar_is_current,
        _WARN,
        "Calendars reach a month ahead, and trading agrees with them. Last 90 days.",
        ("1m", "1d"),
    ),
}


def check_specs(chain: Chain) -> list[dg.AssetCheckSpec]:
    """The checks of the chain's base asset."""
    return [
        dg.AssetCheckSpec(name, asset=bars_asset(chain.base), description=description)
        for name, (_, _, description, bases) in _CHECKS.items()
        if chain.base in bases
    ]


def report_checks(context: Context, warehouse: Warehouse, keys: Collection[dg.AssetCheckKey]) -> None:
    """Evaluate the checks and store the results at once, so that a step that fails afterwards keeps them."""
    for evaluation in evaluations(warehouse, keys):
        context.log_event(evaluation)  # type: ignore[arg-type]  # taken since 1.4, missing in its annotation


def check_keys(chains: Iterable[Chain]) -> list[dg.AssetCheckKey]:
    return [spec.key for chain in chains for spec in check_specs(chain)]


@contextmanager
def checked(context: Context, warehouse: Warehouse, keys: Collection[dg.AssetCheckKey]) -> Iterator[None]:
    """Evaluate the checks when the body is through, or has failed for what is missing."""
    try:
        yield
    except (dg.Failure, ProviderError):
        report_checks(context, warehouse, keys)
        raise
    report_checks(context, warehouse, keys)


def evaluations(warehouse: Warehouse, keys: Collection[dg.AssetCheckKey]) -> Iterator[dg.AssetCheckEvaluation]:
    for chain in CHAINS:
        for spec in check_specs(chain):
            if spec.key in keys:
                check, severity, _, _ = _CHECKS[spec.name]
                with warehouse.conn as conn:
                    finding = check(conn, chain.base, warehouse.now())
                yield _evaluation(spec, finding, severity)


def _evaluation(spec: dg.AssetCheckSpec, finding: Finding, severity: dg.AssetCheckSeverity) -> dg.AssetCheckEvaluation:
    figures = {name: dg.MetadataValue.text(f) if isinstance(f, str) else f for name, f in finding.figures.items()}
    more = finding.count - len(finding.sample)
    lines = [*finding.sample, *([f"and {more} more"] if more else [])]
    sample = {"sample": dg.MetadataValue.md("\n".join(f"- {line}" for line in lines))} if lines else {}
    return dg.AssetCheckEvaluation(
        asset_key=spec.asset_key,
        check_name=spec.name,
        passed=finding.passed,
        metadata={"count": finding.count, **figures, **sample},
        severity=severity,
        description=None if finding.passed else finding.sample[0],
    )


@dg.op
def check_everything(context: dg.OpExecutionContext, pipeline: dg.ResourceParam[Pipeline]) -> None:
    """Evaluate every asset check; what it finds fails the check, not the run."""
    with told_in_one_line(), pipeline.open() as warehouse:
        report_checks(context, warehouse, check_keys(CHAINS))
