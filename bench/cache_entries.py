"""``python -m bench.cache_entries``: what a stored answer takes in memory, and what the store's steps take in time.

Fills a store with entries as they come from the data path (each with bytes and times of its own), and compares what
the process has come to occupy with what the store says. ``OVERHEAD`` of lbproxy/cache/values.py is what this prints.
"""

import argparse
import gc
import os
import random
import time
from collections.abc import Callable, Sequence

from bench.meters import memory
from lbproxy.cache.body import AnyBody, Body
from lbproxy.cache.store import MemoryStore
from lbproxy.cache.values import OVERHEAD, Stored

KEY, LINES, BODY, REASON = 64, 250, 50, b"OK"
PLENTY = 1 << 40


def entry(number: int, variant: bytes = b"", body: AnyBody | None = None) -> Stored:
    """One stored answer; nothing in it is shared with another, down to the reason phrase."""
    born = 1.7e9 + number / 7
    return Stored(
        b"https://www.example.com:443/" + b"%036d" % number,
        variant,
        200,
        bytes(memoryview(REASON)),
        b"X: " + b"%0*d\r\n" % (LINES - 5, number),
        b"%0*d" % (BODY, number) if body is None else body,
        coding=b"",
        born=born,
        fresh_until=born + 60.5,
        while_revalidate=number / 3,
        if_error=number / 5,
        flags=0,
        tags=None,
    )


def resident(count: int, put: Callable[[MemoryStore, int], None]) -> tuple[MemoryStore, float]:
    """A store after `put` was called for so many numbers, and the bytes that the process has grown by for each."""
    # The first entries pay for the arenas, the second half for itself: both count, as in a process that lives.
    gc.collect()
    before = memory(os.getpid()).private
    store = MemoryStore(PLENTY)
    for number in range(count):
        put(store, number)
    gc.collect()
    return store, (memory(os.getpid()).private - before) / count


def put_plain(store: MemoryStore, number: int) -> None:
    """An answer without Vary."""
    store.put(entry(number), ())


def put_variant(store: MemoryStore, number: int) -> None:
    """The only variant of its key: the dearest case."""
    store.put(entry(number, b"gzip, br %d" % number), (b"accept-encoding",))


def put_body(store: MemoryStore, number: int) -> None:
    """A body that came in two pieces."""
    body = Body()
    body.add(b"%0*d" % (BODY // 2, number))
    body.add(b"%0*d" % (BODY // 2, number))
    body.finish()
    store.put(entry(number, body=body), ())


def slowest(step: Callable[[Stored], object], several: Sequence[Stored]) -> tuple[float, float, float]:
    """Mean, one in a thousand and slowest of the step done to each, in microseconds of this thread's own time."""
    taken = []
    for one in several:
        begun = time.thread_time_ns()
        step(one)
        taken.append(time.thread_time_ns() - begun)
    taken.sort()
    return sum(taken) / len(taken) / 1e3, taken[-len(taken) // 1000] / 1e3, taken[-1] / 1e3


def time_gets(store: MemoryStore, count: int) -> float:
    """Seconds per get() of keys that lie about in memory, the loop's own time taken off."""
    keys = [entry(number).key for number in random.Random(5).choices(range(count), k=200_000)]
    get = store.get
    begun = time.perf_counter()
    for _ in keys:
        pass
    empty = time.perf_counter() - begun
    begun = time.perf_counter()
    for key in keys:
        get(key)
    return (time.perf_counter() - begun - empty) / len(keys)


def time_hot_gets(store: MemoryStore) -> float:
    """The same for one hundred keys that are made anew each time."""
    keys = [entry(number).key for number in range(100)] * 2000
    keys = [bytes(memoryview(key)) for key in keys]
    get = store.get
    begun = time.perf_counter()
    for key in keys:
        get(key)
    return (time.perf_counter() - begun) / len(keys)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.cache_entries", description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=1_000_000, help="how many entries (default: %(default)s)")
    parser.add_argument("--what", choices=("plain", "variant", "body"), default="plain")
    count, what = (arguments := parser.parse_args()).count, arguments.what
    put = {"plain": put_plain, "variant": put_variant, "body": put_body}[what]
    store, each = resident(count, put)
    payload = KEY + LINES + BODY + len(REASON) + (16 if what == "variant" else 0)
    counted = store.used / count
    print(f"{count} {what} entries: {each:.0f} bytes resident each, {counted:.0f} counted, {payload} are payload")
    print(f"beyond the payload: {each - payload:.0f} bytes (OVERHEAD is {OVERHEAD})")
    if what != "plain":
        return
    print(f"get: {time_hot_gets(store) * 1e6:.3f} us hot, {time_gets(store, count) * 1e6:.3f} us cold")
    begun = time.perf_counter()
    gc.collect()
    print(f"full garbage collection: {(time.perf_counter() - begun) * 1e3:.0f} ms")
    gc.disable()
    words = "{}: {:.2f} us on average, {:.1f} us one in a thousand, {:.0f} us at worst"
    later = [entry(number) for number in range(count, count + count // 4)]
    print(words.format("put with room", *slowest(lambda one: store.put(one, ()), later)))
    store.limit = store.used
    for one in random.Random(7).choices(later, k=len(later) * 3):
        store.touch(one)
    last = [entry(number) for number in range(2 * count, 2 * count + count // 4)]
    print(words.format("put into a full store", *slowest(lambda one: store.put(one, ()), last)))
    everyone: list[Stored] = []
    cursor: int | None = 0
    while cursor is not None:
        some, cursor = store.walk(cursor, 100)
        everyone += some
    print(words.format("remove", *slowest(store.remove, everyone)))


if __name__ == "__main__":
    main()
