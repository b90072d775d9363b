"""`python scripts/build_decoder.py OUT_DIR`: the own encoder over bytes, where MiniLM is missing.

Only calls the recipe; writes model.onnx and tokenizer.json.
"""

import sys
from pathlib import Path

from prsm.node.worker.recipes import decoder

if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python scripts/build_decoder.py OUT_DIR")
    print(*decoder.write(Path(sys.argv[1])), sep="\n")
