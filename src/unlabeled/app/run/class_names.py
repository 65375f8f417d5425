"""The classes of a user's folders, counted and named before anything is built: networks are made for so many."""

from pathlib import Path
from typing import Any

from hydra.utils import instantiate


def name_classes(config: Any) -> None:
    """Set data.class_names, and data.classes, to what the data's source calls its classes, where nobody said.

    For data whose config has the key: that of a folder, whose classes are known by looking. A run keeps both, so that
    a number means the same class whatever becomes of the folder.
    """
    data = config.data
    if "class_names" not in data or data.class_names is not None:
        return
    find = getattr(instantiate(data.source, _convert_="all"), "class_names", None)
    names = find(Path(data.root)) if find else ()
    if names:
        data.class_names = list(names)
        if data.classes is None:
            data.classes = len(names)
