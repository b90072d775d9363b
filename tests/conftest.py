"""What every test stands on: hypothesis draws the same examples each time, without a clock.

`--hypothesis-profile=explore` draws new ones, ten times as many.
"""

from hypothesis import settings

settings.register_profile("gate", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=1000, print_blob=True)
settings.load_profile("gate")
