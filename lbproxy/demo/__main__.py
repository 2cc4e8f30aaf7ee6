"""`python -m lbproxy.demo CONFIG`: demo backends in this process, twistd with CONFIG beside them, and what to try."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import time

from lbproxy.config import load
from lbproxy.demo.backends import DEMO_BACKENDS, DemoBackend, serve
from lbproxy.service.client import ControlError, ask

_LISTENER = ("127.0.0.1", 8101)
_START_SECONDS = 15.0

_BANNER = """
  lbproxy demo: one address, three backends ({names}).

  Open    http://{host}:{port}/         in a browser, and reload it; or
  try     curl http://{host}:{port}/    a few times: the backends take turns.
  Watch   {bin}/lbproxy status --config {config}
  Take    {bin}/lbproxy drain demo/blue --config {config}
  back    {bin}/lbproxy ready demo/blue --config {config}

  The lines below are the records, one for each session. Ctrl-C ends everything.
"""


def main(config: str) -> int:
    """Run until Ctrl-C; the exit status."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        backends = [DemoBackend(name, port) for name, port in DEMO_BACKENDS]
    except OSError as problem:
        if problem.errno != errno.EADDRINUSE:
            raise
        ports = ", ".join(str(port) for _, port in DEMO_BACKENDS)
        print(f"demo: one of the ports {ports} is taken; is another demo running?", file=sys.stderr)
        return 1
    configuration = load(config).configuration
    path = None if configuration is None else configuration.control.path
    if path is None:
        print(f"demo: {config} is no demo configuration; it needs a control socket", file=sys.stderr)
        return 1
    serve(backends)
    command = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]
    proxy = subprocess.Popen([*command, "-n", "--pidfile=", "lbproxy", "--config", config, "--log-level", "warn"])
    try:
        if not _ready(proxy, path):
            return proxy.wait() or 1
        bin_directory = os.path.relpath(os.path.dirname(sys.executable))
        host, port = _LISTENER
        names = ", ".join(name for name, _ in DEMO_BACKENDS)
        print(_BANNER.format(names=names, host=host, port=port, bin=bin_directory, config=config), flush=True)
        return proxy.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        _end(proxy)


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
