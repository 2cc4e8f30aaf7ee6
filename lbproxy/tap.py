"""What twistd asks for: the command line, and the service that it means."""

from __future__ import annotations

import os
from typing import Any, ClassVar

from twisted.python import usage

from lbproxy import __version__
from lbproxy.service import DEFAULT_CONFIG


class Options(usage.Options):
    """The options of `twistd lbproxy`. After parsing, `configuration` is what they mean."""

    synopsis = "[options]  (a file, or the quick form: --listen http://ADDRESS --backend ADDRESS ...)"
    longdesc = (
        "A proxy and load balancer. With --config, everything is said in a TOML file; without, --listen and --backend"
        " balance TCP from one command line. Exit status: 0 fine, 2 configuration error, 1 anything else."
    )
    optParameters: ClassVar = [
        ["config", "c", None, f"Configuration file (environment: LBPROXY_CONFIG; default: {DEFAULT_CONFIG})"],
        ["policy", "p", None, "Quick form: how a backend is chosen"],
        ["format", None, "text", "With --check: text or json"],
        ["log-level", None, None, "debug, info, warn or error, over what the file says (LBPROXY_LOG_LEVEL)"],
    ]
    optFlags: ClassVar = [
        ["check", None, "Print every problem of the configuration, and exit"],
    ]
    compData = usage.Completions(
        optActions={
            "config": usage.CompleteFiles("*.toml"),
            "cert": usage.CompleteFiles(),
            "key": usage.CompleteFiles(),
        }
    )

    def __init__(self) -> None:
        super().__init__()
        self["listens"] = []
        self["backends"] = []
        self["certs"] = []
        self["keys"] = []

    def opt_listen(self, url: str) -> None:
        """Quick form: where to accept, as http://127.0.0.1:8101, https://, tcp:// or tls:// (may be repeated)"""
        self["listens"].append(url)

    def opt_backend(self, address: str) -> None:
        """Quick form: a server to balance to, as 127.0.0.1:9001, or https://app.example (may be repeated)"""
        self["backends"].append(address)

    def opt_cert(self, path: str) -> None:
        """Quick form: a certificate for https:// and tls://, in PEM with its chain (may be repeated)"""
        self["certs"].append(path)

    def opt_key(self, path: str) -> None:
        """Quick form: the private key of the --cert of the same place; without it, in the same file or beside it"""
        self["keys"].append(path)

    opt_l = opt_listen
    opt_b = opt_backend

    def opt_version(self) -> None:
        """Print the version, and exit"""
        print(f"lbproxy {__version__}")
        raise SystemExit(0)

    def postOptions(self) -> None:
        """Read the configuration, print what is wrong with it, and choose reactor and log."""
        from lbproxy.service.start import Refused, prepare

        quick = any(self[words] for words in ("listens", "backends", "policy", "certs", "keys"))
        if quick and self["config"]:
            raise usage.UsageError(
                "--config and the quick form (--listen, --backend, --policy, --cert, --key) exclude each other"
            )
        if self["format"] not in ("text", "json"):
            raise usage.UsageError(f"--format is {self['format']!r}, it must be text or json")
        path = None if quick else self["config"] or os.environ.get("LBPROXY_CONFIG") or DEFAULT_CONFIG
        try:
            self["prepared"] = prepare(
                path,
                listens=self["listens"],
                backends=self["backends"],
                policy=self["policy"],
                certs=self["certs"],
                keys=self["keys"],
                level=self["log-level"] or os.environ.get("LBPROXY_LOG_LEVEL"),
                check=bool(self["check"]),
                form=self["format"],
            )
        except Refused as refused:
            raise SystemExit(refused.status) from None
        except ValueError as problem:
            raise usage.UsageError(str(problem)) from None
        self["prepared"].install_reactor()
        self._take_log_over()

    def _take_log_over(self) -> None:
        """Write the log in our form, unless the operator chose syslog or an observer of their own."""
        twistd = self.parent
        if twistd is None or twistd.get("logger") or twistd.get("syslog"):
            return
        if "logfile" in twistd:
            daemon = not twistd.get("nodaemon", True)
            twistd["logger"] = self["prepared"].choose_observer(twistd.get("logfile"), daemon)


def makeService(options: Options, reactor: Any = None) -> Any:
    """The service that `options` mean. Without a `reactor`, the one that Twisted has installed by then."""
    if reactor is None:
        from twisted.internet import reactor
    return options["prepared"].make_service(reactor)
