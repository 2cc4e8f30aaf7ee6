"""From the read tables about the cache and compression to the frozen values of `lbproxy.model_cache`.

Owns what stands where no largest object is written: the model's default, unless that is more than half of the store.
"""

from __future__ import annotations

from typing import cast

from lbproxy import model_cache
from lbproxy.config.building_tls import Paths
from lbproxy.config.schema_cache import (
    CacheKeyTable,
    CacheTable,
    CompressTable,
    DecompressTable,
    DiskTable,
    RouteCacheTable,
)


def cache_of(table: CacheTable, paths: Paths) -> model_cache.CacheSettings:
    """What all routes that cache share."""
    return model_cache.CacheSettings(
        memory=table.memory,
        max_object=table.max_object if table.given("max_object") else min(table.max_object, table.memory // 2),
        disk=None if table.disk is None else _disk(table.disk, paths),
        waiters=table.waiters,
        wait=table.wait,
        hit_for_miss=table.hit_for_miss,
        variants=table.variants,
    )


def route_cache(table: RouteCacheTable | None) -> model_cache.RouteCacheSettings | None:
    """What a route stores; its conditions are built by building_http.py."""
    if table is None:
        return None
    return model_cache.RouteCacheSettings(
        key=_key(table.key),
        ttl=table.ttl,
        default_ttl=table.default_ttl,
        max_ttl=table.max_ttl,
        heuristic=table.heuristic,
        stale_while_revalidate=table.stale_while_revalidate,
        stale_if_error=table.stale_if_error,
        targeted=table.cdn_cache_control,
        honour_clients=table.client_revalidate == "honour",
        ignore_set_cookie=table.ignore_set_cookie,
        collapse=table.collapse,
        told=table.cache_status,
    )


def compression(table: CompressTable | None) -> model_cache.CompressSettings | None:
    """What a route compresses."""
    if table is None:
        return None
    return model_cache.CompressSettings(
        codings=cast(tuple[model_cache.Coding, ...], tuple(table.codings)),
        zstd_level=table.zstd_level,
        br_level=table.br_level,
        gzip_level=table.gzip_level,
        min_size=table.min_size,
        types=tuple(table.types),
        private=table.private,
        events=table.events,
        offload=table.offload,
        decode=table.decode,
    )


def decompression(table: DecompressTable | None) -> model_cache.DecompressSettings | None:
    """How bodies of requests are unpacked."""
    return None if table is None else model_cache.DecompressSettings(table.ratio, table.max_size)


def _disk(table: DiskTable, paths: Paths) -> model_cache.DiskSettings:
    return model_cache.DiskSettings(
        path=paths.absolute(table.path),
        size=table.size,
        max_object=table.max_object if table.given("max_object") else min(table.max_object, table.size // 2),
    )


def _key(table: CacheKeyTable) -> model_cache.KeySettings:
    return model_cache.KeySettings(
        ignore_query=tuple(table.ignore_query),
        only_query=None if table.only_query is None else tuple(table.only_query),
        sort_query=table.sort_query,
        # In the order of the alphabet, so that the order in the file makes no difference to what is stored.
        headers=tuple(sorted({name.lower() for name in table.headers})),
        cookies=tuple(sorted(set(table.cookies))),
    )
