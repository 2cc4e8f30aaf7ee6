"""Asking a running instance through its control socket, from another process."""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any

_TIMEOUT = 10.0


class ControlError(Exception):
    """The instance could not be asked; the message is a sentence for the operator."""


class _Connection(http.client.HTTPConnection):
    """HTTP over a UNIX socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_TIMEOUT)
        self._path = path

    def connect(self) -> None:
        """See HTTPConnection."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_TIMEOUT)
        self.sock.connect(self._path)


def ask(path: str, method: str, target: str, body: dict[str, object] | None = None) -> tuple[int, Any]:
    """One request to the control socket at `path`: status and decoded JSON. Raises ControlError."""
    connection = _Connection(path)
    headers = {} if body is None else {"Content-Type": "application/json"}
    try:
        connection.request(method, target, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    except FileNotFoundError:
        raise ControlError(f"nothing is at {path}: is lbproxy running, with this control socket?") from None
    except ConnectionRefusedError:
        raise ControlError(f"nobody answers at {path}: the lbproxy that made it is gone") from None
    except PermissionError:
        raise ControlError(f"not allowed to use {path}: be the user that lbproxy runs as") from None
    except (OSError, http.client.HTTPException, ValueError) as problem:
        raise ControlError(f"no answer from {path}: {problem or type(problem).__name__}") from problem
    finally:
        connection.close()
