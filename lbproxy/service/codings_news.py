"""What the operator is told of codings whose library is not installed.

A file names them as it names others, so that it means the same on every machine; here it is told which of them this
machine leaves out. Refuses to know what is compressed with the rest.
"""

from __future__ import annotations

import dataclasses

from lbproxy.compress.codings import AVAILABLE
from lbproxy.config import Loaded, Problem

_PACKAGES = {"zstd": "backports.zstd", "br": "brotli"}


def with_codings_news(loaded: Loaded) -> Loaded:
    """The same with one warning for each coding that a route wants and nobody can make; for the first such route."""
    configuration = loaded.configuration
    if configuration is None:
        return loaded
    news: dict[str, Problem] = {}
    for index, route in enumerate(configuration.routes):
        compress = None if route.http is None else route.http.compress
        for coding in () if compress is None else compress.codings:
            if coding.encode() not in AVAILABLE and coding not in news:
                message = f'"{coding}" is left out, its library is not installed; pip install {_PACKAGES[coding]}'
                key = f"route[{index}].compress.codings"
                news[coding] = Problem(configuration.file, route.line, key, message, "warning")
    problems = sorted((*loaded.problems, *news.values()), key=lambda problem: problem.line)
    return dataclasses.replace(loaded, problems=tuple(problems))
