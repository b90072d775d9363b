"""Writes tests/vectors/cids.json: CIDs that another implementation gave for known bytes.

The CIDs below come from `ipfs-unixfs-importer` 17.1.1 (and, where version 0, Kubo 0.22), not from
this repository; the tests compare our importer with them. Changing one is a protocol change.

    python scripts/vectors.py
"""

import json
from pathlib import Path
from typing import Final

TARGET: Final = Path(__file__).parents[1] / "tests" / "vectors" / "cids.json"
MIB: Final = 1 << 20
GIB: Final = 1 << 30

# data, bytes, {chunk/width: CID}. `S`: successive random.Random(1).randbytes(1 << 20);
# `P`: byte i is (7 * i + 3) & 255; `Z`: zeros. `v0`: 256 KiB chunks, width 174, wrapped leaves.
FILES: Final[tuple[tuple[str, int, dict[str, str]], ...]] = (
    (
        "S",
        100_000,
        {
            "1048576/1024": "bafkreidhnus4t4buv7qc4dtnh3aevpxhqw4p5llfyj2wpsdoededjvzcae",
            "262144/174": "bafkreidhnus4t4buv7qc4dtnh3aevpxhqw4p5llfyj2wpsdoededjvzcae",
            "v0": "QmQ3qK5DHp9ZejBwtX18h38FVujPyWS6HvP8Md2jWBVWez",
        },
    ),
    (
        "S",
        45_613_061,
        {
            "1048576/1024": "bafybeidhwvalnure6oiymx5auydpueikvveez6pbowbo6sjrbhdaw3ywmi",
            "262144/174": "bafybeiei7spmvvvbb3vhrosam5ygmlifhugiecwbwzrmdxl5v6dp4slkpm",
            "262144/1024": "bafybeifpxrwbdz3hhbztwkt7w2sxfxsnkl5d3pmummzegw43ka22r2arne",
            "v0": "Qmbo4V99q6gqq9uX1NYHzoch6JssQkMwpx45KRgomsQzbp",
        },
    ),
    (
        "S",
        64 * MIB,
        {
            "1048576/1024": "bafybeidzxwuh2d3irrneod23arxs4aq7uicrzrv7gjogbjnhvjp7ci665i",
            "262144/174": "bafybeieqoldcbvnu2p5yr2q7fqjjj4c3jpywq5drdivvnkxakhxop6jn7a",
            "262144/1024": "bafybeialdglmxue23wjq7gnwqsv3j3q776znu7jftu5z2bqkwiyxbizhw4",
            "v0": "QmUA2UpDS5EeobsZ7FRTDUoScpRe6b92GHFoK5XusvV2Zf",
        },
    ),
    (
        "S",
        GIB,
        {
            "1048576/1024": "bafybeigfk4cvgvkjsljmfgfsoxnbzkr3qqz57mdolphj5djmlbdccwhl24",
            "262144/174": "bafybeigt74odh3eqhjcsrzxdwleug734qw3mtnd2dxaiys725e66vxerre",
            "1048576/174": "bafybeibmmjcw5ho6xh6fq6m7frqxbowv57hq47m2vut3suvuvmh5vqzcru",
            "v0": "QmWkccqbtjNDkHeJegb5UHJpe7n1p2ZzPnZxN7zBXFFWHy",
        },
    ),
    ("Z", GIB, {"1048576/1024": "bafybeibqawkaltgjfdebq4no6nmfcvkcw7k52xqzclkwfmrkn6oxw7srmy"}),
    ("Z", GIB + 1, {"1048576/1024": "bafybeigx4uyebjbq65346xh6cjrt6yshbdudzudhnqecwbzvymslxj7gje"}),
    ("P", 0, {"1048576/1024": "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"}),
    ("P", MIB, {"1048576/1024": "bafkreiaxfqk5ylqswuhfepmomv6l4753chaqkmssxpy6cqyqo7kx3aji7u"}),
    (
        "P",
        MIB + 1,
        {
            "1048576/1024": "bafybeicsw4dit4covu4md7ykz2ohij3m4mnnmyroadlfiz76yfy3rbjmse",
            "1024/1024": "bafybeicposzvx7gjn4l52n6dxywy2vv6lsssjp4qisunftentuyy6ohlbu",
        },
    ),
    ("P", 2 * MIB, {"1048576/1024": "bafybeia6hzv4cwawmr2w6ug3w7d7z7xdtfr6qu4o5g3ajyw2eavlqnfocm"}),
)
SWEEP: Final = {
    "chunk": 16,
    "width": 3,
    "last": 400,
    "sha256": "1f9994987991d6db63a5b2ff2d3f78388e5b8a54eac93d49e80be586dff4c3fd",
}
DIRECTORY: Final = "bafybeifaqhecboezavdz53ixm7haehfuxo2u72d35ea4a5a4wnirqhn4fa"


def document() -> dict[str, object]:
    """Return the content of cids.json."""
    files = []
    for data, size, roots in FILES:
        for settings, root in roots.items():
            wrapped = settings == "v0"
            chunk, width = map(int, ("262144/174" if wrapped else settings).split("/"))
            files.append(
                {
                    "data": data,
                    "bytes": size,
                    "chunk": chunk,
                    "width": width,
                    "wrapped": wrapped,
                    "root": root,
                }
            )
    return {
        "source": "ipfs-unixfs-importer 17.1.1; the v0 ones also Kubo 0.22",
        "files": files,
        "sweep": SWEEP,
        "directory": DIRECTORY,
    }


def main() -> None:
    """Write the file."""
    TARGET.write_text(json.dumps(document(), indent=1) + "\n")
    print(f"{TARGET.name}: {len(FILES)} files")


if __name__ == "__main__":
    main()
