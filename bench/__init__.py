"""Side-by-side measurements of lbproxy and its peers on loopback: ``python -m bench``.

What counts is the ratio to HAProxy in the same run on the same machine; absolute numbers do not carry over.

- ``rows``     what is measured, one class per row of the report
- ``peers``    how each proxy is configured and started
- ``backends`` and ``serve``  what the proxies stand in front of
- ``load``     the clients, each a child process bounded in time and count
- ``meters``   CPU time and memory of one process, from /proc
- ``children`` starting, pinning and ending child processes
- ``report``   medians, ratios, tables, targets; pure
"""
