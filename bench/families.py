"""Every family against every contract of the design, on tiny models of native layout.

python -m bench.families [--json FILE] [--quick]
python -m bench.families --table     # the table of docs/compatibility.md, from the committed results
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from devtools.environment import read_version

from .form import ROOT, Row, make_result, publish, show_progress
from .host_process import start_host

RESULTS = ROOT / "bench" / "results"


def measure_families(host: str | None, quick: bool) -> list[Row]:
    """One row per tiny model: which contracts hold, how many blocks shared, how many forwards a step took,
    those that look for the subject aside.

    A family that the host lacks has no figures and a reason. Call it in a host that runs.
    """
    from tests.support.family_cases import CASES, HostLacksFamilyError, model_of
    from tests.support.family_contracts import CONTRACTS, count_run

    cases = list(CASES.values())[: 1 if quick else None]
    contracts = dict(list(CONTRACTS.items())[: 2 if quick else None])
    rows: list[Row] = []
    for number, case in enumerate(cases):
        row: dict[str, object] = {"family": case.family, "layout": case.name, "host": host}
        try:
            model_of(case.name)
        except HostLacksFamilyError as reason:
            figures = dict.fromkeys(("contracts", "passed", "blocks_shared", "forwards")) | {"reason": str(reason)}
        else:
            held = {name: _holds(contract, case) for name, contract in contracts.items()}
            blocks, forwards = count_run(case)
            figures = {
                "contracts": held,
                "passed": all(held.values()),
                "blocks_shared": blocks,
                "forwards": forwards,
                "reason": None,
            }
        rows.append({**row, **figures})  # pyright: ignore[reportArgumentType]
        show_progress(number + 1, len(cases), "layouts")
    return rows


def _holds(contract: object, case: object) -> bool:
    try:
        contract(case)  # type: ignore[operator]
    except Exception as reason:
        print(f"\n{contract.__name__}: {type(reason).__name__}: {reason}", file=sys.stderr)  # type: ignore[attr-defined]
        return False
    return True


def support_table(results: Sequence[Path]) -> str:
    """The table of docs/compatibility.md: a line per layout, a column per results file, which are of one host each."""
    hosts: dict[str, dict[str, Row]] = {}
    families: dict[str, str] = {}
    for file in results:
        rows = json.loads(file.read_text(encoding="utf-8"))["rows"]
        hosts[f"ComfyUI {rows[0]['host']}"] = {row["layout"]: row for row in rows}
        families |= {row["layout"]: row["family"] for row in rows}
    lines = [f"| layout | family | {' | '.join(hosts)} |", "|---" * (len(hosts) + 2) + "|"]
    for layout, family in families.items():
        cells = (_verdict(rows.get(layout)) for rows in hosts.values())
        lines.append(f"| {layout} | {family} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _verdict(row: Row | None) -> str:
    contracts = row and row["contracts"]
    if row is None or not isinstance(contracts, Mapping):
        return "host lacks it"
    return f"{sum(contracts.values())} of {len(contracts)} contracts"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="every family against every contract, on tiny models")
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--quick", action="store_true", help="one family and two contracts, to see that it runs")
    parser.add_argument(
        "--table", action="store_true", help="print the table of the docs from the committed results instead"
    )
    options = parser.parse_args()
    if options.table:
        print(support_table(sorted(RESULTS.glob("families-*.json"))))
        return
    host = start_host()
    rows = measure_families(read_version(host), options.quick)
    publish(make_result("families", 1, rows, host), options.json)
    if not all(row["passed"] in (True, None) for row in rows):
        raise SystemExit("some contracts do not hold")


if __name__ == "__main__":
    main()
