"""Every way in which a journal, an index or a recipe can be wrong, for the archives."""

import json
from collections.abc import Iterator
from typing import Any

from damage import Damage

from sentifuse.cache.checksum import seal, unseal
from sentifuse.cache.fingerprint import canonical_json
from sentifuse.cache.spec import FORMAT_VERSION

__all__ = ["damaged_indexes", "damaged_journals", "damaged_recipes"]


def damaged_journals(content: bytes) -> Iterator[Damage]:
    lines = content.splitlines(keepends=True)
    first = unseal(json.loads(lines[0]))

    def of(name: str, content: bytes, message: str, error: str = "CorruptIndex") -> Damage:
        return Damage(name=f"{name}.jsonl", content=content, error=error, message=message, when="write")

    def line(**changes: Any) -> bytes:
        return canonical_json(seal({**first, **changes})) + b"\n"

    at = content.index(b"sha256") + 12
    yield of("torn-at-the-end", content[:-40], "", error="accepted")
    yield of("gone", b"", "", error="accepted")
    yield of("twice-the-same-line", lines[0] + lines[0], "", error="accepted")
    yield of("torn-in-the-middle", lines[0][:60] + b"\n" + lines[0], "line 1: ")
    yield of("flipped-bit", content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :], "a changed byte")
    yield of("unsealed", canonical_json(first) + b"\n", "a changed byte")
    yield of("unknown-kind", line(kind="shards"), "unknown kind 'shards'")
    yield of(
        "rewrite-in-the-middle",
        lines[0] + canonical_json(seal({"kind": "rewrite", "generation": 2})) + b"\n",
        "line 2: unknown kind 'rewrite'",
    )
    yield of(
        "rewrite-of-nothing",
        canonical_json(seal({"kind": "rewrite", "generation": 0})) + b"\n" + lines[0],
        "generation 0",
    )
    yield of("extra-key", line(note="x"), "keys")
    yield of("empty-line", b"\n" + content, "line 1: ")
    yield of("no-json", b"shard 0 written\n", "line 1: ")
    yield of("list", b"[]\n", "no JSON object")
    yield of("counts-that-do-not-add-up", line(rows=first["rows"] + 1), "do not add up")
    yield of("negative-size", line(size_bytes=-1), "no whole number")
    yield of("name-of-another-digest", line(sha256="0" * 64), "not named after its number and SHA-256")
    yield of("path-out-of-the-set", line(file="shards/../../000000-" + first["sha256"][:12] + ".h5"), "not named after")
    yield of("checksums-cut-short", line(row_crc32c=""), "checksums and")
    yield of("checksums-that-are-none", line(row_crc32c="?"), "is no base64")
    no_rows: dict[str, Any] = {"rows": 0, "ok": 0, "counts": {}, "row_crc32c": "", "row_batch": ""}
    yield of("shard-without-rows", line(**no_rows), "expected at least one row")
    yield of("nested-without-end", b"[" * 100_000 + b"\n" + content, "line 1: ")
    places = first["datasets"]
    yield of("dataset-left-out", line(datasets=places[:-1]), "line 1: datasets [")
    yield of("dataset-that-no-field-has", line(datasets=[*places, ["fields/more", 0, 0, None]]), "line 1: datasets [")
    yield of("dataset-of-another-name", line(datasets=[*places[:-1], ["x", *places[-1][1:]]]), "line 1: datasets [")
    yield of("datasets-out-of-order", line(datasets=places[::-1]), "line 1: datasets [")
    yield of("dataset-without-a-place", line(datasets=[["ids", -1, 3, 0]]), "offset and size must be whole numbers")
    yield of("future-checksum", line(datasets=[["ids", 0, 3, 1 << 32]]), "crc32c must be a whole number")


def damaged_indexes(content: bytes, fingerprint: str) -> Iterator[Damage]:
    value = unseal(json.loads(content))
    shard = value["shards"][0]

    def of(name: str, content: bytes, message: str, error: str = "CorruptIndex") -> Damage:
        return Damage(name=f"{name}.json", content=content, error=error, message=message)

    def index(**changes: Any) -> bytes:
        return canonical_json(seal({**value, **changes})) + b"\n"

    def named(number: int) -> dict[str, Any]:
        return {**shard, "number": number, "file": f"shards/{number:06d}-{shard['sha256'][:12]}.h5"}

    at = content.index(b"sha256") + 12
    twice = {"rows": 2 * value["rows"]}
    yield of("empty", b"", "JSONDecodeError")
    yield of("torn", content[: len(content) // 2], "JSONDecodeError")
    yield of("zeros", bytes(len(content)), "Error: ")
    yield of("nested-without-end", b"[" * 100_000, "Error: ")
    yield of("flipped-bit", content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :], "a changed byte")
    yield of("no-text", b"\xff\xfe" + content, "UnicodeDecodeError")
    yield of("list", b"[]\n", "TypeError")
    yield of("unsealed", canonical_json(value) + b"\n", "a changed byte")
    yield of("pretty", json.dumps(seal(value), indent=1, sort_keys=True).encode() + b"\n", "not what a writer writes")
    yield of("future-format", index(format=FORMAT_VERSION + 1), "Install a later sentifuse", error="FutureVersion")
    yield of("past-format", index(format=0), "not what a writer writes")
    other = fingerprint[:-1] + ("0" if fingerprint[-1] != "0" else "1")
    yield of("other-fingerprint", index(fingerprint=other), "recipe.json says", error="FingerprintMismatch")
    yield of("extra-key", index(note="x"), "not what a writer writes")
    yield of(
        "missing-key", canonical_json(seal({k: v for k, v in value.items() if k != "generation"})) + b"\n", "KeyError"
    )
    yield of("negative-generation", index(generation=-1), "generation -1")
    yield of("generation-that-is-a-word", index(generation="first"), "generation 'first'")
    yield of("wrong-sum", index(rows=value["rows"] + 1), "not what a writer writes")
    yield of("counts-that-do-not-add-up", index(shards=[{**shard, "ok": shard["ok"] + 1}]), "do not add up")
    yield of("missing-shard", index(shards=[shard, named(1)], **twice), "the index names it", error="CorruptShard")
    yield of("out-of-order", index(shards=[named(1), shard], **twice), "not what a writer writes")
    yield of("duplicated-number", index(shards=[shard, shard], **twice), "not what a writer writes")
    yield of("path-out-of-the-set", index(shards=[{**shard, "file": "../" + shard["file"]}]), "not named after")
    yield of("shard-without-a-key", index(shards=[{key: v for key, v in shard.items() if key != "rows"}]), "keys")
    no_rows = {**shard, "rows": 0, "ok": 0, "counts": {}}
    yield of("shard-without-rows", index(shards=[no_rows], rows=0), "expected at least one row")


def damaged_recipes(content: bytes) -> Iterator[Damage]:
    value = unseal(json.loads(content))

    def of(name: str, content: bytes, message: str, error: str = "CorruptIndex") -> Damage:
        return Damage(name=f"{name}.json", content=content, error=error, message=message)

    def recipe(drop: tuple[str, ...] = (), **changes: Any) -> bytes:
        kept = {key: item for key, item in {**value, **changes}.items() if key not in drop}
        text = json.dumps(seal(kept), indent=2, sort_keys=True, ensure_ascii=False)
        return text.encode("utf-8") + b"\n"

    at = content.index(b"dropout")
    field = value["fields"][0]
    yield of("empty", b"", "JSONDecodeError")
    yield of("torn", content[: len(content) // 2], "JSONDecodeError")
    yield of("flipped-bit", content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :], "a changed byte")
    yield of("edited-by-hand", content.replace(b'"dropout": 0.1', b'"dropout": 0.2'), "a changed byte")
    yield of(
        "edited-and-sealed",
        recipe(recipe={**value["recipe"], "dropout": 0.2}),
        "changed by hand",
        error="FingerprintMismatch",
    )
    yield of("other-fingerprint", recipe(fingerprint="0" * 64), "changed by hand", error="FingerprintMismatch")
    yield of("future-format", recipe(format=FORMAT_VERSION + 1), "Install a later sentifuse", error="FutureVersion")
    yield of("past-format", recipe(format=0), "format 0, expected")
    yield of("one-line", canonical_json(seal(value)) + b"\n", "not what a writer writes")
    yield of("list", b"[]\n", "TypeError")
    yield of("field-of-an-unknown-dtype", recipe(fields=[{**field, "dtype": "object"}]), "dtype 'object'")
    yield of(
        "field-of-no-size",
        recipe(fields=[{**field, "shape": [0, 3]}]),
        "expected positive whole numbers",
    )
    yield of("field-with-a-path-for-a-name", recipe(fields=[{**field, "name": "../grid"}]), "'../grid'")
    yield of(
        "field-without-a-shape",
        recipe(fields=[{k: v for k, v in field.items() if k != "shape"}]),
        "expected an object with",
    )
    yield of("field-with-an-extra-key", recipe(fields=[{**field, "unit": "px"}]), "expected an object with the keys")
    yield of("field-that-is-a-list", recipe(fields=[list(field.values())]), "expected an object with the keys")
    yield of("field-with-a-number-for-a-name", recipe(fields=[{**field, "name": 5}]), "name and dtype must be texts")
    yield of("field-of-a-shape-in-words", recipe(fields=[{**field, "shape": "2x3"}]), "shape must be a list")
    yield of("field-of-half-a-side", recipe(fields=[{**field, "shape": [2.0, 3]}]), "expected positive whole numbers")
    yield of("field-ragged-in-words", recipe(fields=[{**field, "is_ragged": "no"}]), "is_ragged true or false")
    yield of("field-twice", recipe(fields=[field, field]), "no name twice")
    yield of("no-fields", recipe(fields=[]), "expected at least one and no name twice")
    yield of("fields-that-are-an-object", recipe(fields={"grid": field}), "expected a list")
    yield of("extra-key", recipe(note="x"), "keys [")
    yield of("missing-key", recipe(drop=("details",)), "keys [")
    yield of("details-that-are-a-list", recipe(details=[1]), "details [1], expected a dict")
    yield of("recipe-that-is-a-list", recipe(recipe=[]), "recipe [], expected a dict")
    yield of("encoder-that-is-no-folder", recipe(encoder="Bad Name/.."), "encoder name 'Bad Name/..'")
    yield of("encoder-that-is-a-number", recipe(encoder=5), "encoder 5, expected a str")
    yield of("fingerprint-that-is-a-number", recipe(fingerprint=5), "fingerprint 5, expected a str")
    yield of("format-that-is-true", recipe(format=True), "format True, expected 1")
