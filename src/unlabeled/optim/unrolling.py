"""Steps of an optimizer as functions of weights and gradients, through which gradients flow.

Metz et al. 2017, https://arxiv.org/abs/1611.02163, equations 4 to 7. They start from the optimizer's state (its
moments, step count and learning rate) and do not change it. All weights are one vector: a tenth of the operations.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adam, Optimizer

from unlabeled.errors import UserError

TINY = 1e-30  # added under the root of a second moment, whose derivative at 0 would be infinite


def unrolled(optimizer: Optimizer, loss: Callable[[Sequence[Tensor]], Tensor], steps: int) -> list[Tensor]:
    """The optimizer's weights, in its order, after `steps` more steps on `loss`, with a graph.

    loss: such weights -> ().
    """
    check_unrolls(optimizer)
    group = optimizer.param_groups[0]
    own: list[Tensor] = group["params"]
    sizes = [p.numel() for p in own]

    def parts(vector: Tensor) -> list[Tensor]:
        return [part.view(p.shape) for part, p in zip(vector.split(sizes), own, strict=True)]

    vector, state = flat(own).requires_grad_(), flat_state(optimizer, own)
    step = adam if type(optimizer) is Adam else sgd
    for _ in range(steps):
        (slope,) = torch.autograd.grad(loss(parts(vector)), vector, create_graph=True)
        vector, state = step(vector, slope, group, state)
    return parts(vector)


def flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


def flat_state(optimizer: Optimizer, own: Sequence[Tensor]) -> dict[str, Any]:
    """Its state of the weights, as vectors; empty before its first step."""
    states = [optimizer.state[p] for p in own if p in optimizer.state]
    names = [name for name, value in (states[0] if states else {}).items() if value is not None]
    return {name: states[0][name] if name == "step" else flat([state[name] for state in states]) for name in names}


def check_unrolls(optimizer: Optimizer) -> None:
    """Raise UserError for an optimizer whose steps are not implemented here."""
    settings = optimizer.param_groups[0]
    other = [name for name in ("amsgrad", "nesterov", "maximize", "decoupled_weight_decay") if settings.get(name)]
    if type(optimizer) not in (SGD, Adam) or other or settings.get("dampening") or len(optimizer.param_groups) > 1:
        name = " with ".join([type(optimizer).__name__, *other[:1]])
        raise UserError(
            f"an unrolled discriminator learns by plain torch.optim.Adam or SGD, with momentum or without, not by "
            f"{name}: say model.discriminator_optimizer._target_=torch.optim.Adam"
        )


def sgd(weight: Tensor, slope: Tensor, group: dict[str, Any], state: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
    """v <- momentum v + g; w <- w - lr v."""
    slope = slope + group["weight_decay"] * weight
    before = state.get("momentum_buffer")
    velocity = slope if before is None else group["momentum"] * before + slope
    return weight - group["lr"] * velocity, {"momentum_buffer": velocity} if group["momentum"] else {}


def adam(weight: Tensor, slope: Tensor, group: dict[str, Any], state: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
    """Kingma & Ba 2015, https://arxiv.org/abs/1412.6980, algorithm 1."""
    slope = slope + group["weight_decay"] * weight
    (beta1, beta2), t = group["betas"], torch.as_tensor(state.get("step", 0)) + 1
    first = beta1 * state.get("exp_avg", 0.0) + (1 - beta1) * slope
    second = beta2 * state.get("exp_avg_sq", 0.0) + (1 - beta2) * slope.square()
    root = (second / correction(beta2, t) + TINY).sqrt()
    weight = weight - group["lr"] * (first / correction(beta1, t)) / (root + group["eps"])
    return weight, {"step": t, "exp_avg": first, "exp_avg_sq": second}


def correction(beta: float, t: Tensor) -> Tensor:
    """1 - beta^t, exact to float32 where beta^t is nearly 1, without waiting for the device."""
    return -torch.expm1(t * (math.log(beta) if beta else -math.inf))
