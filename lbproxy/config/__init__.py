"""The configuration: TOML text or command-line words in, frozen `lbproxy.model` values and every problem out.

The only package that knows TOML and pydantic. Opens no sockets: whether a name resolves is asked of a function that
the caller hands in.
"""

from lbproxy.config.loading import load, loads
from lbproxy.config.problems import Loaded, Problem
from lbproxy.config.quickform import quick

__all__ = ["Loaded", "Problem", "load", "loads", "quick"]
