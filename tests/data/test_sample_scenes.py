"""Scenes: the sentiment lies in the things, is seen from local colours and shapes, and nowhere else."""

import numpy as np
import pytest

from sentifuse.data.dice import Dice
from sentifuse.data.sample_scenes import GROUND_THINGS, PROPS, SIDE_PX, SKY_THINGS, draw_scene
from sentifuse.data.source import SENTIMENT


def test_scene_follows_from_its_dice() -> None:
    one, other = draw_scene("positive", Dice("a")), draw_scene("positive", Dice("a"))
    assert one.image.tobytes() == other.image.tobytes()
    assert one.props == other.props
    assert one.image.tobytes() != draw_scene("positive", Dice("b")).image.tobytes()


def test_every_scene_has_props_whatever_its_sentiment() -> None:
    for sentiment in SENTIMENT:
        names = [name for number in range(40) for _, name in draw_scene(sentiment, Dice(f"{number}")).props]
        assert set(names) == set(PROPS)


def test_no_drawing_serves_two_sentiments() -> None:
    drawings = [drawing for name in SENTIMENT for drawing in set(SKY_THINGS[name]) | set(GROUND_THINGS[name])]
    assert len(drawings) == len(set(drawings))


def share(image: np.ndarray, kind: str) -> float:
    red, green, blue = (image[..., channel].astype(int) for channel in range(3))
    chosen = (np.maximum(red, green) - blue > 120) | (red - green > 110) if kind == "vivid" else image.max(-1) < 85
    return float(chosen.mean())


@pytest.mark.parametrize("number", range(10))
def test_cues_are_there_and_only_where_they_belong(number: int) -> None:
    shares = {
        name: {
            kind: share(np.asarray(draw_scene(name, Dice(f"cue{number}")).image), kind) for kind in ("vivid", "dark")
        }
        for name in SENTIMENT
    }
    assert shares["positive"]["vivid"] > 0.03 > 0.02 > max(shares["neutral"]["vivid"], shares["negative"]["vivid"])
    assert shares["negative"]["dark"] > 0.02 > 0.012 > max(shares["neutral"]["dark"], shares["positive"]["dark"])


@pytest.mark.slow
def test_a_small_random_network_can_read_the_sentiment_and_mean_colour_cannot() -> None:
    from sklearn.linear_model import LogisticRegression

    labels = [SENTIMENT[number % 3] for number in range(300)]
    images = [np.asarray(draw_scene(name, Dice(f"net{i}")).image, float) / 127.5 - 1 for i, name in enumerate(labels)]
    filters = np.random.default_rng(0).normal(size=(5 * 5 * 3, 24)) / 75**0.5

    def read(image: np.ndarray) -> np.ndarray:
        windows = np.lib.stride_tricks.sliding_window_view(image, (5, 5), (0, 1))[::4, ::4]
        return np.maximum(windows.reshape(*windows.shape[:2], -1) @ filters - 0.5, 0).mean((0, 1))

    def accuracy(features: np.ndarray) -> float:
        features = (features - features.mean(0)) / (features.std(0) + 1e-9)
        model = LogisticRegression(max_iter=5000).fit(features[:200], labels[:200])
        return float(model.score(features[200:], labels[200:]))

    assert accuracy(np.stack([read(image) for image in images])) >= 0.9
    assert accuracy(np.stack([image.mean((0, 1)) for image in images])) <= 0.9
    assert images[0].shape == (SIDE_PX, SIDE_PX, 3)
