"""ArviZ, imported without its notice: once a day, 0.23 warns on import of a coming rewrite, and has no switch for it.

``from course_utils.quiet import arviz``. All other warnings pass.
"""

import warnings

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message=r"\s*ArviZ is undergoing a major refactor", category=FutureWarning)
    import arviz

__all__ = ["arviz"]
