"""HTTP without sockets: what is a legal message, what is forwarded of it, and what we answer ourselves."""
