"""history.csv as columns and curves: every number kept, every damage named by its line."""

import pytest

from sentifuse import DataError
from sentifuse.fuse.report.history import draw_history, panels_of, read_history
from sentifuse.fuse.run import HISTORY_FILE, RunDirectory

HISTORY = {
    "epoch": [1.0, 2.0, 3.0],
    "train_loss": [0.9, 0.7, 0.6],
    "val_accuracy": [0.5, 0.6, 0.55],
    "val_loss": [0.8, 0.75, 0.9],
    "seconds": [1.0, 1.0, 1.0],
    "val_gate": [0.5, None, 0.4],
    "is_best": [1.0, 1.0, 0.0],
}


def write(run: RunDirectory, content: bytes) -> None:
    (run.path / HISTORY_FILE).write_bytes(content)


def test_the_columns_are_those_of_the_file(own_run: RunDirectory) -> None:
    write(own_run, b"epoch,val_loss,meta_loss,is_best\n1,0.25,,True\n2,1e-3,7,False\n")
    assert read_history(own_run) == {
        "epoch": [1.0, 2.0],
        "val_loss": [0.25, 0.001],
        "meta_loss": [None, 7.0],
        "is_best": [1.0, 0.0],
    }


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "found 0 lines"),
        (b"epoch,val_loss\n", "found 1 lines"),
        (b"loss\n1\n", "expected a heading with `epoch`"),
        (b"epoch,val_loss\n1\n2,3\n", "line 2: expected 2 cells, found 1"),
        (b"epoch,val_loss\n1,0.5\n2,0.\xff\n", "expected a table of numbers"),
        (b"epoch,val_loss\n1,0.5\n", "expected 2 rows as run.json says, found 1"),
        (b"epoch,val_loss\n1,0.5\n2,half\n", "line 3, val_loss: expected a number, found 'half'"),
    ],
)
def test_a_torn_history_is_refused_by_its_line(own_run: RunDirectory, content: bytes, what: str) -> None:
    write(own_run, content)
    with pytest.raises(DataError, match=what) as error:
        read_history(own_run)
    assert "history.csv" in str(error.value)
    assert "sentifuse train" in str(error.value)


def test_losses_share_a_panel_and_other_columns_have_their_own() -> None:
    assert panels_of(HISTORY) == {
        "loss": ("train_loss", "val_loss"),
        "accuracy on validation": ("val_accuracy",),
        "val gate": ("val_gate",),
    }


def test_the_curves_are_the_numbers_and_the_chosen_epoch_is_marked() -> None:
    figure = draw_history(HISTORY, best_epoch=2)
    assert figure is not None
    loss, accuracy, gate = figure.axes[:3]
    train, val, best = loss.lines
    assert list(train.get_ydata()) == [0.9, 0.7, 0.6]
    assert list(val.get_ydata()) == [0.8, 0.75, 0.9]
    assert list(best.get_xdata()) == [2.0, 2.0]
    assert list(accuracy.lines[0].get_xdata()) == [1.0, 2.0, 3.0]
    assert list(gate.lines[0].get_xdata()) == [1.0, 3.0]  # an empty cell is no point


def test_a_closed_fit_is_drawn_by_its_penalty() -> None:
    figure = draw_history({"epoch": [1.0, 2.0], "c": [0.01, 1.0], "val_loss": [0.9, 0.8]}, best_epoch=2)
    assert figure is not None
    axes = figure.axes[0]
    assert list(axes.lines[0].get_xdata()) == [0.01, 1.0]
    assert axes.get_xscale() == "log"
    assert axes.get_xlabel() == "C, the inverse penalty"


def test_one_row_is_no_curve() -> None:
    assert draw_history({"epoch": [1.0], "val_loss": [0.5]}, best_epoch=1) is None
