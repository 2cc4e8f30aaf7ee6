"""`python -m lbproxy.demo CONFIG`: demo backends and certificates, twistd with CONFIG beside them, and what to try."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import ssl
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from lbproxy.config import load
from lbproxy.demo.backends import DemoBackend, serve
from lbproxy.demo.certificates import DemoFiles, ensure
from lbproxy.demo.stored import story
from lbproxy.model import Configuration
from lbproxy.service.client import ControlError, ask

_LISTENERS = ("demo", "demo-tls", "demo-passing")
_START_SECONDS = 15.0

_BANNER = """
  lbproxy demo: one front door, three backends ({names}), the next version of them, and a cache.

  Open    http://127.0.0.1:{port}/         in a browser; or
  try     curl http://127.0.0.1:{port}/    a few times: the backends take turns.

  Canary           curl http://127.0.0.1:{port}/canary     one in ten comes from purple
  Sticky           curl -b {jar} -c {jar} http://127.0.0.1:{port}/sticky
  As it arrives    curl http://127.0.0.1:{port}/echo
  Failures hidden  curl http://127.0.0.1:{port}/flaky    fails one time in three; you do not see it
  Failures shown   curl -X POST http://127.0.0.1:{port}/flaky    a POST must not come twice
  Events           curl -N http://127.0.0.1:{port}/stream  one each second
  Upload           curl -T README.md http://127.0.0.1:{port}/upload

  Cached           curl -i http://127.0.0.1:{port}/report    two seconds; then at once, for fifteen (see Cache-Status)
  Stale, not down  curl -i http://127.0.0.1:{port}/news    good for two seconds
  Break them       curl -X POST http://127.0.0.1:{port}/news/break    and they go on; mended by /news/mend
  Not stored       curl -i http://127.0.0.1:{port}/basket    Cache-Status says why
  Packed           curl -H "Accept-Encoding: gzip" http://127.0.0.1:{port}/story | wc -c    plain it has {plain} bytes
  A thousand       curl -sZ --parallel-immediate --parallel-max 300 "http://127.0.0.1:{port}/popular?[1-1000]" | uniq -c
  The cache        {bin}/lbproxy cache stat --config {config}

  Watch   {bin}/lbproxy status --config {config}
  Take    {bin}/lbproxy drain demo/blue --config {config}
  back    {bin}/lbproxy ready demo/blue --config {config}

  The same with TLS, and a throw-away certificate: https://localhost:{tls}/

  Redirected       curl -L --cacert {ca} http://127.0.0.1:{port}/secure
  Ended here       curl --cacert {ca} https://localhost:{tls}/
  Passed through   curl --cacert {ca} https://localhost:{passing}/
  A name that is shut    curl --cacert {ca} https://admin.localhost:{tls}/
  and with a key, open   curl --cacert {ca} --cert {client} https://admin.localhost:{tls}/echo

  The lines below are the records, one for each request. Ctrl-C ends everything.
"""


def main(config: str) -> int:
    """Run until Ctrl-C; the exit status."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    # The certificates that it names may not be there yet.
    configuration = load(config, read_files=False).configuration
    if configuration is None or configuration.control.path is None or _ports(configuration).keys() < {*_LISTENERS}:
        listeners = ", ".join(_LISTENERS)
        print(
            f"demo: {config} is no demo configuration; it needs a control socket and the listeners {listeners}",
            file=sys.stderr,
        )
        return 1
    try:
        files = ensure(_directory(configuration), datetime.now(UTC))
    except OSError as problem:
        print(f"demo: no certificates: {problem.filename}: {problem.strerror}", file=sys.stderr)
        return 1
    try:
        backends = _backends(configuration, files)
    except OSError as problem:
        if problem.errno != errno.EADDRINUSE:
            raise
        ports = ", ".join(sorted({str(one.address.port) for pool in configuration.pools for one in pool.backends}))
        print(f"demo: one of the ports {ports} is taken; is another demo running?", file=sys.stderr)
        return 1
    serve(backends)
    command = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]
    proxy = subprocess.Popen([*command, "-n", "--pidfile=", "lbproxy", "--config", config, "--log-level", "warn"])
    try:
        if not _ready(proxy, configuration.control.path):
            return proxy.wait() or 1
        print(_banner(config, configuration, files), flush=True)
        return proxy.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        _end(proxy)


def _banner(config: str, configuration: Configuration, files: DemoFiles) -> str:
    ports = _ports(configuration)
    return _BANNER.format(
        names=", ".join(backend.id for backend in configuration.pool_by_name["demo"].backends),
        port=ports["demo"],
        tls=ports["demo-tls"],
        passing=ports["demo-passing"],
        ca=os.path.relpath(files.ca),
        client=os.path.relpath(files.client),
        jar=os.path.relpath(files.client.parent / "cookies"),
        plain=len(story().text),
        bin=os.path.relpath(os.path.dirname(sys.executable)),
        config=config,
    )


def _ports(configuration: Configuration) -> dict[str, int]:
    return {listener.name: listener.binds[0].port for listener in configuration.listeners}


def _directory(configuration: Configuration) -> Path:
    """Where the configuration looks for the certificate of its TLS listener."""
    tls = next(listener.tls for listener in configuration.listeners if listener.tls is not None)
    return Path(os.path.normpath(tls.certificates[0].path)).parent


def _backends(configuration: Configuration, files: DemoFiles) -> list[DemoBackend]:
    """Every backend of the configuration, once; those that some pool speaks TLS to speak it. Raises OSError."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(files.server, files.server_key)
    named = {backend.address.port: backend.id for pool in configuration.pools for backend in pool.backends}
    secure = {backend.address.port for pool in configuration.pools if pool.tls for backend in pool.backends}
    return [DemoBackend(name, port, tls if port in secure else None) for port, name in named.items()]


def _ready(proxy: subprocess.Popen[bytes], path: str) -> bool:
    """Wait until lbproxy says that it is ready; False when lbproxy ended, or took too long."""
    deadline = time.monotonic() + _START_SECONDS
    while proxy.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(ControlError):
            return ask(path, "GET", "/readyz")[0] == 200
        time.sleep(0.05)
    return False


def _end(proxy: subprocess.Popen[bytes]) -> None:
    """Twice asked, lbproxy ends at once."""
    for _ in range(2):
        if proxy.poll() is None:
            proxy.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                proxy.wait(1.0)
    if proxy.poll() is None:
        proxy.kill()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2] or ["etc/demo.toml"]))
