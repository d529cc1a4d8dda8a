"""Settings as nested dicts with attributes."""

import copy
import json
from pathlib import Path
from typing import Any

DEFAULTS: dict[str, Any] = {
    "INPUT": {"MIN_SIZE_TEST": 800, "MAX_SIZE_TEST": 1333, "FORMAT": "BGR"},
    "MODEL": {
        "META_ARCHITECTURE": "GeneralizedRCNN",
        "WEIGHTS": "somewhere",
        "DEVICE": "cuda",
        "PIXEL_MEAN": [103.53, 116.28, 123.675],
        "PIXEL_STD": [1.0, 1.0, 1.0],
        "BACKBONE": {"NAME": "build_plain_backbone"},
        "RESNETS": {"STEM_OUT_CHANNELS": 64, "WIDTH_PER_GROUP": 64, "RES2_OUT_CHANNELS": 256, "NORM": "FrozenBN"},
        "PROPOSAL_GENERATOR": {"NAME": "RPN"},
        "ANCHOR_GENERATOR": {"SIZES": [[32, 64, 128]], "ASPECT_RATIOS": [[0.5, 1.0, 2.0]], "OFFSET": 0.0},
        "RPN": {"CONV_DIMS": [-1], "PRE_NMS_TOPK_TEST": 6000, "POST_NMS_TOPK_TEST": 1000, "NMS_THRESH": 0.7},
        "ROI_HEADS": {"NAME": "Res5ROIHeads", "NUM_CLASSES": 80},
        "ROI_BOX_HEAD": {
            "POOLER_TYPE": "ROIAlignV2",
            "POOLER_RESOLUTION": 7,
            "BBOX_REG_WEIGHTS": [10.0, 10.0, 5.0, 5.0],
        },
    },
}


class CfgNode(dict[str, Any]):
    def __init__(self, values: dict[str, Any]) -> None:
        super().__init__({key: CfgNode(value) if isinstance(value, dict) else value for key, value in values.items()})

    def __getattr__(self, name: str) -> Any:
        if name not in self:
            raise AttributeError(name)
        return self[name]

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def merge_from_file(self, file: str, allow_unsafe: bool = True) -> None:
        assert not allow_unsafe  # a configuration may not run code
        self._merge(json.loads(Path(file).read_text(encoding="utf-8")))

    def _merge(self, values: dict[str, Any]) -> None:
        for key, value in values.items():
            if key not in self:
                raise KeyError(f"Non-existent config key: {key}")
            if isinstance(value, dict):
                self[key]._merge(value)
            else:
                self[key] = value


def get_cfg() -> CfgNode:
    return CfgNode(copy.deepcopy(DEFAULTS))
