"""The policies: one file each, and the table that lists them all.

Owns the names. Refuses to know how any of them chooses. To add one: its file, its line here, its name in the model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lbproxy.balancing.policies.first import First
from lbproxy.balancing.policies.hashing import HashPolicy
from lbproxy.balancing.policies.ketama import build_ring
from lbproxy.balancing.policies.least_connections import LeastConnections
from lbproxy.balancing.policies.maglev import build_slots
from lbproxy.balancing.policies.p2c import PowerOfTwo
from lbproxy.balancing.policies.peak_ewma import PeakEwma
from lbproxy.balancing.policies.policy import Policy, Prepared, Random, Sampling
from lbproxy.balancing.policies.rendezvous import Bids
from lbproxy.balancing.policies.round_robin import RoundRobin
from lbproxy.balancing.policies.weighted_random import WeightedRandom
from lbproxy.model import PolicyName, PoolSettings

__all__ = ["POLICIES", "Policy", "Prepared", "Random", "Sampling"]

POLICIES: Mapping[PolicyName, Callable[[PoolSettings, Random], Policy]] = {
    "least-connections": lambda _settings, _random: LeastConnections(),
    "round-robin": lambda _settings, _random: RoundRobin(),
    "random": lambda _settings, random: WeightedRandom(random),
    "p2c": lambda _settings, random: PowerOfTwo(random),
    "peak-ewma": lambda _settings, random: PeakEwma(random),
    "ketama": lambda settings, random: HashPolicy(build_ring, settings.bounded_load, random),
    "maglev": lambda settings, random: HashPolicy(build_slots, settings.bounded_load, random),
    "rendezvous": lambda settings, random: HashPolicy(Bids, settings.bounded_load, random),
    "first": lambda _settings, _random: First(),
}

# mypy's proof that each fits, and that those with more verbs than one spell them right.
_least_connections: type[Policy] = LeastConnections
_round_robin: type[Policy] = RoundRobin
_random: type[Policy] = WeightedRandom
_p2c: type[Policy] = PowerOfTwo
_peak_ewma_samples: type[Sampling] = PeakEwma
_peak_ewma_prepares: type[Prepared] = PeakEwma
_hash: type[Prepared] = HashPolicy
_first: type[Policy] = First
