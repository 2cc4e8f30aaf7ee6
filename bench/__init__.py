"""Side-by-side measurements of lbproxy and its peers on loopback: ``python -m bench``.

What counts is the ratio to HAProxy in the same run on the same machine; absolute numbers do not carry over.

- ``rows`` and ``rows_tls``  what is measured, one class per row of the report; ``plan`` has them in order
- ``peers``    how each proxy is configured and started
- ``backends`` and ``serve``  what the proxies stand in front of
- ``load`` and ``tls_load``  the clients, each a child process bounded in time and count
- ``tls``      the certificate of a run, and the one suite and group that its clients offer
- ``meters``   CPU time and memory of one process, from /proc
- ``children`` starting, pinning and ending child processes
- ``report``   medians, ratios, tables, targets; pure
"""
