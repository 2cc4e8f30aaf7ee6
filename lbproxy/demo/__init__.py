"""Something to look at: demo backends, and an lbproxy in front of them. Not for production, and not used by it."""
