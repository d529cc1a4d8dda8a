"""Asking the Hugging Face hub and other download servers, within seconds even without a network. Loads no model."""

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sentifuse.extract.errors import MissingModel

__all__ = ["Network", "cached_snapshot", "download_snapshot", "is_forbidden"]

SMALL_FILES = ("*.json", "*.txt", "*.model", "merges.txt")
PROBE_TIMEOUT_S = 5.0
PATIENCE_S = 9.0  # for all silent servers together: without a network the error has to come within ten seconds


def is_forbidden() -> bool:
    """Whether the environment forbids downloads (HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE)."""
    words = {"1", "on", "yes", "true"}
    return any(os.environ.get(name, "").lower() in words for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))


@dataclass(slots=True)
class Network:
    """Whether each server answers. A silent one is asked once: its second model must not wait for a time-out again.

    `patience_s` is the time left for waiting in vain, over all servers.
    """

    patience_s: float = PATIENCE_S
    failures: dict[str, str] = field(default_factory=dict)

    def ask(self, server: str, question: Callable[[], Any]) -> Any:
        """The answer of `question`, which talks to `server`.

        Raises
        ------
        MissingModel
            No answer, now or earlier; the message holds the reason.
        """
        if server in self.failures:
            raise MissingModel(self.failures[server])
        answers: list[Any] = []
        errors: list[BaseException] = []

        def work() -> None:
            try:
                answers.append(question())
            except BaseException as error:  # noqa: BLE001 - carried to the asking thread, which decides
                errors.append(error)

        limit_s = max(0.1, min(PROBE_TIMEOUT_S, self.patience_s))
        began = time.monotonic()
        thread = threading.Thread(target=work, daemon=True)  # name resolution has no time limit of its own
        thread.start()
        thread.join(limit_s)
        if answers:
            return answers[0]
        if errors and not _is_network(errors[0]):
            raise errors[0]
        self.patience_s -= time.monotonic() - began
        reason = _short(errors[0]) if errors else f"no answer within {limit_s:g} s"
        self.failures[server] = f"{server} cannot be reached ({reason})"
        raise MissingModel(self.failures[server])


def cached_snapshot(repo: str, revision: str) -> Path | None:
    """The folder of a hub repository in the local cache, or None if it is not there whole. Touches no network."""
    from huggingface_hub import snapshot_download

    for patterns in ((*SMALL_FILES, "*.safetensors"), (*SMALL_FILES, "pytorch_model*.bin")):
        try:
            found = snapshot_download(
                repo, revision=revision or None, local_files_only=True, allow_patterns=list(patterns)
            )
        except (OSError, ValueError):
            continue
        folder = Path(found)
        weights = any(folder.glob(patterns[-1]))
        if weights and (folder / "config.json").is_file():
            return folder
    return None


def find_remote(network: Network, repo: str, revision: str) -> tuple[str, tuple[str, ...]]:
    """Commit and files to fetch of a hub repository: safetensors where there are, else the torch files.

    Raises
    ------
    MissingModel
        No network, no such repository, no access, or no weights in it.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        info = network.ask(
            constants.ENDPOINT, lambda: HfApi().model_info(repo, revision=revision or None, timeout=PROBE_TIMEOUT_S)
        )
    except (HfHubHTTPError, HFValidationError) as error:
        raise MissingModel(f"{constants.ENDPOINT} has no {repo!r} for you ({_short(error)})") from error
    names = [sibling.rfilename for sibling in info.siblings or ()]
    safe = [name for name in names if name.endswith(".safetensors") and "/" not in name]
    weights = safe or [name for name in names if name.startswith("pytorch_model") and name.endswith(".bin")]
    if not weights:
        raise MissingModel(f"{repo!r} has neither safetensors nor PyTorch weights")
    return info.sha, (*SMALL_FILES, *weights)


def download_snapshot(repo: str, commit: str, revision: str, patterns: tuple[str, ...]) -> Path:
    """Fetch a repository into the hub's own cache, with the hub's own progress bars on stderr."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return Path(snapshot_download(repo, revision=revision or None, allow_patterns=list(patterns)))
    except (HfHubHTTPError, OSError) as error:
        raise MissingModel(f"{repo} (commit {commit}): the download stopped ({_short(error)}); try again") from error


def _is_network(error: BaseException) -> bool:
    """Connection trouble of urllib (OSError) or of the hub's client, whose base class is named TransportError."""
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(error, HfHubHTTPError):
        response = getattr(error, "response", None)
        return getattr(response, "status_code", 0) >= 500
    names = {kind.__name__ for kind in type(error).__mro__}
    return isinstance(error, OSError) or "TransportError" in names


def _short(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:160]}" if lines else type(error).__name__
