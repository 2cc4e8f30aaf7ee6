"""What starts, runs, is told and stops: everything that lives longer than a session."""

# Where both commands look for the configuration when they are not told.
DEFAULT_CONFIG = "/etc/lbproxy/lbproxy.toml"
