"""Pictures of a result to its folder and to every Lightning logger that takes images."""

import logging
from pathlib import Path

from interp.files import replacing
from interp.result import Result

log = logging.getLogger(__name__)


def show(result: Result, folder: Path, name: str, loggers: list, step: int) -> None:
    """Draw `result`, write `<picture>.png` into `folder`, log each as `<name>/<picture>`.

    A logger that raises is reported and does not keep the others from their pictures. Raises OSError where the folder
    cannot be written to.
    """
    from torchvision.transforms.v2.functional import to_pil_image

    images = {key: to_pil_image(picture) for key, picture in result.pictures().items()}
    captions = result.captions()
    for logger in [logger for logger in loggers if hasattr(logger, "log_image")]:
        for key, image in images.items():
            _send(logger, f"{name}/{key}", image, captions.get(key), step)
    for key, image in images.items():
        with replacing(folder / f"{key}.png") as path:
            image.save(path, format="PNG")


def _send(logger, key: str, image, caption: str | None, step: int) -> None:
    try:
        logger.log_image(key=key, images=[image], step=step, **({"caption": [caption]} if caption else {}))
    except Exception as error:
        log.warning("%s could not take the picture %s: %s", type(logger).__name__, key, error, exc_info=error)
