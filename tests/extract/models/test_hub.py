"""The hub: without a network the answer comes within seconds; with one, a model is fetched once and found again."""

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlparse

import pytest

from sentifuse.extract.errors import MissingModel
from sentifuse.extract.models.hub import Network, is_forbidden

COMMIT = "1" * 40


def test_a_refused_server_is_asked_once() -> None:
    network, asked = Network(), []

    def refuse() -> None:
        asked.append(1)
        raise ConnectionRefusedError("refused")

    for _ in range(3):
        with pytest.raises(MissingModel, match=r"https://x cannot be reached \(ConnectionRefusedError: refused\)"):
            network.ask("https://x", refuse)
    assert len(asked) == 1


def test_silent_servers_share_one_patience() -> None:
    network, never = Network(patience_s=0.2), threading.Event()
    began = time.monotonic()
    for server in ("https://a", "https://b"):
        with pytest.raises(MissingModel, match="no answer within"):
            network.ask(server, never.wait)
    never.set()
    assert time.monotonic() - began < 2


def test_an_answer_is_passed_on_and_a_real_error_is_no_network_trouble() -> None:
    network = Network()
    assert network.ask("https://x", lambda: 3) == 3
    with pytest.raises(KeyError):
        network.ask("https://x", lambda: {}["k"])
    assert network.ask("https://x", lambda: 4) == 4


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [("HF_HUB_OFFLINE", "1", True), ("TRANSFORMERS_OFFLINE", "true", True), ("HF_HUB_OFFLINE", "0", False)],
)
def test_the_environment_may_forbid_downloads(
    name: str, value: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
    assert not is_forbidden()
    monkeypatch.setenv(name, value)
    assert is_forbidden() is expected


class HubHandler(BaseHTTPRequestHandler):
    """The few answers of a hub that fetching one repository takes."""

    folder: Path

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = urlparse(self.path).path
        names = sorted(file.name for file in self.folder.iterdir())
        if path in ("/api/models/a/bert", "/api/models/a/bert/revision/main"):
            self._json({"id": "a/bert", "sha": COMMIT, "siblings": [{"rfilename": name} for name in names]})
        elif path == f"/api/models/a/bert/tree/{COMMIT}":
            files = [(name, (self.folder / name).read_bytes()) for name in names]
            self._json(
                [{"type": "file", "path": n, "size": len(b), "oid": hashlib.sha1(b).hexdigest()} for n, b in files]
            )
        elif path.startswith(f"/a/bert/resolve/{COMMIT}/"):
            content = (self.folder / Path(path).name).read_bytes()
            self._send(content, {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": COMMIT})
        else:
            self.send_error(404)

    def _json(self, value: object) -> None:
        self._send(json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(200)
        for name, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def hub(bert_folder: Path) -> Iterator[str]:
    handler = type("Handler", (HubHandler,), {"folder": bert_folder})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


LOCATE = """
from pathlib import Path
from sentifuse.extract.models.source import ModelSource
from sentifuse.extract.models.weights import locate
print(locate(ModelSource(kind="hub", name="a/bert"), search=[]).digest)
"""


def ask(endpoint: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    settings = {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "NO_PROXY": "127.0.0.1"}
    return subprocess.run(
        [sys.executable, "-c", LOCATE], env=kept | settings | environment, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_a_hub_model_is_downloaded_once_and_then_found_without_a_network(
    hub: str, tmp_path: Path, bert_folder: Path
) -> None:
    from sentifuse.extract.models.located import read_folder
    from sentifuse.extract.models.source import ModelSource

    expected = read_folder(ModelSource(kind="path", name="x"), bert_folder).digest
    forbidden = ask(hub, tmp_path, HF_HUB_OFFLINE="1")
    assert "not in the local cache, and --offline or HF_HUB_OFFLINE forbids" in forbidden.stderr
    first = ask(hub, tmp_path)
    assert first.stdout.strip() == expected, first.stderr
    assert ask(hub, tmp_path, HF_HUB_OFFLINE="1").stdout.strip() == expected
    assert ask("http://127.0.0.1:9", tmp_path).stdout.strip() == expected


@pytest.mark.slow
def test_without_a_hub_the_error_comes_within_ten_seconds(tmp_path: Path) -> None:
    began = time.monotonic()
    answer = ask("http://127.0.0.1:9", tmp_path)
    assert time.monotonic() - began < 10
    assert (
        "MissingModel: hub model a/bert is not in the local cache, and http://127.0.0.1:9 cannot be reached"
        in answer.stderr
    )


@pytest.mark.slow
def test_a_repository_the_hub_does_not_have_is_named(hub: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = LOCATE.replace("a/bert", "a/none")
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    answer = subprocess.run(
        [sys.executable, "-c", code],
        env=kept | {"HF_ENDPOINT": hub, "HF_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "has no 'a/none' for you" in answer.stderr
