"""A stand-in of the Hugging Face Hub on the loopback: as much of its HTTP interface as its client asks here."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_standin"


class Hub(ThreadingHTTPServer):
    """Repositories by name; of each its commits, of each its files; and the requests that came."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repos: dict[str, dict[str, dict[str, bytes]]] = {}
        self.requests: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, status: int, body: Any = b"", **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def missing(self, code: str) -> None:
        self.answer(404, {"error": code}, X_Error_Code=code, X_Error_Message=code)

    def do_POST(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.requests.append(f"POST {path}")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.answer(403, {"error": "no right to write"})
        elif path == "/api/validate-yaml":
            self.answer(200, {"errors": [], "warnings": []})
        elif path == "/api/repos/create":
            asked = json.loads(body)
            repo = "/".join(filter(None, (asked.get("organization"), asked["name"])))
            self.server.repos.setdefault(repo, {})
            self.answer(200, {"url": f"{self.server.url}/{repo}", "name": repo, "id": repo})
        elif "/preupload/" in path:
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            self.answer(200, {"files": files})
        else:
            repo = path.removeprefix("/api/models/").partition("/commit/")[0]
            lines = [json.loads(line) for line in body.splitlines()]
            files = {
                line["value"]["path"]: base64.b64decode(line["value"]["content"])
                for line in lines
                if line["key"] == "file"
            }
            commit = hashlib.sha1(body).hexdigest()
            self.server.repos[repo][commit] = files
            self.answer(
                200,
                {
                    "commitUrl": f"{self.server.url}/{repo}/commit/{commit}",
                    "commitOid": commit,
                    "success": True,
                },
            )

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.requests.append(f"{self.command} {path}")
        parts = path.removeprefix("/api/models").strip("/").split("/")
        kind, revision = [*parts[2:4], "", ""][:2]
        repo, file = "/".join(parts[:2]), "/".join(parts[4:])
        if repo not in self.server.repos:
            return self.missing("RepoNotFound")
        commits = self.server.repos[repo]
        commit = list(commits)[-1] if revision in ("main", "") else revision
        if commit not in commits:
            return self.missing("RevisionNotFound")
        if kind == "revision" or not kind:
            return self.answer(200, {"id": repo, "sha": commit, "siblings": []})
        if kind == "tree":
            entries = [
                {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                for name, data in commits[commit].items()
            ]
            return self.answer(200, entries)
        data = commits[commit][file]
        etag = f'"{hashlib.sha1(data).hexdigest()}"'
        return self.answer(200, data, X_Repo_Commit=commit, ETag=etag)

    do_HEAD = do_GET


@contextmanager
def serve_hub() -> Iterator[Hub]:
    """Run a stand-in for the length of the context."""
    with Hub() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
