"""JSON of another hand: what reading it raises.

Pure. Must not know what any document means.
"""

from typing import Final

import msgspec

# `msgspec.json.decode` says of most bad bytes that it cannot decode them; text that is no UTF-8
# and brackets without end, also in a field that nobody wants, it leaves to Python's own errors.
UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
