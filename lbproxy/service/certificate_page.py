"""`lbproxy certificates` in words: what the control socket tells about certificates, as a page for a terminal."""

from __future__ import annotations

from typing import Any

from lbproxy.config.units import printable
from lbproxy.service.status import age, table

_HEADINGS = ("listener", "names", "kind", "ends", "in", "ocsp", "file")
_MOST_NAMES = 3


def certificates_text(answer: dict[str, Any]) -> str:
    """The page for what `GET /v1/certificates` answered."""
    served = answer["certificates"]
    lines = table(_HEADINGS, [_row(one) for one in served]) if served else ["no certificate is served"]
    trouble = [f"{one['path']}: {one['message']}" for one in answer["problems"]]
    trouble += [f"{one['path']}: {why}" for one in served if (why := one["ocsp"]["problem"])]
    if trouble:
        lines += ["", *dict.fromkeys(map(printable, trouble))]
    return "\n".join(lines)


def _row(one: dict[str, Any]) -> tuple[str, ...]:
    left = one["expires_in_seconds"]
    return (
        one["listener"],
        _names(one["names"]),
        one["kind"],
        one["not_after"],
        age(left) if left > 0 else "EXPIRED",
        one["ocsp"]["state"],
        printable(one["path"]) + (" (!)" if one["problem"] else ""),
    )


def _names(names: list[str]) -> str:
    more = f" +{len(names) - _MOST_NAMES}" if len(names) > _MOST_NAMES else ""
    return (", ".join(names[:_MOST_NAMES]) or "-") + more
