"""Property tests try the same examples on every run: a failure means a change of ours, and comes again."""

import pytest
from hypothesis import settings

settings.register_profile("course", derandomize=True, deadline=None)
settings.load_profile("course")

SLOWEST = ("test_site", "test_assignments", "test_sandbox", "test_jupyterlab")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the slowest files, so that two workers end at about the same time."""
    place = {name: k for k, name in enumerate(SLOWEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))
