"""A small folder in the Broden format, with the awkward cases, to read and to damage."""

from pathlib import Path

import numpy as np
from PIL import Image

TABLES = {
    "category.csv": "name,first,last,count,frequency\ncolor,3,300,2,4\nobject,7,300,2,3\nscene,260,260,1,1\n",
    "label.csv": (
        "number,name,category,frequency,coverage,syns\n"
        "3,red-c,color(2),2,1.0,\n300,gold,color(1);object(2),3,0.9,\n7,ball,object(1),1,1e-05,\n"
        "260,street-s,scene(1),1,1.0,\n"
    ),
    "c_color.csv": "code,number,name,frequency,coverage\n1,3,red-c,2,1.0\n2,300,gold,1,0.4\n",
    "c_object.csv": "code,number,name,frequency,coverage\n1,300,gold,2,0.5\n2,7,ball,1,1e-05\n",
    "c_scene.csv": "code,number,name,frequency,coverage\n1,260,street-s,1,1.0\n",
    "index.csv": (
        "image,split,ih,iw,sh,sw,color,object,scene\n"
        "a/0.jpg,train,8,12,4,6,a/0_color.png,a/0_object_1.png;a/0_object_2.png,260\n"
        "a/1.jpg,val,8,12,4,6,3,,0\n"
        "a/2.jpg,val,8,12,4,6,,,0\n"
    ),
}


def planes() -> dict[str, np.ndarray]:
    """The label numbers of each PNG, (4, 6)."""
    color, first, second = (np.zeros((4, 6), int) for _ in range(3))
    color[:2], color[2:, 3:] = 3, 300
    first[1:], second[2:, 2:] = 300, 7
    second[1, 0] = 300  # the same concept twice in a pixel
    return {"0_color": color, "0_object_1": first, "0_object_2": second}


def save_png(path: Path, numbers: np.ndarray) -> None:
    """Write a label map as R + 256 G."""
    Image.fromarray(np.stack([numbers % 256, numbers // 256, 0 * numbers], 2).astype(np.uint8)).save(path)


def make_broden(root: Path) -> Path:
    """Write the folder; image 0 has maps, image 1 a whole-image number, image 2 nothing."""
    (root / "images" / "a").mkdir(parents=True)
    for name, text in TABLES.items():
        (root / name).write_text(text)
    for name, numbers in planes().items():
        save_png(root / "images" / "a" / f"{name}.png", numbers)
    for number in range(3):
        Image.fromarray(np.full((8, 12, 3), 40 * number, np.uint8)).save(root / "images" / "a" / f"{number}.jpg")
    return root
