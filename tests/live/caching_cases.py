"""All cases of the caching suite by topic, in the order in which they are told."""

from __future__ import annotations

from tests.live import caching_directives as directives
from tests.live import caching_fields as fields
from tests.live import caching_freshness as freshness
from tests.live import caching_matching as matching
from tests.live import caching_stale as stale
from tests.live import caching_updates as updates
from tests.live import caching_wishes as wishes
from tests.live.caching_case import Case

# What clients wish; a cache on the servers' side need not listen (RFC 9111, 5.2.1).
WISHES = "wishes of clients"
TOPICS: dict[str, tuple[Case, ...]] = {
    "lifetimes": freshness.LIFETIMES,
    "Cache-Control as it is written": freshness.CACHE_CONTROL,
    "Age": freshness.AGE,
    "Expires": freshness.EXPIRY,
    "guessed lifetimes": freshness.GUESSES,
    "directives": directives.DIRECTIVES,
    "statuses": directives.STATUSES,
    "Authorization": directives.AUTHORIZATION,
    "CDN-Cache-Control": directives.TARGETED,
    "stale answers": stale.STALE,
    "Vary": matching.VARY,
    "conditions": matching.CONDITIONS,
    "parts": matching.PARTS,
    WISHES: wishes.WISHES,
    "invalidation": wishes.INVALIDATION,
    "stored fields": fields.STORED_FIELDS,
    "interim answers": fields.INTERIM,
    "304": updates.CONFIRMED,
    "HEAD": updates.HEADS,
    "other": fields.OTHER,
}
TOPIC_OF = {case.id: topic for topic, cases in TOPICS.items() for case in cases}
CASES = {case.id: case for cases in TOPICS.values() for case in cases}
