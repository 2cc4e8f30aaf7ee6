"""By which names an answer can be purged together with others: Cache-Tag and Surrogate-Key.

Owns their syntax and bounds; there is no standard for either. Refuses to know what is stored, and what a purge is.
"""

from __future__ import annotations

from lbproxy.http.messages import ResponseHead

MOST_TAGS = 64
LONGEST_TAG = 256

_BLANKS = b" \t"


def tags_of(answer: ResponseHead) -> tuple[bytes, ...] | None:
    """The tags of an answer in lower case, each once, in their order; None for none.

    Cache-Tag holds them with commas between, Surrogate-Key with blanks. Those longer than 256 bytes, and those beyond
    the first 64, do not count.
    """
    tags: dict[bytes, None] = {}
    for name, value, _ in answer.fields:
        if name == b"cache-tag":
            found = value.lower().split(b",")
        elif name == b"surrogate-key":
            found = value.lower().replace(b"\t", b" ").split(b" ")
        else:
            continue
        for raw in found:
            tag = raw.strip(_BLANKS)
            if tag and len(tag) <= LONGEST_TAG:
                tags[tag] = None
                if len(tags) == MOST_TAGS:
                    return tuple(tags)
    return tuple(tags) or None
