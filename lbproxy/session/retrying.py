"""Whether a session may try another backend.

The rule of TCP is class A of the retry classes: a failed connect has sent nothing, so another backend may be tried for
any client without asking what the bytes would have meant. This module bounds how often and how long.
"""

from __future__ import annotations

from dataclasses import dataclass

from lbproxy.errors import TryError


@dataclass(frozen=True, slots=True)
class Try:
    """One attempt at one backend: `error` is None for the one that succeeded, `seconds` is how long it took, `detail`
    says more about the error where that is known. `klass` is what was known of the request when it failed: "A" nothing
    was sent, "B" it went on a connection that had served before and said nothing, "C" the backend may have acted on
    it, "D" an answer had begun. `reused` tells that its connection had served before.
    """

    backend: str
    address: str
    error: TryError | None
    seconds: float
    detail: str = ""
    klass: str = "A"
    reused: bool = False


def may_try_again(*, made: int, limit: int, since_first: float, window: float) -> bool:
    """Whether a further try may begin after `made` tries, `since_first` seconds after the first one began."""
    return made < limit and since_first < window
