"""What a figure is called beside others."""

from embedllm.book.gallery import Drawn, caption


def drawn(title, written):
    return Drawn(
        "notebooks/trees", f"trees-{written}", title, f"{title} Axes: {written}.", "woods.plot_heights", "403", ""
    )


def test_title_alone_if_no_other_has_it():
    heights, widths = drawn("Height of each tree.", "tree; cm"), drawn("Width of each tree.", "tree; cm")
    assert caption(heights, [heights, widths]) == "Height of each tree."


def test_what_tells_it_from_others_of_the_same_title():
    figures = [drawn("Height of each tree.", axes) for axes in ("oak; cm", "pine; cm", "pine; inches")]
    assert [caption(each, figures) for each in figures] == [
        "Height of each tree: oak.",
        "Height of each tree.",  # nothing that is not on one of the others
        "Height of each tree: inches.",
    ]
