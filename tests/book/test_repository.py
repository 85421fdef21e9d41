"""The buttons that lead to the repository."""

import pytest

from embedllm.book.repository import theme_options


@pytest.mark.parametrize(
    ("environment", "branch", "launched"),
    [
        ({"GITHUB_SERVER_URL": "https://github.com", "GITHUB_REF_NAME": ""}, "main", True),
        # A pull request: what it will be merged into has the files for good.
        (
            {"GITHUB_SERVER_URL": "https://github.com", "GITHUB_REF_NAME": "7/merge", "GITHUB_BASE_REF": "dev"},
            "dev",
            True,
        ),
        # Binder and Colab know no other host.
        ({"GITHUB_SERVER_URL": "https://git.example.org", "GITHUB_REF_NAME": "dev"}, "dev", False),
    ],
)
def test_branch_and_launch_buttons(environment, branch, launched):
    options = theme_options({"GITHUB_REPOSITORY": "someone/book", **environment})
    assert options["repository_branch"] == branch
    assert ("launch_buttons" in options) == launched
