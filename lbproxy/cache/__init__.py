"""What a shared HTTP cache may store, and how it may be used again (RFC 9111); no clock, no I/O."""
