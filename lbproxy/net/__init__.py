"""Sockets, TLS and the reactor: the only package that touches them."""
