"""`python -m models.digits FOLDER MEMBER...`: writes each member's folder of scans, and who holds what."""

from __future__ import annotations

import argparse
from pathlib import Path

from models.digits import partition


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m models.digits", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("member", nargs="+")
    arguments = parser.parse_args()
    for member, shard in partition.write(arguments.folder, arguments.member).items():
        (shard.path / "count").write_text(f"{shard.examples}\n")
        print(f"{member}: {shard.examples} scans of the digits {' '.join(map(str, shard.classes))}, in {shard.path}")


if __name__ == "__main__":
    main()
