"""What happened since the start, as plain numbers: what `lbproxy status` shows and a metrics page will."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable


class Counters:
    """`ended` counts sessions by (pool, outcome word), each request of HTTP as one; `rules` broken rules by their id in
    the rule book. `http_requests` counts by (listener, first digit of the status), 0 where nothing was answered.

    `certificates` counts what became of TLS files: "swapped", "refused", "ocsp_fetched", "ocsp_failed" and
    "keylog_failed". `packed_bytes` are those of bodies in a coding of ours, by (coding, "plain" or "packed").
    """

    def __init__(self) -> None:
        self.ended: Counter[tuple[str, str]] = Counter()
        self.http_requests: Counter[tuple[str, int]] = Counter()
        self.rules: Counter[str] = Counter()
        self.bytes_from_clients = 0
        self.bytes_from_backends = 0
        self.exceptions = 0
        self.reloads: Counter[str] = Counter()
        self.certificates: Counter[str] = Counter()
        self.packed_bytes: Counter[tuple[str, str]] = Counter()

    def packed(self, coding: bytes, plain: int, packed: int) -> None:
        """A body went out in this coding, or (b"") was unpacked."""
        name = coding.decode("ascii") or "identity"
        self.packed_bytes[name, "plain"] += plain
        self.packed_bytes[name, "packed"] += packed

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        ended: dict[str, dict[str, int]] = {}
        for (pool, outcome), count in sorted(self.ended.items()):
            ended.setdefault(pool, {})[outcome] = count
        requests: dict[str, dict[str, int]] = {}
        for (listener, digit), count in sorted(self.http_requests.items()):
            requests.setdefault(listener, {})[f"{digit}xx" if digit else "none"] = count
        return {
            "sessions_ended": ended,
            "http_requests": requests,
            "rules": dict(self.rules),
            "bytes_from_clients": self.bytes_from_clients,
            "bytes_from_backends": self.bytes_from_backends,
            "exceptions": self.exceptions,
            "reloads": dict(self.reloads),
            "certificates": dict(self.certificates),
            "packed_bytes": {f"{coding} {form}": count for (coding, form), count in sorted(self.packed_bytes.items())},
        }


class Stamps:
    """Writes monotonic times as the wall clock's, RFC 3339 in UTC with milliseconds.

    The distance between both clocks is read once a second, so that a corrected wall clock is followed.
    """

    def __init__(self, clock: Callable[[], float], wall: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._wall = wall
        self._distance = wall() - clock()
        self._read = clock()
        self._second = self._millisecond = -1
        self._text = self._whole = ""

    def text(self, moment: float, now: float) -> str:
        """`moment` and `now` are monotonic seconds."""
        if now - self._read >= 1.0:
            self._read = now
            self._distance = self._wall() - self._clock()
        millisecond = int((moment + self._distance) * 1000)
        if millisecond != self._millisecond:
            self._millisecond = millisecond
            second, rest = divmod(millisecond, 1000)
            if second != self._second:
                self._second = second
                self._text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._whole = f"{self._text}.{rest:03d}Z"
        return self._whole
