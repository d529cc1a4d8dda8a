"""tokens: states equal the library's, padding is never stored, and nothing a tweet holds can derail it."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from sentifuse import DataError
from sentifuse.extract.errors import ModelMismatch

TEXTS = ["the happy dog", "", "a sad day in the rain and news on the old sky", "sun"]
CLS, SEP = 2, 3


def copy(folder: Path, target: Path, **changes: Any) -> Path:
    shutil.copytree(folder, target)
    config = json.loads((target / "config.json").read_text(encoding="utf-8"))
    (target / "config.json").write_text(json.dumps(config | changes), encoding="utf-8")
    return target


def rewrite(folder: Path, change: Any) -> Path:
    file = folder / "model.safetensors"
    tensors = change(load_file(file))
    file.unlink()
    save_file(tensors, file, metadata={"format": "pt"})
    return folder


@torch.inference_mode()
def library_states(folder: Path, text: str, layers: int = 1) -> np.ndarray:
    from transformers import AutoModel, AutoTokenizer

    net = AutoModel.from_pretrained(folder, add_pooling_layer=False).eval()
    batch = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")
    hidden = net(**batch, output_hidden_states=True).hidden_states[-layers:]
    return torch.stack(hidden).mean(dim=0)[0].numpy()


def test_states_equal_the_library_and_only_real_pieces_are_stored(bert_folder: Path, build: Any, encode: Any) -> None:
    encoder = build("tokens", bert_folder)
    rows = encode(encoder, [(None, text) for text in TEXTS])
    for text, row in zip(TEXTS, rows, strict=True):
        expected = library_states(bert_folder, text)
        assert row["states"].shape == expected.shape == (len(row["piece_ids"]), 32)
        assert row["states"].dtype == np.float16
        np.testing.assert_allclose(row["states"], expected, atol=2e-3)


def test_before_rounding_states_equal_the_library_to_a_millionth(bert_folder: Path, build: Any) -> None:
    backbone = build("tokens", bert_folder).backbone
    states = backbone.forward([backbone.prepare(None, text) for text in TEXTS])["states"]
    for text, found in zip(TEXTS, states, strict=True):
        expected = library_states(bert_folder, text)
        np.testing.assert_allclose(found[: len(expected)], expected, atol=5e-6)


def test_the_mean_of_the_last_layers_equals_the_library(bert_folder: Path, build: Any, encode: Any) -> None:
    encoder = build("tokens", bert_folder, last_layers=2)
    found = encode(encoder, [(None, TEXTS[0])])[0]["states"]
    np.testing.assert_allclose(found, library_states(bert_folder, TEXTS[0], layers=2), atol=2e-3)
    with pytest.raises(ModelMismatch, match="has 2 layers, last_layers asks for 3"):
        build("tokens", bert_folder, last_layers=3)


def test_widths_come_from_the_model(bert_folder: Path, build: Any) -> None:
    fields = {field.name: field for field in build("tokens", bert_folder).fields}
    assert fields["states"].shape == (32,)
    assert {name: field.dtype for name, field in fields.items()} == {
        "states": "float16",
        "piece_ids": "int32",
        "spans": "int32",
    }
    assert all(field.is_ragged for field in fields.values())


def test_a_half_precision_checkpoint_is_computed_in_float32(tmp_path: Path, bert_folder: Path, build: Any) -> None:
    half = copy(bert_folder, tmp_path / "half", dtype="float16")
    rewrite(half, lambda tensors: {name: value.half() for name, value in tensors.items()})
    backbone = build("tokens", half).backbone
    assert {parameter.dtype for parameter in backbone.net.parameters()} == {torch.float32}
    assert backbone.forward([backbone.prepare(None, "sun")])["states"].dtype == np.float32


def test_a_checkpoint_without_pooler_is_whole(tmp_path: Path, bert_folder: Path, build: Any, encode: Any) -> None:
    bare = copy(bert_folder, tmp_path / "bare")
    rewrite(bare, lambda tensors: {name: value for name, value in tensors.items() if "pooler" not in name})
    found = encode(build("tokens", bare), [(None, "sun")])[0]["states"]
    np.testing.assert_array_equal(found, encode(build("tokens", bert_folder), [(None, "sun")])[0]["states"])


def test_missing_tensors_are_an_error_that_lists_them(tmp_path: Path, bert_folder: Path, build: Any) -> None:
    torn = copy(bert_folder, tmp_path / "torn")
    rewrite(torn, lambda tensors: {name: value for name, value in tensors.items() if "layer.1.output" not in name})
    with pytest.raises(ModelMismatch, match=r"4 tensors of AutoModel are missing: encoder\.layer\.1\.output"):
        build("tokens", torn)


def test_tensors_of_another_shape_are_an_error(tmp_path: Path, bert_folder: Path, build: Any) -> None:
    other = copy(bert_folder, tmp_path / "other", intermediate_size=48)
    with pytest.raises(ModelMismatch, match="cannot be loaded as AutoModel"):
        build("tokens", other)


def test_a_separator_written_by_the_author_stays_text(bert_folder: Path, build: Any) -> None:
    ids = build("tokens", bert_folder).backbone.prepare(None, "the [SEP] dog [CLS] [PAD]").ids.tolist()
    assert ids[0] == CLS
    assert ids[-1] == SEP
    assert not {0, CLS, SEP} & set(ids[1:-1])


def test_an_empty_text_has_the_special_pieces_only(bert_folder: Path, build: Any, encode: Any) -> None:
    assert encode(build("tokens", bert_folder), [(None, "")])[0]["piece_ids"].tolist() == [CLS, SEP]
    bare = encode(build("tokens", bert_folder, keep_special=False), [(None, ""), (None, "the sun")])
    assert bare[0]["states"].shape == (0, 32)
    assert bare[0]["spans"].shape == (0, 2)
    assert bare[1]["states"].shape == (2, 32)


def test_a_text_of_ten_thousand_words_is_cut_at_max_length(bert_folder: Path, build: Any, encode: Any) -> None:
    row = encode(build("tokens", bert_folder, max_length=20), [(None, "dog " * 10_000)])[0]
    assert row["states"].shape == (20, 32)
    assert row["piece_ids"][-1] == SEP


def test_nul_and_controls_in_a_text_do_no_harm(bert_folder: Path, build: Any) -> None:
    backbone = build("tokens", bert_folder).backbone
    assert backbone.prepare(None, "the\x00 dog").ids.tolist() == backbone.prepare(None, "the dog").ids.tolist()


def test_a_text_that_cannot_be_used_is_a_data_error(bert_folder: Path, build: Any) -> None:
    backbone = build("tokens", bert_folder).backbone
    with pytest.raises(DataError, match="no text"):
        backbone.prepare(None, None)
    with pytest.raises(DataError, match="cannot be tokenised"):
        backbone.prepare(None, "a lone surrogate \ud800")


def test_spans_point_into_the_cleaned_text(bert_folder: Path, build: Any, encode: Any) -> None:
    row = encode(build("tokens", bert_folder, clean="tweet"), [(None, "RT @bob: the DOGS http://t.co/x")])[0]
    cleaned = "@user: the DOGS http"
    pieces = [cleaned[first:last] for first, last in row["spans"]]
    assert pieces == ["", "@", "user", ":", "the", "DOG", "S", "http", ""]


def test_batch_mates_and_padding_change_nothing(bert_folder: Path, build: Any) -> None:
    backbone = build("tokens", bert_folder).backbone
    rows = [backbone.prepare(None, text) for text in TEXTS]
    together = backbone.forward(rows)["states"]
    for i, row in enumerate(rows):
        alone = backbone.forward([row])["states"][0]
        np.testing.assert_allclose(together[i, : len(row.ids)], alone[: len(row.ids)], atol=1e-5)


def test_texts_are_batched_by_length_rounded_up(bert_folder: Path, build: Any) -> None:
    backbone = build("tokens", bert_folder, max_length=19).backbone
    keys = [backbone.batch_key(backbone.prepare(None, "dog " * count)) for count in (0, 6, 7, 14, 100)]
    assert keys == [8, 8, 16, 16, 19]


def test_a_value_beyond_float16_fails_its_row_only(bert_folder: Path, build: Any) -> None:
    encoder = build("tokens", bert_folder)
    batch = [encoder.backbone.prepare(None, "sun") for _ in range(2)]
    states = np.zeros((2, 8, 32), dtype=np.float32)
    states[1, 0, 0] = 70_000
    good, bad = encoder.read({"states": states}, batch)
    assert good["states"].shape == (3, 32)
    assert isinstance(bad, DataError)
    assert "states is not finite" in str(bad)


def test_texts_are_tokenised_alike_from_many_threads(bert_folder: Path, build: Any) -> None:
    backbone = build("tokens", bert_folder).backbone
    texts = ["dog " * (i % 13) for i in range(200)]
    with ThreadPoolExecutor(4) as pool:
        lengths = [len(row.ids) for row in pool.map(lambda text: backbone.prepare(None, text), texts)]
    assert lengths == [i % 13 + 2 for i in range(200)]


def test_more_pieces_than_positions_are_refused(bert_folder: Path, roberta_folder: Path, build: Any) -> None:
    with pytest.raises(ModelMismatch, match="positions for 512 pieces, max_length asks for 513"):
        build("tokens", bert_folder, max_length=513)
    with pytest.raises(ModelMismatch, match="positions for 512 pieces"):  # 514 position embeddings, two of them its own
        build("teacher", roberta_folder, max_length=513)


def test_a_network_that_knows_no_pooler_option_loads(tmp_path: Path, bert_folder: Path, build: Any) -> None:
    from transformers import DistilBertConfig, DistilBertModel

    shutil.copytree(bert_folder, tmp_path / "distil", ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    config = DistilBertConfig(vocab_size=64, dim=24, n_layers=1, n_heads=2, hidden_dim=48)
    DistilBertModel(config).save_pretrained(tmp_path / "distil")
    assert build("tokens", tmp_path / "distil").fields[0].shape == (24,)


def test_a_folder_without_tokenizer_is_named(tmp_path: Path, bert_folder: Path, build: Any) -> None:
    shutil.copytree(bert_folder, tmp_path / "bare", ignore=shutil.ignore_patterns("*token*", "vocab*"))
    with pytest.raises(ModelMismatch, match=r"no tokenizer, expected tokenizer\.json"):
        build("tokens", tmp_path / "bare")


def test_a_tokenizer_of_another_model_is_named(tmp_path: Path, bert_folder: Path, build: Any) -> None:
    from sentifuse.extract.models.tiny import write_tiny

    (tmp_path / "tiny").mkdir()
    write_tiny("text", 0, tmp_path / "tiny")
    shutil.copytree(bert_folder, tmp_path / "mixed", ignore=shutil.ignore_patterns("*token*", "vocab*"))
    shutil.copy(tmp_path / "tiny" / "vocab.txt", tmp_path / "mixed")
    with pytest.raises(ModelMismatch, match="not of one model"):
        build("tokens", tmp_path / "mixed")


def test_a_torch_checkpoint_loads_and_one_with_code_is_never_run(
    tmp_path: Path, bert_folder: Path, build: Any, encode: Any
) -> None:
    plain = copy(bert_folder, tmp_path / "plain")
    torch.save(load_file(plain / "model.safetensors"), plain / "pytorch_model.bin")
    (plain / "model.safetensors").unlink()
    expected = encode(build("tokens", bert_folder), [(None, "sun")])[0]["states"]
    np.testing.assert_array_equal(encode(build("tokens", plain), [(None, "sun")])[0]["states"], expected)

    torch.save({"weight": Payload(tmp_path / "ran")}, plain / "pytorch_model.bin")
    with pytest.raises(ModelMismatch, match="cannot be loaded"):
        build("tokens", plain)
    assert not (tmp_path / "ran").exists()


class Payload:
    """Would create a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def test_loading_says_nothing_and_leaves_the_librarys_logging_as_it_was(
    bert_folder: Path, build: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    build("tokens", bert_folder)  # its pooler is not used, which transformers would report at length
    assert capfd.readouterr() == ("", "")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == (level, bars)


def test_code_that_comes_with_a_model_is_never_run(tmp_path: Path, bert_folder: Path, build: Any) -> None:
    odd = copy(bert_folder, tmp_path / "odd", auto_map={"AutoModel": "evil.Model", "AutoConfig": "evil.Config"})
    (odd / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')", encoding="utf-8")
    build("tokens", odd)  # a bert needs no code of its own
    copy(odd, tmp_path / "other", model_type="evil")
    with pytest.raises(ModelMismatch, match="cannot be loaded as AutoModel"):
        build("tokens", tmp_path / "other")
    assert not (tmp_path / "ran").exists()
