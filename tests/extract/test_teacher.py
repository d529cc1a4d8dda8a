"""teacher: a softmax of the model's own logits, whatever its config says, over at most as many pieces as it takes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

TEXTS = ["the dog is happy", "@bob see http://t.co/x now", "", "café 😀 " * 20]


@torch.inference_mode()
def library_logits(folder: Path, text: str) -> torch.Tensor:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    net = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    return net(**AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")).logits[0]


def test_probabilities_equal_the_library_one_text_at_a_time(roberta_folder: Path, build: Any, encode: Any) -> None:
    rows = encode(build("teacher", roberta_folder, clean="raw"), [(None, text) for text in TEXTS])
    for text, row in zip(TEXTS, rows, strict=True):
        expected = library_logits(roberta_folder, text).softmax(dim=0).numpy()
        assert row["probabilities"].dtype == np.float32
        np.testing.assert_allclose(row["probabilities"], expected, atol=1e-6)


def test_a_multi_label_config_still_gives_shares_that_sum_to_one(roberta_folder: Path, build: Any, encode: Any) -> None:
    from transformers import AutoConfig

    assert AutoConfig.from_pretrained(roberta_folder).problem_type == "multi_label_classification"
    share = encode(build("teacher", roberta_folder, clean="raw"), [(None, TEXTS[0])])[0]["probabilities"]
    assert share.sum() == pytest.approx(1, abs=1e-6)
    sigmoid = library_logits(roberta_folder, TEXTS[0]).sigmoid()
    assert abs(float(sigmoid.sum()) - 1) > 0.1  # what a ready-made pipeline would give


def test_names_and_links_are_hidden_as_in_training(roberta_folder: Path, build: Any) -> None:
    backbone = build("teacher", roberta_folder).backbone
    hidden = backbone.prepare(None, "@bob see http://t.co/x now").ids
    assert hidden.tolist() == backbone.prepare(None, "@user see http now").ids.tolist()


def test_a_long_text_is_cut_at_512_pieces(roberta_folder: Path, build: Any, encode: Any) -> None:
    encoder = build("teacher", roberta_folder)
    text = "word " * 10_000
    assert len(encoder.backbone.prepare(None, text).ids) == 512
    assert np.isfinite(encode(encoder, [(None, text)])[0]["probabilities"]).all()
