"""`make bench`: run every benchmark beside this file, or the one named; each writes `out/bench/NAME.json`."""

import importlib
import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
OUT = Path("out/bench")


def main() -> int:
    names = sorted(path.stem for path in HERE.glob("*.py") if not path.stem.startswith("_"))
    if unknown := [name for name in sys.argv[1:] if name not in names]:
        print(f"✗ There is no benchmark {unknown[0]}: choose from {', '.join(names)}.", file=sys.stderr)
        return 3
    OUT.mkdir(parents=True, exist_ok=True)  # some work beside it
    for name in sys.argv[1:] or names:
        print(f"▶ {name}", flush=True)
        rows = importlib.import_module(f"tests.bench.{name}").run()
        (OUT / f"{name}.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
        for row in rows:
            said = f"{row['ours']:.3g} {row['unit']} against {row['other']:.3g} ({row['other_is']})"
            print(f"  {row['metric']}: {said}, ratio {row['ratio']:.3g}, {row['runs']} runs", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
