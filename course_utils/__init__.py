"""The thin helper of the course From Shannon to Diffusion.

Each module has one job and is imported by name, so that importing the package costs nothing:

``datasets``  one call a data set                  ``training``  seeding, device, one `fit` loop
``plotting``  the course's figures, with alt text  ``reuse``     import what another lecture teaches
``explore``   a figure with knobs to turn          ``results``   trained weights and the table of results
``run``       `make full` and `make bench`         ``metrics``   distances between two samples
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent  # the checkout: notebooks/, data/, jupyter_book/
