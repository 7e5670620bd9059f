"""The pictures of the documentation, from what is on disk: `python docs/pictures.py` after `make small`.

Needs chromium. lift.png is what `poselift lift docs/examples/soccer.npz` writes as strip.png.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path

FIGURES = Path(__file__).parent / "figures"

with tempfile.TemporaryDirectory() as folder:
    page = Path(folder) / "board.html"
    subprocess.run(["poselift", "board", "--out", str(page)], check=True)
    picture = FIGURES.resolve() / "board.png"
    window = ["--window-size=1300,1500", "--hide-scrollbars", f"--screenshot={picture}"]
    subprocess.run(["chromium", "--headless", "--no-sandbox", "--disable-gpu", *window, page.as_uri()], check=True)
    lifted = Path(folder) / "lifted"
    subprocess.run(
        ["poselift", "lift", "docs/examples/soccer.npz", "--out", str(lifted), "--outputs", "png"], check=True
    )
    shutil.copy(lifted / "strip.png", FIGURES / "lift.png")
