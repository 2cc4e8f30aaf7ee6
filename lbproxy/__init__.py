"""lbproxy: a proxy and load balancer on Twisted."""

__version__ = "0.1.0"

# Where the command line looks for its configuration when it is not told.
DEFAULT_CONFIG = "/etc/lbproxy/lbproxy.toml"
