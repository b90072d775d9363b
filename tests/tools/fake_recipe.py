"""A recipe's program as the command line sees it, without any training: says a line, answers."""

import json
import sys

if __name__ == "__main__":
    sys.stderr.write("working\n")
    if sys.argv[1] == "minilm":
        fault = {"reason": "unsupported", "what": "no weights", "hint": "install them"}
        sys.stdout.write(json.dumps({"error": fault}))
        sys.exit(1)
    if sys.argv[1] == "digits":
        sys.exit(9)  # died without a word
    made = {"model": "/m.onnx", "tokenizer": "/t.json", "licence": "MIT", "words": sys.argv[1:]}
    sys.stdout.write(json.dumps(made))
