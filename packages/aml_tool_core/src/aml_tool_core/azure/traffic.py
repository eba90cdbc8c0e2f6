"""How an endpoint's requests are shared out among its deployments, and how a run that is undone leaves them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

_FULL_PERCENT = 100
_LIVE, _MIRRORED = "traffic", "mirror_traffic"


@dataclass(frozen=True)
class Shares:
    """Percentages of the requests by deployment; who has none is not in it."""

    live: Mapping[str, int]
    mirrored: Mapping[str, int]

    def document(self) -> dict[str, Any]:
        """Return the shares as they stand in a note."""
        return {_LIVE: dict(self.live), _MIRRORED: dict(self.mirrored)}


@dataclass(frozen=True)
class Move:
    """What a run changed of an endpoint's traffic, or set out to."""

    before: Shares
    after: Shares

    def document(self) -> dict[str, Any]:
        """Return the move as it stands in a note."""
        return {"before": self.before.document(), "after": self.after.document()}


def read_move(document: Mapping[str, Any]) -> Move:
    """Return the move that a note has."""
    before, after = (Shares(document[name][_LIVE], document[name][_MIRRORED]) for name in ("before", "after"))
    return Move(before, after)


def shares_of(endpoint: Any) -> Shares:
    """Return the shares of the SDK's entity."""
    live, mirrored = (
        {name: share for name, share in (shares or {}).items() if share}
        for shares in (endpoint.traffic, endpoint.mirror_traffic)
    )
    return Shares(live, mirrored)


def released(present: Shares, deployment_name: str, move: Move | None, standing: Collection[str]) -> Shares:
    """Return the shares where a deployment gives up its own.

    With the move of the run that is undone they are as they were before it, as far as the deployments still stand: the
    proportions of what that run left say nothing where it left nobody else anything.
    """
    involved = deployment_name in {*present.live, *present.mirrored}
    if not involved and (move is None or present != move.after):
        return present
    live = without(present.live, deployment_name)
    mirrored = present.mirrored if move is None else move.before.mirrored
    if move is not None:
        before = {name: share for name, share in move.before.live.items() if name in standing}
        live = without(before, deployment_name) or live
        mirrored = {name: share for name, share in mirrored.items() if name in standing}
    return Shares(live, {name: share for name, share in mirrored.items() if name != deployment_name})


def without(traffic: Mapping[str, int], deployment_name: str) -> dict[str, int]:
    """Return the traffic shares without a deployment's; the others keep their proportions and fill its place.

    Azure takes shares that add up to 100 or to 0 only, so what the deployment had must go to the others where they have
    any; where they have none, nobody has any. Shares are whole percents: the largest remainders round up.
    """
    return shared_out({name: share for name, share in traffic.items() if name != deployment_name}, _FULL_PERCENT)


def shared_out(traffic: Mapping[str, int], percent: int) -> dict[str, int]:
    """Return so many percent shared out in the proportions of the traffic shares; nothing where nobody has any."""
    total = sum(traffic.values())
    if not total:
        return {}
    exact = {name: share * percent / total for name, share in traffic.items() if share > 0}
    shares = {name: int(share) for name, share in exact.items()}
    by_remainder = sorted(exact, key=lambda name: exact[name] - shares[name], reverse=True)
    for name in by_remainder[: percent - sum(shares.values())]:
        shares[name] += 1
    return shares
