"""Property tests try the same examples on every run: a failure means a change of ours, and comes again."""

from hypothesis import settings

settings.register_profile("course", derandomize=True, deadline=None)
settings.load_profile("course")
