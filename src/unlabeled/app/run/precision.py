"""Half precision with loss scaling for several optimizers that step in turn."""

import sys
from collections.abc import Callable
from typing import Any, get_args

import torch
from lightning.fabric.connector import _PRECISION_INPUT_STR
from lightning.pytorch.plugins.precision import MixedPrecision
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from torch.optim import LBFGS, Optimizer

from unlabeled.errors import UserError


class LossScaling(MixedPrecision):
    """trainer.precision=16-mixed: float16 under autocast, losses scaled so that gradients do not vanish.

    Micikevicius et al. 2018, https://arxiv.org/abs/1710.03740, section 3.2. A player whose gradient overflows skips
    its step, and the scale, which all players share, is halved. It changes only while no other player holds gradients:
    those accumulated over batches (`accumulate`) have one scale. Gradients are unscaled before each step, also those of
    fused optimizers, so that callbacks see and clip the true ones.
    """

    scaler: torch.amp.GradScaler

    def __init__(self, device: str, scale: float = 2.0**16):
        super().__init__("16-mixed", device, torch.amp.GradScaler(device, init_scale=scale))

    def optimizer_step(  # type: ignore[override]
        self, optimizer: Optimizer, model: Any, closure: Callable[[], Any], **kwargs: Any
    ) -> Any:
        if isinstance(optimizer, LBFGS):
            raise UserError("trainer.precision=16-mixed cannot scale the losses of LBFGS: say bf16-mixed")
        result = closure()  # in automatic optimization forward and backward pass; in manual, nothing
        if result is None and model.automatic_optimization:
            return None  # the training step gave no loss
        self.scaler.unscale_(optimizer)
        self._after_closure(model, optimizer)
        self.scaler.step(optimizer, **kwargs)
        others = (o for o in model.trainer.optimizers if o is not optimizer)
        if all(p.grad is None for other in others for group in other.param_groups for p in group["params"]):
            self.scaler.update()
        return result


def precision(trainer: dict[str, Any]) -> tuple[dict[str, Any], list[Any]]:
    """(settings, plugins): 16-mixed by our own plugin, other precisions by Lightning."""
    short = {"16": "16-mixed", "bf16": "bf16-mixed", "32": "32-true", "64": "64-true"}
    given, known = str(trainer["precision"]), get_args(_PRECISION_INPUT_STR)
    name = short.get(given, given)
    if name not in known:
        raise UserError(f"trainer.precision={given}: there are {', '.join(known)}")
    accelerator = trainer["accelerator"]
    device = {"gpu": "cuda", "auto": "cuda" if torch.cuda.is_available() else "cpu"}.get(accelerator, accelerator)
    if name.startswith("bf16") and device == "cpu" and emulates_bfloat16():
        warn_slow()
    if name != "16-mixed":
        return trainer | {"precision": name}, []
    return trainer | {"precision": None}, [LossScaling(device)]


@rank_zero_only
def warn_slow() -> None:
    why = "this processor has no instructions for bfloat16, and convolutions in it take some 20 times as long"
    print(f"note: {why} as in float32: say trainer.precision=32-true", file=sys.stderr, flush=True)


def emulates_bfloat16() -> bool:
    """Whether oneDNN, which computes convolutions on CPUs, emulates bfloat16."""
    return torch.backends.mkldnn.is_available() and not torch.ops.mkldnn._is_mkldnn_bf16_supported()
