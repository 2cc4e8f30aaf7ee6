"""lbproxy: a proxy and load balancer on Twisted."""

__version__ = "0.1.0"
