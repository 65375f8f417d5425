"""Names and number of the classes in a user's folders, which networks are built for."""

from pathlib import Path
from typing import Any

from hydra.utils import instantiate


def name_classes(config: Any) -> None:
    """Set data.class_names and data.classes from the data's source where the user has not.

    Only where the config has the key: for folders, whose classes are found by listing them. A run keeps both, so that a
    number means the same class even if the folder changes.
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
