"""What a lent GPU machine needs beside the code, in one folder that stays small: packs, teachers, wheels.

    python training/carry.py --packs PACKS --weights WEIGHTS --out .gpu --wheels diffusers==0.42.1 importlib_metadata

The scenes' and portraits' JPEGs are written anew at --quality, which takes a third off. Prints what everything weighs.
"""

import argparse
import io
import subprocess
import sys
import tarfile
from pathlib import Path

from common import log
from PIL import Image


def smaller(source: Path, target: Path, quality: int) -> None:
    """Copy a tar; pictures that are JPEGs are encoded anew, all else is kept."""
    with tarfile.open(source) as old, tarfile.open(target, "w") as new:
        for member in old:
            file = old.extractfile(member)
            if file is None:
                continue
            data = file.read()
            if member.name.lower().endswith((".jpg", ".jpeg")):
                buffer = io.BytesIO()
                Image.open(io.BytesIO(data)).save(buffer, "JPEG", quality=quality, subsampling=0)
                data = min(data, buffer.getvalue(), key=len)
            entry = tarfile.TarInfo(member.name)
            entry.size = len(data)
            new.addfile(entry, io.BytesIO(data))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packs", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--quality", type=int, default=85)
    parser.add_argument("--wheels", nargs="*", default=[], help="packages that the machine lacks, for its Python 3.12")
    args = parser.parse_args()
    for folder in ("packs", "weights", "wheels"):
        (args.out / folder).mkdir(parents=True, exist_ok=True)
    for pack in sorted(args.packs.glob("*.tar")):
        smaller(pack, args.out / "packs" / pack.name, args.quality)
    for file in sorted(args.weights.glob("*.safetensors")):
        (args.out / "weights" / file.name).write_bytes(file.read_bytes())
    if args.wheels:
        asked = ["--no-deps", "--only-binary=:all:", "--python-version", "3.12", "--implementation", "cp"]
        command = [sys.executable, "-m", "pip", "download", "-q", *asked, "-d", str(args.out / "wheels")]
        subprocess.run([*command, *args.wheels], check=True)
    for folder in ("packs", "weights", "wheels"):
        files = [path for path in (args.out / folder).iterdir() if path.is_file()]
        log(carried=folder, files=len(files), mib=sum(path.stat().st_size for path in files) / 2**20)


if __name__ == "__main__":
    main()
