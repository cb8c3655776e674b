"""Seconds and memory of a step of every method, at the published models' sizes with random weights.

Each case is measured in a process of its own (speed_case.py) and becomes one JSON line: the median of three runs, the
most memory that tensors took and that the driver gave out, the operations counted and their rate. The first line is
the rate of a large bf16 matrix product on the same device. What fails is a line with "error"; rows that a file has are
not measured again.

    python benchmarks/speed.py --out speed.jsonl                      # everything, on one GPU
    python benchmarks/speed.py --out speed.jsonl --parts cpu          # the embedded models, on a CPU
    python benchmarks/speed.py --out speed.jsonl --tiny               # small models, to try this script out
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from speed_cases import PARTS

from editproof.editors import pick_device

CASE = Path(__file__).with_name("speed_case.py")
COLUMNS = ("model", "method", "batch", "side", "settings", "variant", "limit_gib")


def row_of(part: str, number: int, args: argparse.Namespace) -> dict[str, Any]:
    """What the case's process says, or why it said nothing."""
    command = [sys.executable, str(CASE), part, str(number), "--runs", str(args.runs), *args.more]
    described = PARTS[part][number].described() if part in PARTS else {"part": part}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=args.case_limit)
    except subprocess.TimeoutExpired:
        return described | {"error": f"no result within {args.case_limit:.0f} s"}
    last = done.stdout.strip().splitlines()[-1:] or [""]
    if done.returncode == 0 and last[0].startswith("{"):
        row = json.loads(last[0])
        if "error" in row:
            print(done.stderr[-3000:], file=sys.stderr, flush=True)
        return row
    print(done.stderr[-3000:], file=sys.stderr, flush=True)
    return described | {"error": f"ended with code {done.returncode}: {done.stderr.strip()[-300:]}"}


def key(row: dict[str, Any]) -> str:
    """What makes a row another one."""
    return json.dumps([row.get(column) for column in COLUMNS])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="a .jsonl file, which grows by each row")
    parser.add_argument("--parts", help=f"some of {','.join(PARTS)}; all but cpu on a GPU, cpu elsewhere")
    parser.add_argument("--runs", type=int, default=3, help="of each case; default %(default)s")
    parser.add_argument("--limit", type=float, default=1e9, help="seconds after which no case is begun")
    parser.add_argument("--case-limit", type=float, default=300, help="seconds that a case may take")
    parser.add_argument("--tiny", action="store_true", help="small models, to try this script out")
    args, args.more = parser.parse_known_args()  # further options are speed_case.py's
    args.more += ["--tiny"] * args.tiny
    device, started = pick_device(None), time.perf_counter()
    rows = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.is_file() else []
    there = {key(row) for row in rows if "error" not in row}
    every = [part for part in PARTS if (part == "cpu") == (device.type == "cpu" and not args.tiny)]
    with args.out.open("a") as file:

        def tell(row: dict[str, Any]) -> None:
            file.write(json.dumps(row) + "\n")
            file.flush()
            print(json.dumps(row), f"after {time.perf_counter() - started:.0f} s", flush=True)

        if not rows:
            tell(row_of("ceiling", 0, args))
        for part in args.parts.split(",") if args.parts else every:
            for number, case in enumerate(PARTS[part]):
                if key(case.described()) in there or (args.tiny and case.batch > 16):
                    continue
                if time.perf_counter() - started < args.limit:
                    tell(row_of(part, number, args))


if __name__ == "__main__":
    main()
