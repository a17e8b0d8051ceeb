"""Every family against every contract of the design, on tiny models of native layout.

python -m bench.families [--json FILE] [--quick]
"""

import argparse
import importlib
import os
import sys
from pathlib import Path

import torch

from devtools.environment import find_host, read_version
from devtools.inprocess import enter_host, load_pack

from .form import ROOT, Row, make_result, publish, show_progress


def measure_families(host: str | None, quick: bool) -> list[Row]:
    """One row per tiny model: which contracts hold, how many blocks shared, how many forwards a step took.

    A family that the host lacks has no figures and a reason. Call it in a host that runs.
    """
    from tests.family_cases import CASES, HostLacksFamilyError, model_of
    from tests.family_contracts import CONTRACTS, count_run

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


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="every family against every contract, on tiny models")
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--quick", action="store_true", help="one family and two contracts, to see that it runs")
    options = parser.parse_args()
    host = find_host()
    enter_host(host)
    load_pack()
    # Hosts have a package of that name too.
    importlib.import_module("tests").__path__.append(str(ROOT / "tests"))
    torch.set_num_threads(1)
    os.environ.setdefault("TQDM_DISABLE", "1")
    rows = measure_families(read_version(host), options.quick)
    publish(make_result("families", 1, rows, host), options.json)
    if not all(row["passed"] in (True, None) for row in rows):
        raise SystemExit("some contracts do not hold")


if __name__ == "__main__":
    main()
