from sentifuse.extract.detector.checkpoints.comparison import SHOWN, differences

EXPECTED = {"a": (3, 2), "b": (4,), "c": (1, 3, 2, 2)}


def test_equal_shapes_differ_in_nothing() -> None:
    assert differences(dict(EXPECTED), EXPECTED) == ""


def test_optional_names_may_be_missing_but_not_of_another_shape() -> None:
    assert differences({"a": (3, 2), "c": (1, 3, 2, 2)}, EXPECTED, optional={"b"}) == ""
    assert differences({**EXPECTED, "b": (5,)}, EXPECTED, optional={"b"}) == (
        "1 tensor of another shape: b (5,) instead of (4,)"
    )


def test_every_kind_of_difference_is_named_in_one_sentence() -> None:
    text = differences({"a": (2, 3), "c": (2, 2, 3, 1), "x": (), "y": ()}, EXPECTED)
    assert text == (
        "1 tensor missing: b; 2 tensors unexpected: x, y; 2 tensors of another shape: a (2, 3) instead of (3, 2): "
        "transposed?, c (2, 2, 3, 1) instead of (1, 3, 2, 2): axes in another order?"
    )


def test_long_lists_say_how_many_more_there_are() -> None:
    many = {f"n{i:02}": (1,) for i in range(SHOWN + 5)}
    text = differences({"a": (1,)}, {**many, "a": (1,)})
    assert text.endswith(f"n{SHOWN - 1} and 5 more")


def test_nothing_in_common_is_said_so() -> None:
    assert differences({"z": (1,)}, EXPECTED) == "none of the 3 tensors expected; it has z"
    assert differences({}, EXPECTED) == "none of the 3 tensors expected; it is empty"


def test_names_out_of_a_damaged_file_cannot_spoil_the_message() -> None:
    text = differences({**EXPECTED, "b\nx": (), "y" * 10_000: ()}, EXPECTED)
    assert "\n" not in text
    assert len(text) < 200
