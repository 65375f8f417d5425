"""Deep learning without labels: train, load and use a method from Python. The functions are in unlabeled.library.

    import unlabeled

    run = unlabeled.train("model=vae", "data=digits")
    run.sample(64)

Importing this is light: torch comes with the first function that is used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unlabeled.errors import UserError as UserError
    from unlabeled.library import Run as Run
    from unlabeled.library import datasets as datasets
    from unlabeled.library import grid as grid
    from unlabeled.library import load as load
    from unlabeled.library import models as models
    from unlabeled.library import train as train

__all__ = ["Run", "UserError", "datasets", "grid", "load", "models", "train"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("unlabeled")
        except PackageNotFoundError:
            return "of a folder that is not installed"
    if name not in __all__:
        raise AttributeError(f"module 'unlabeled' has no attribute {name!r}")
    if name == "UserError":
        from unlabeled.errors import UserError

        return UserError
    from unlabeled import library

    return getattr(library, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
