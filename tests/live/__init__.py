"""Tests with a real lbproxy process, real sockets and real peers; see harness.py and peers.py."""
