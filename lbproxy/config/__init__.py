"""The configuration: TOML text or command-line words in, frozen `lbproxy.model` values and every problem out.

The only package that knows TOML and pydantic. Opens no sockets and has no clock: whether a name resolves is asked of a
function that the caller hands in, and the caller says what time it is. Certificates and other files that are named are
read to be judged, unless the caller says otherwise; only texts of answers and secrets for cookies are kept.
"""

from lbproxy.config.loading import load, loads
from lbproxy.config.problems import Loaded, Problem
from lbproxy.config.quickform import quick

__all__ = ["Loaded", "Problem", "load", "loads", "quick"]
