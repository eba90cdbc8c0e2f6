"""What a million requests cost in core-hours."""

from __future__ import annotations

from dataclasses import dataclass

from aml_tool_core.profiling.target import Target


@dataclass(frozen=True)
class Cost:
    """Core-hours per million requests, or the reason why there is no figure."""

    vcpus_per_instance: int | None
    core_hour_per_million_requests: float | None
    reason: str | None = None
    price_per_million_requests: float | None = None


def price_of(target: Target, instance_price_per_hour: float, succeeded_per_sec: float) -> float | None:
    """Return what a million requests cost at a price per machine and hour; None where a part is not known."""
    if target.instance_count is None or succeeded_per_sec <= 0:
        return None
    return instance_price_per_hour * target.instance_count * 1e6 / (succeeded_per_sec * 3600)


def cost_of(target: Target, vcpus: int | None, vcpus_reason: str | None, succeeded_per_sec: float) -> Cost:
    """Return vcpus * instances * 1e6 / (requests per hour); a missing part makes it None with the reason."""
    missing = [key for key in ("sku", "location", "instance_count") if getattr(target, key) is None]
    if missing:
        return Cost(vcpus, None, f"{', '.join(missing)} of the scoring target not known")
    if vcpus is None or target.instance_count is None:
        return Cost(None, None, vcpus_reason or "the number of vCPUs is not known")
    if succeeded_per_sec <= 0:
        return Cost(vcpus, None, "no request succeeded")
    return Cost(vcpus, vcpus * target.instance_count * 1e6 / (succeeded_per_sec * 3600))
