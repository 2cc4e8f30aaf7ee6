"""Side-by-side measurements of lbproxy and its peers on loopback: ``python -m bench``.

What counts is the ratio to HAProxy in the same run on the same machine; absolute numbers do not carry over.

- ``rows``, ``rows_tls``, ``rows_http`` and ``rows_cache``  a class for each row; ``plan`` has their order
- ``peers``, ``peers_http`` and ``peers_cache``  how proxies are configured and started; ``places`` is what they know
- ``portforward``, ``reverseproxy`` and ``proxypy``  peers that are libraries
- ``backends``, ``serve``, ``http_serve`` and ``cache_serve``  what the proxies stand in front of
- ``load``, ``tls_load``, ``http_load`` and ``cache_load``  the clients, each a child process bounded in time and count
- ``websocket``  the few frames of the WebSocket row
- ``tls``      the certificate of a run, and the one suite and group that its clients offer
- ``meters``   CPU time and memory of one process, from /proc
- ``children`` starting, pinning and ending child processes
- ``report``   medians, ratios, tables, targets; pure
"""
