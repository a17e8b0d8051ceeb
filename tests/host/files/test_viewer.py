"""Pictures of the mask viewer do not fill the folder of temporary files."""

import os
from pathlib import Path

from kvshare_core.host.files.viewer import MOST_FILES, PREFIX, forget_oldest


def test_the_oldest_pictures_go_and_nobody_elses(tmp_path: Path) -> None:
    others = [tmp_path / f"ComfyUI_temp_{number}.png" for number in range(5)]
    own = [tmp_path / f"{PREFIX}_{number:05}_.webp" for number in range(MOST_FILES + 7)]
    for age, file in enumerate([*others, *own]):
        file.touch()
        os.utime(file, ns=(age, age))
    forget_oldest(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([*others, *own[7:]])
    forget_oldest(tmp_path)
    assert len(list(tmp_path.iterdir())) == MOST_FILES + 5
