"""HTTP clients are made in one place, which reads proxies, certificates and deadlines."""

from __future__ import annotations

import ast
from pathlib import Path

RUNNER = Path(__file__).parents[2] / "runner"
MAKERS = {
    "httpx": {
        "Client", "AsyncClient", "HTTPTransport", "AsyncHTTPTransport", "get", "post", "put",
        "patch", "delete", "head", "options", "request", "stream", "create_ssl_context",
    },
    "urllib.request": {"urlopen", "build_opener", "urlretrieve"},
    "http.client": {"HTTPConnection", "HTTPSConnection"},
    "requests": {"get", "post", "put", "request", "Session"},
    "aiohttp": {"ClientSession"},
}  # fmt: skip


def _makes(source: str) -> set[str]:
    """Return the makers that a module uses, by `httpx.Client` or `from httpx import Client`."""
    found: set[str] = set()
    if not any(module in source for module in MAKERS):
        return found  # without parsing it
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            names = MAKERS.get(node.module or "", set())
            found |= {alias.name for alias in node.names if alias.name in names}
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = ast.unparse(node.func.value)
            if node.func.attr in MAKERS.get(owner, set()):
                found.add(f"{owner}.{node.func.attr}")
    return found


def test_no_module_but_one_makes_an_http_client() -> None:
    makers = {
        str(path.relative_to(RUNNER)): found
        for path in RUNNER.rglob("*.py")
        if (found := _makes(path.read_text(encoding="utf-8")))
    }
    assert set(makers) == {"adapters/http.py"}
    assert {"httpx.AsyncHTTPTransport"} <= makers["adapters/http.py"]
