"""The `lbproxy` command: check a file, and look at or steer a running instance through its control socket."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote

from lbproxy import __version__
from lbproxy.commands_cache import add_cache_commands
from lbproxy.service import DEFAULT_CONFIG
from lbproxy.service.client import ControlError, ask
from lbproxy.service.status import status_text

_FAILED = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status: 0 fine, 2 configuration error, 1 anything else."""
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.run
    try:
        return command(options)
    except ControlError as problem:
        print(f"lbproxy: {problem}", file=sys.stderr)
        return _FAILED
    except BrokenPipeError:
        # The reader (a pager, head) has seen enough. Nothing is left to be said, not even by the interpreter's end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lbproxy", description=__doc__, epilog="To serve: twistd -n lbproxy --help")
    parser.add_argument("--version", action="version", version=f"lbproxy {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    check = commands.add_parser("check", help="print every problem of a configuration file")
    check.add_argument("file", nargs="?", default=os.environ.get("LBPROXY_CONFIG", DEFAULT_CONFIG))
    check.add_argument("--format", choices=("text", "json"), default="text")
    check.set_defaults(run=_check)

    status = _control(commands.add_parser("status", help="show listeners, pools and backends of a running instance"))
    status.add_argument("--json", action="store_true", help="everything there is to know, for programs")
    status.set_defaults(run=_status)

    served = _control(commands.add_parser("certificates", help="show which certificates are served, and until when"))
    served.add_argument("--json", action="store_true", help="everything there is to know, for programs")
    served.set_defaults(run=_certificates)

    reload = _control(commands.add_parser("reload", help="read the configuration file again, as SIGHUP does"))
    reload.set_defaults(run=_reload)

    for state, what in (
        ("drain", "give a backend no new sessions, let the old ones end"),
        ("maint", "take a backend out, and stop checking it"),
        ("ready", "put a backend back to work"),
    ):
        change = _control(commands.add_parser(state, help=what))
        change.add_argument("backend", metavar="POOL/BACKEND")
        change.set_defaults(run=_change, state=state)

    add_cache_commands(commands, _control, _socket)
    return parser


def _control(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("--socket", metavar="PATH", help="the control socket (default: what the configuration says)")
    parser.add_argument("--config", metavar="FILE", default=os.environ.get("LBPROXY_CONFIG", DEFAULT_CONFIG))
    return parser


def _check(options: argparse.Namespace) -> int:
    from lbproxy.service.start import check

    return check(options.file, options.format)


def _status(options: argparse.Namespace) -> int:
    _, answer = ask(_socket(options), "GET", "/v1/status")
    print(json.dumps(answer, indent=2) if options.json else status_text(answer))
    return 0


def _certificates(options: argparse.Namespace) -> int:
    from lbproxy.service.certificate_page import certificates_text

    status, answer = ask(_socket(options), "GET", "/v1/certificates")
    if status != 200:
        raise ControlError(str(answer.get("error", answer)))
    print(json.dumps(answer, indent=2) if options.json else certificates_text(answer))
    return 0


def _reload(options: argparse.Namespace) -> int:
    from lbproxy.config import Problem

    status, answer = ask(_socket(options), "POST", "/v1/reload")
    for problem in answer.get("problems", []):
        print(Problem(**problem), file=sys.stderr)
    print("reloaded" if status == 200 else "refused: what ran before goes on")
    return 0 if status == 200 else 2


def _change(options: argparse.Namespace) -> int:
    pool, slash, backend = options.backend.partition("/")
    if not slash:
        raise ControlError(f"{options.backend!r}: write it as POOL/BACKEND, as `lbproxy status` shows them")
    path = f"/v1/pools/{quote(pool, safe='')}/backends/{quote(backend, safe='')}"
    status, answer = ask(_socket(options), "PATCH", path, {"state": options.state})
    if status != 200:
        raise ControlError(str(answer.get("error", answer)))
    state: Any = next((one["state"] for one in answer["backends"] if one["id"] == backend), options.state)
    print(f"{options.backend}: {state}")
    return 0


def _socket(options: argparse.Namespace) -> str:
    if options.socket:
        path: str = options.socket
        return path.removeprefix("unix:")
    from lbproxy.config import load

    # Only the path of the socket is wanted; who may use it need not be allowed to read keys.
    loaded = load(options.config, read_files=False)
    configuration = loaded.configuration
    if configuration is None:
        raise ControlError(
            f"{loaded.problems[0]}\nlbproxy: say which file with --config, or which socket with --socket"
        )
    if configuration.control.path is None:
        raise ControlError(
            f'{options.config} names no control socket; set [control] socket = "unix:/run/lbproxy/control.sock"'
            " there, or say which with --socket or --config"
        )
    return configuration.control.path


if __name__ == "__main__":
    sys.exit(main())
