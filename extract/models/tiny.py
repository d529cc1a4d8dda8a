"""Seeded miniature networks: random numbers in real architectures, for demonstrations and tests without any download.

They know nothing about images or texts, but they keep words, colours and edges apart. Each is written as an ordinary
model folder (or weights file) and loaded by the same code as real ones. The numbers come from a generator of their own
and depend on seed and tensor name alone. Importing this file does not import torch.
"""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from string import ascii_lowercase, digits, punctuation
from typing import Any

from sentifuse.extract.models.words import COMMON_WORDS

__all__ = ["TINY", "TINY_VERSION", "tiny_config", "write_tiny"]

TINY_VERSION = 1  # raise it when anything below changes numbers: it stands for them in the fingerprint

# kind -> architecture
TINY: Mapping[str, str] = {
    "text": "bert",
    "image": "tiny_conv",
    "detector": "tiny_rcnn",
    "crowd": "vit",
    "teacher": "roberta",
    "clip": "clip",
}
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
CLASSES = {"0": "negative", "1": "neutral", "2": "positive"}


def tiny_config(kind: str) -> dict[str, Any]:
    """config.json of a tiny network; {} for one that is a weights file."""
    size: dict[str, Any] = {
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "hidden_size": 48,
        "intermediate_size": 96,
    }
    vision = {"image_size": 32, "patch_size": 8}
    labels = {"id2label": CLASSES, "label2id": {name: int(i) for i, name in CLASSES.items()}}
    if kind == "text":
        words = {"vocab_size": len(_word_pieces()), "max_position_embeddings": 512, "pad_token_id": 0}
        return {"model_type": "bert", "architectures": ["BertModel"], **size, **words}
    if kind == "teacher":
        words = {"vocab_size": len(_bytes()) + 5, "max_position_embeddings": 514}
        ids = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "type_vocab_size": 1}
        head = ["RobertaForSequenceClassification"]
        return {"model_type": "roberta", "architectures": head, **size, **words, **ids, **labels}
    if kind == "crowd":
        return {"model_type": "vit", "architectures": ["ViTForImageClassification"], **size, **vision, **labels}
    if kind == "clip":
        vocabulary = _clip_vocabulary()
        ids = {
            "bos_token_id": len(vocabulary) - 2,
            "eos_token_id": len(vocabulary) - 1,
            "pad_token_id": len(vocabulary) - 1,
        }
        text = {**size, "vocab_size": len(vocabulary), "max_position_embeddings": 77, **ids}
        parts = {"text_config": text, "vision_config": {**size, **vision}, "projection_dim": 24}
        return {"model_type": "clip", "architectures": ["CLIPModel"], **parts}
    return {}


def write_tiny(kind: str, seed: int, folder: Path) -> Path:
    """Write a tiny network into an empty folder; returns what to load: the folder, or the weights file in it."""
    if kind == "image":
        return _write_conv(seed, folder)
    if kind == "detector":
        return _write_rcnn(seed, folder)
    import torch
    import transformers

    from sentifuse.extract.backbones.loading import quiet_transformers

    (folder / "config.json").write_text(json.dumps(tiny_config(kind)), encoding="utf-8")
    config = transformers.AutoConfig.from_pretrained(folder)
    made = getattr(transformers, tiny_config(kind)["architectures"][0])
    with quiet_transformers(), torch.random.fork_rng(devices=[]):  # made() draws numbers that _fill replaces
        net = made(config)
        _fill(net, seed)
        net.save_pretrained(folder)
    for name, value in _companions(kind).items():
        text = value if isinstance(value, str) else json.dumps(value)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def _fill(net: Any, seed: int) -> None:
    """Random weights, one stream per tensor name: neither the global generator nor the order of tensors matters."""
    import numpy as np
    import torch

    with torch.no_grad():
        for name, tensor in net.named_parameters():
            stream = np.random.default_rng([seed, zlib.crc32(name.encode())])
            values = stream.standard_normal(tuple(tensor.shape)).astype(np.float32)
            if tensor.ndim < 2:
                values = np.full_like(values, 1.0 if name.endswith("weight") else 0.0)  # norms and biases
            elif "position" in name or "token_type" in name:
                values *= 0.2  # a word should look much the same wherever it stands
            elif "embedding" not in name or "patch" in name:
                if tensor.ndim == 4 and "stages" in name:  # TinyConv: most of its filters see edges only
                    edges = values[: len(values) * 3 // 4]
                    edges -= edges.mean(axis=(2, 3), keepdims=True)
                values /= np.sqrt(values[0].size)
            tensor.copy_(torch.from_numpy(values))


def _write_conv(seed: int, folder: Path) -> Path:
    import torch
    from safetensors.torch import save_file

    from sentifuse.extract.backbones.tiny_conv import TinyConv

    with torch.device("meta"):
        net = TinyConv()
    net.to_empty(device="cpu")
    _fill(net, seed)
    file = folder / "tiny_conv.safetensors"
    save_file(net.state_dict(), file)
    return file


def _write_rcnn(seed: int, folder: Path) -> Path:
    import torch
    from safetensors.torch import save_file

    from sentifuse.extract.backbones.tiny_rcnn import tiny_rcnn

    with torch.random.fork_rng(devices=[]):  # it draws numbers that _fill replaces
        net = tiny_rcnn()
    _fill(net, seed)
    file = folder / "tiny_rcnn.safetensors"
    save_file(net.state_dict(), file)
    return file


def _companions(kind: str) -> dict[str, Any]:
    """Tokenizer and image processor files; objects are written as JSON."""
    if kind == "text":
        config = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 512}
        return {"vocab.txt": "\n".join(_word_pieces()) + "\n", "tokenizer_config.json": config}
    if kind == "teacher":
        vocabulary = ["<s>", "<pad>", "</s>", "<unk>", *_bytes(), "<mask>"]
        config = {"tokenizer_class": "RobertaTokenizer", "model_max_length": 512}
        return {"vocab.json": _numbered(vocabulary), "merges.txt": "#version: 0.2\n", "tokenizer_config.json": config}
    square = {"height": 32, "width": 32}
    half = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 2}
    if kind == "crowd":
        return {"preprocessor_config.json": {"image_processor_type": "ViTImageProcessor", "size": square, **half}}
    image = {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 32}, "crop_size": square, **half}
    return {
        "vocab.json": _numbered(_clip_vocabulary()),
        "merges.txt": "#version: 0.2\n",
        "tokenizer_config.json": {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77},
        "preprocessor_config.json": image | {"resample": 3, "do_center_crop": True},
    }


def _word_pieces() -> tuple[str, ...]:
    """WordPiece entries: common words whole, everything else falls into pairs of letters and single signs."""
    pairs = [a + b for a in ascii_lowercase for b in ascii_lowercase]
    signs = [*ascii_lowercase, *digits, *punctuation, "…", "’", "“", "”", "–"]
    pieces = [*SPECIAL, *signs, *COMMON_WORDS, *pairs]
    pieces += [f"##{piece}" for piece in (*ascii_lowercase, *digits, *pairs)]
    return tuple(dict.fromkeys(pieces))


def _bytes() -> tuple[str, ...]:
    """The printable letters that byte-level tokenizers use for the 256 bytes."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in set(plain)]
    return tuple(map(chr, plain)) + tuple(chr(256 + i) for i in range(len(rest)))


def _clip_vocabulary() -> tuple[str, ...]:
    return (*_bytes(), *(f"{sign}</w>" for sign in _bytes()), "<|startoftext|>", "<|endoftext|>")


def _numbered(vocabulary: Any) -> dict[str, int]:
    return {piece: number for number, piece in enumerate(vocabulary)}
