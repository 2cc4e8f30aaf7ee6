"""Peak EWMA: the power of two choices by latency.

Owns the estimates of how long each backend takes. Refuses to know what was measured: the caller decides what a
sample is (in TCP mode the time to connect).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from lbproxy.balancing.backend import Backend
from lbproxy.balancing.policies.policy import Random
from lbproxy.balancing.policies.round_robin import next_in_turn
from lbproxy.balancing.policies.weighted_random import Draw

# Seconds in which an old estimate loses all but 1/e of its say.
_DECAY = 10.0
# The estimate, in seconds, of a backend nobody has measured in a pool nobody has measured.
_GUESS = 0.010
# Every so many picks one is made by round robin, so that a bad estimate can be disproved.
_RESCUE = 50
# A sample pays for so many estimates of the mean: larger pools work it out at every n-th sample only, or the price of
# a request would grow with them.
_AT_ONCE = 8
# What a failure costs at least: ten times the mean, not below a second, not above the time allowed for an answer.
_FAILURE_MEANS, _FAILURE_LEAST, _FAILURE_MOST = 10, 1.0, 60.0


def blended(estimate: float, sample: float, elapsed: float) -> float:
    """The estimate after a sample, `elapsed` seconds after the one before: peaks count at once, relief slowly.

    After Finagle's PeakEwma (Twitter).
    """
    if sample >= estimate:
        return sample
    keep = math.exp(-elapsed / _DECAY)
    return estimate * keep + sample * (1 - keep)


def drifted(estimate: float, mean: float, idle: float) -> float:
    """The estimate after `idle` seconds without a sample: it drifts to the pool's mean, for it has aged."""
    return mean + (estimate - mean) * math.exp(-idle / _DECAY)


def failure_sample(elapsed: float, mean: float) -> float:
    """What a failure after `elapsed` seconds counts as, so that fast errors attract nothing."""
    return max(min(elapsed, _FAILURE_MOST), min(_FAILURE_MOST, max(_FAILURE_LEAST, _FAILURE_MEANS * mean)))


class PeakEwma:
    """Of two drawn backends the lower estimate x (active + 1) / effective weight; every 50th pick in turn.

    Idle means: without a sample. Drift is worked out when an estimate is read, so an idle pool costs nothing.
    """

    __slots__ = ("_backends", "_draw", "_due", "_mean", "_picks")

    def __init__(self, random: Random) -> None:
        self._draw = Draw(random)
        self._backends: Sequence[Backend] = ()
        self._mean = _GUESS
        self._picks = 0
        self._due = 0

    def pick(self, candidates: Sequence[Backend], key: bytes | None, now: float) -> Backend:
        self._picks += 1
        if self._picks >= _RESCUE:
            self._picks = 0
            return next_in_turn(candidates)
        if len(candidates) == 1:
            return candidates[0]
        first, second = self._draw.two(candidates)
        cost = self.estimate(first, now) * (first.active + 1) * second.effective
        other = self.estimate(second, now) * (second.active + 1) * first.effective
        return first if cost <= other else second

    def estimate(self, backend: Backend, now: float) -> float:
        """How long this backend is believed to take at `now`, in seconds; the mean for one never measured."""
        idle = now - backend.sampled_at
        # exp() of a very long time is 0 anyway; the infinite time of the never measured ends here too.
        return drifted(backend.estimate, self._mean, idle) if idle < 100 * _DECAY else self._mean

    def sampled(self, backend: Backend, seconds: float, now: float) -> None:
        """Blend in a sample; the first one of a backend stands as it is."""
        if backend.sampled_at == -math.inf:
            backend.estimate = seconds
            self._due = 0
        else:
            elapsed = max(0.0, now - backend.sampled_at)
            backend.estimate = blended(self.estimate(backend, now), seconds, elapsed)
        backend.sampled_at = now
        self._due -= 1
        if self._due <= 0:
            self._average()

    def failed(self, backend: Backend, elapsed: float, now: float) -> None:
        """A failure is a bad sample, however fast it came."""
        self.sampled(backend, failure_sample(elapsed, self._mean), now)

    def prepare(self, backends: Sequence[Backend]) -> None:
        """Learn whose estimates make the mean."""
        self._backends = tuple(backends)
        self._average()

    def _average(self) -> None:
        self._due = len(self._backends) // _AT_ONCE
        # Those out of service do not count: one dead backend would make all the others look fast for ever.
        known = [b.estimate for b in self._backends if b.sampled_at != -math.inf and b.usable]
        self._mean = sum(known) / len(known) if known else _GUESS
