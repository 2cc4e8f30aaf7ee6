"""The rules that move a backend between its states: checks, live traffic, the operator, its own word, names.

Owns when a state flips, with what evidence, and when a slow start begins. Refuses to know who is chosen, who
waits, and who wants the news: each verb returns the Change it made, or None.
"""

from __future__ import annotations

from collections.abc import Mapping

from lbproxy.balancing.backend import Backend, State
from lbproxy.balancing.breaker import PROBES
from lbproxy.balancing.change import Change
from lbproxy.balancing.load_report import NOTHING_REPORTED, Report
from lbproxy.balancing.outlier import Evidence, is_outlier, wilson
from lbproxy.model import AdminState, PoolSettings


class Health:
    """The states of one pool's backends. `backends` is the pool's own mapping, so both see the same."""

    __slots__ = ("backends", "settings")

    def __init__(self, settings: PoolSettings, backends: Mapping[str, Backend]) -> None:
        self.settings = settings
        self.backends = backends

    def check_passed(self, backend: Backend, code: str, now: float) -> Change | None:
        """An active check passed. It never ends an ejection: traffic must."""
        backend.checks_ok_total += 1
        old = backend.state
        rise = self.settings.check.rise
        needed = 1 if backend.checks.state == "unknown" else rise
        if backend.admin == "maint" or not backend.checks.passed(rise):
            return None
        return self._flipped(backend, old, code, f"{needed} of {needed} checks in a row passed", now)

    def check_failed(self, backend: Backend, code: str, now: float, detail: str = "") -> Change | None:
        """An active check failed; `detail` of the one that decides is part of the evidence."""
        backend.checks_failed_total += 1
        old = backend.state
        fall = self.settings.check.fall
        if backend.admin == "maint" or not backend.checks.failed(fall):
            return None
        evidence = f"{fall} of {fall} checks in a row failed"
        return self._flipped(backend, old, code, f"{evidence}: {detail}" if detail else evidence, now)

    def succeeded(self, backend: Backend, now: float) -> Change | None:
        """A session went well; the third in a row ends a probation."""
        backend.evidence.succeeded(now)
        if backend.breaker.state == "half-open" and backend.breaker.probe_succeeded():
            old = backend.state
            backend.breaker.close(now)
            backend.evidence.forget()
            return self._flipped(backend, old, "probe", f"{PROBES} of {PROBES} probe sessions succeeded", now)
        return None

    def failed(self, backend: Backend, now: float) -> Change | None:
        """A session failed by the backend's doing: perhaps one too many."""
        backend.failures_total += 1
        outlier = self.settings.outlier
        breaker = backend.breaker
        if not outlier.enabled or breaker.state == "open":
            # Sessions from before the ejection still fail now and then; that is what it was ejected for.
            return None
        backend.evidence.failed(now)
        if breaker.state == "half-open":
            breaker.successes = 0
            if not self._others_serve(backend):
                # The last usable one is never taken out: it goes on probing.
                return None
            return self._eject(backend, "probe", "a probe session failed", now)
        finding = self._finding(backend, now)
        if finding is None or not self._may_eject(backend):
            return None
        return self._eject(backend, *finding, now)

    def set_admin(self, backend: Backend, admin: AdminState, now: float) -> Change | None:
        """The operator's word. After maintenance, where checks are stopped, they start from unknown."""
        old = backend.state
        if backend.admin == "maint" and admin != "maint":
            backend.checks.forget()
        backend.admin = admin
        return self._flipped(backend, old, "operator", f"set to {admin}", now)

    def reported(self, backend: Backend, report: Report, now: float) -> Change | None:
        """The backend's word on itself. Checks go on meanwhile, so what they say is not forgotten."""
        old = backend.state
        backend.reported = backend.reported.with_report(report)
        evidence = f"its load report says: {backend.reported}"
        return self._flipped(
            backend, old, "report", f"{evidence} ({report.detail})" if report.detail else evidence, now
        )

    def set_resolved(self, backend: Backend, resolved: bool, now: float) -> Change | None:
        """Whether the backend's name has an address."""
        old = backend.state
        backend.resolved = resolved
        return self._flipped(
            backend, old, "dns", "the name has an address" if resolved else "the name has no address", now
        )

    def tick(self, now: float) -> list[Change]:
        """End the ejections that are over."""
        changes = []
        for backend in self.backends.values():
            if now >= backend.breaker.until:
                old = backend.state
                backend.breaker.begin_probes()
                change = self._flipped(backend, old, "probe", f"ejection over, up to {PROBES} probe sessions", now)
                if change:
                    changes.append(change)
        return changes

    def configure(self, now: float) -> list[Change]:
        """Act on new `settings`. What a rule decided that is now switched off is undone: nothing else would."""
        settings = self.settings
        changes = []
        for backend in self.backends.values():
            old = backend.state
            if not settings.check.enabled:
                backend.checks.forget()
            if settings.load_report is None:
                backend.reported = NOTHING_REPORTED
            if settings.outlier.window != backend.evidence.window:
                backend.evidence = Evidence(settings.outlier.window)
            if not settings.outlier.enabled and backend.breaker.state != "closed":
                backend.breaker.close(now)
            change = self._flipped(backend, old, "operator", "reconfigured", now)
            if change:
                changes.append(change)
        return changes

    def _finding(self, backend: Backend, now: float) -> tuple[str, str] | None:
        """The rule that speaks against the backend, with its evidence."""
        outlier, mine = self.settings.outlier, backend.evidence
        if mine.consecutive >= outlier.consecutive:
            return "consecutive", f"{mine.consecutive} failures in a row"
        if mine.sessions < outlier.min_sessions:
            return None
        failures = sessions = 0
        for other in self.backends.values():
            if other is not backend:
                other.evidence.expire(now)
                failures += other.evidence.failures
                sessions += other.evidence.sessions
        if not is_outlier(mine.failures, mine.sessions, failures, sessions):
            return None
        low, high = wilson(mine.failures, mine.sessions)[0], wilson(failures, sessions)[1]
        return "wilson", (
            f"{mine.failures} of {mine.sessions} sessions failed, at least {low:.3f}; "
            f"elsewhere {failures} of {sessions}, at most {high:.3f}"
        )

    def _may_eject(self, backend: Backend) -> bool:
        """Whether the pool can spare it: not too many out already, and never the last usable one."""
        out = sum(other.breaker.state != "closed" for other in self.backends.values())
        most = max(1, len(self.backends) * self.settings.outlier.max_ejected_percent // 100)
        return backend.usable and out < most and self._others_serve(backend)

    def _others_serve(self, backend: Backend) -> bool:
        # One on probation carries three sessions at most; it cannot stand in for this one.
        return any(
            other is not backend and other.usable and other.breaker.state == "closed"
            for other in self.backends.values()
        )

    def _eject(self, backend: Backend, reason: str, evidence: str, now: float) -> Change | None:
        old = backend.state
        outlier = self.settings.outlier
        length = backend.breaker.open(now, outlier.ejection, outlier.max_ejection)
        backend.ejections_total += 1
        backend.evidence.forget()
        k = backend.breaker.ejections
        return self._flipped(backend, old, reason, f"{evidence}; ejection {k}, for {length:g} s", now)

    def _flipped(self, backend: Backend, old: State, reason: str, evidence: str, now: float) -> Change | None:
        """Tell of a new visible state, or of a step within an ejection; start warming what has returned."""
        new = backend.state
        if new in ("unknown", "up"):
            # A name that resolves for the first time belongs to the start, where nothing is warmed.
            first = reason == "dns" and not backend.sessions_total
            if old in ("down", "ejected", "maint") and not first:
                backend.begin_warm_up(now, self.settings.slow_start)
        else:
            backend.warm_since = None
        if new == old and not (new == "ejected" and reason == "probe"):
            return None
        if new != old:
            backend.since = now
        backend.reason = reason
        return Change(self.settings.name, backend.id, old, new, reason, evidence)
