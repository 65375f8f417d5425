"""Files of weights, opened so that nothing in them can run."""

import hashlib
import pickle
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unlabeled.errors import UserError


def read(file: Path) -> dict[str, Any]:
    """A file's tensors and plain values, by name. Raises UserError for anything else."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{file} holds more than tensors and plain values, and is not opened: it could run code"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        if "TorchScript" in str(error):
            raise UserError(f"{file} holds a program (TorchScript) that nobody is known to have published") from error
        reason = getattr(error, "strerror", None) or (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{file} is no whole file of weights ({reason})") from error
    if not isinstance(content, dict):
        raise UserError(f"{file} is no file of weights: it holds other things than tensors by name")
    return content


def tensors(file: Path) -> dict[str, Tensor]:
    """A file of tensors alone, by name."""
    content = read(file)
    if not all(isinstance(value, Tensor) for value in content.values()):
        raise UserError(f"{file} is no file of weights: it holds other things than tensors by name")
    return content


def sha256(file: Path) -> str:
    """The hash of a file's bytes, as sha256sum prints it."""
    whole = hashlib.sha256()
    try:
        with open(file, "rb") as stream:
            while chunk := stream.read(1 << 20):
                whole.update(chunk)
    except OSError as error:
        raise UserError(f"cannot read {file} ({error.strerror})") from error
    return whole.hexdigest()
