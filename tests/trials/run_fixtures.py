"""Runs tiny Human3.6M, HumanEva-I and MPI-INF-3DHP, made up in their published formats, from raw files to the table.

`make fixtures` calls it. It prints what `poselift report` writes; the numbers mean nothing, the path is the real one.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import yaml

from pipeline.config.rows import parse_row
from pipeline.report.stage import report
from tests.fixtures import human36m, humaneva, mpi_inf_3dhp
from tests.fixtures.four_stages import four_stages, write_params

# Row -> how its raw files are written. The same dataset comes in several formats.
ROWS: dict[str, Callable[[Path], None]] = {
    "h36m-gt-f9-poseformer": human36m.write_cdf,
    "h36m-cpn_ft_h36m_dbb-f9-hmsft": human36m.write_archives,
    "h36m-cpn_ft_h36m_dbb-f9-rayformer": human36m.write_archives,
    "h36m-sh_pt_mpii-f9-rayformer": human36m.write_h5,
    "humaneva-gt-f9-poseformer": humaneva.write_converted,
    "humaneva-detectron_pt_coco-f9-rayformer": humaneva.write_archives,
    "mpi_inf_3dhp-gt-f9-poseformer": mpi_inf_3dhp.write_release,
    "mpi_inf_3dhp-gt-f9-rayformer": mpi_inf_3dhp.write_archives,
}


def main() -> None:
    """Print the table of all rows, and how long each took."""
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        took_s = {}
        for row, write in ROWS.items():
            started = time.monotonic()
            write(folder / row / parse_row(row).dataset)
            four_stages(row, folder, raw_folder=folder / row)
            took_s[row] = time.monotonic() - started
        dvc_yaml = folder / "dvc.yaml"
        dvc_yaml.write_text(yaml.safe_dump({"stages": {"evaluate_5runs": {"matrix": {"row": list(ROWS)}}}}))
        report(
            params_path=write_params(folder, row),
            dvc_yaml=dvc_yaml,
            reports=folder / "reports",
            prepared=folder / "prepared",
        )
        table, _, _ = (
            (folder / "reports" / "results.md").read_text(encoding="utf-8").partition("## Published by others")
        )
    print(table)
    for row, seconds in took_s.items():
        print(f"{row}: {seconds:.0f} s")
    print(f"{len(ROWS)} rows of made-up data went from raw files to the table in {sum(took_s.values()):.0f} s")


if __name__ == "__main__":
    main()
