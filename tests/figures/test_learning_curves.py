"""Learning curves are those of the run's log."""

from helpers.figures import saved

from sigmoid_vit.figures.learning_curves import draw_learning_curves

HISTORY = [{"epoch": 1, "loss": 2.0, "accuracy": 0.25}, {"epoch": 2, "loss": 1.0, "accuracy": 0.5}]


def test_curves_are_those_of_the_log():
    loss, accuracy = draw_learning_curves(HISTORY, kept=2).axes
    assert loss.lines[0].get_xydata().tolist() == [[1, 2], [2, 1]]
    assert loss.lines[1].get_xdata() == [2, 2]
    assert len(loss.lines) == 2  # no validation, no curve of it
    assert accuracy.get_ylim() == (0, 1)
    with_val = [line | {"val_loss": 3.0, "val_accuracy": 0.1} for line in HISTORY]
    accuracy = draw_learning_curves(with_val).axes[1]
    assert accuracy.lines[1].get_xydata().tolist() == [[1, 0.1], [2, 0.1]]


def test_a_single_epoch_has_a_whole_number(tmp_path):
    figure = draw_learning_curves(HISTORY[:1], kept=1)
    for axes in figure.axes:
        ticks = [tick for tick in axes.get_xticks() if 0.5 <= tick <= 1.5]
        assert axes.get_xlim() == (0.5, 1.5)
        assert ticks == [1]
    saved(figure, tmp_path)
