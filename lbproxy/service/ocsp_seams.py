"""What stapling needs of whoever speaks HTTP."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred

# A URL and a request; the Deferred fires with the answer, or fails.
Ask = Callable[[str, bytes], Deferred[bytes]]
