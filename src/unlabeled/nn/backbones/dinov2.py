"""DINOv2's vision transformers, with their published weights. Oquab et al. 2023, https://arxiv.org/abs/2304.07193.

ViT of Dosovitskiy et al. 2021, https://arxiv.org/abs/2010.11929 (equations 1 to 4, exact GELU), with a learned scale on
each residual, Touvron et al. 2021, https://arxiv.org/abs/2103.17239 (equation 5). Patches of 14x14, heads of 64.
"""

import torch
from torch import Tensor
from torch.nn.functional import conv2d, gelu, interpolate, layer_norm, linear, scaled_dot_product_attention

from unlabeled.errors import UserError

SIDE, PATCH, HEAD = 224, 14, 64
SIZES = {384: "s", 768: "b", 1024: "l"}  # width -> letter of the published networks


class VisionTransformer:
    """x (B, 3, 224, 224), standardised as ImageNet is -> the class token after the last norm (B, dim)."""

    def __init__(self, weights: dict[str, Tensor], file: str):  # by their published names
        needed = ("cls_token", "pos_embed", "patch_embed.proj.weight", "blocks.0.mlp.fc1.weight", "blocks.0.ls1.gamma")
        if not set(needed) <= set(weights) or "register_tokens" in weights:
            raise UserError(
                f"{file} does not hold DINOv2 of size s, b or l without registers: the file is called "
                "dinov2_vits14_pretrain.pth, dinov2_vitb14_pretrain.pth or dinov2_vitl14_pretrain.pth"
            )
        self.weights = {name: value.float() for name, value in weights.items()}
        self.dim = weights["cls_token"].shape[-1]
        self.depth = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("blocks."))
        self.positions = self.scaled(self.weights["pos_embed"])

    def to(self, device: str | torch.device) -> "VisionTransformer":
        self.weights = {name: value.to(device) for name, value in self.weights.items()}
        self.positions = self.positions.to(device)
        return self

    def scaled(self, positions: Tensor) -> Tensor:
        """Positions (1, 1 + M M, dim) resized to the patches of 224 pixels, except the class token's.

        The authors' code scales by (16 + 0.1) / M, not by 16 / M, and the weights are used with it.
        """
        target, given = SIDE // PATCH, round((positions.shape[1] - 1) ** 0.5)
        if target == given:
            return positions
        grid = positions[:, 1:].transpose(1, 2).unflatten(2, (given, given))
        grid = interpolate(grid, scale_factor=(target + 0.1) / given, mode="bicubic")
        return torch.cat([positions[:, :1], grid.flatten(2).transpose(1, 2)], 1)

    def norm(self, x: Tensor, name: str) -> Tensor:
        return layer_norm(x, (self.dim,), self.weights[f"{name}.weight"], self.weights[f"{name}.bias"], 1e-6)

    def linear(self, x: Tensor, name: str) -> Tensor:
        return linear(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def attention(self, x: Tensor, name: str) -> Tensor:
        q, k, v = self.linear(x, f"{name}.qkv").unflatten(2, (3, -1, HEAD)).permute(2, 0, 3, 1, 4)  # (B, heads, N, 64)
        return self.linear(scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2), f"{name}.proj")

    def __call__(self, x: Tensor) -> Tensor:
        w = self.weights
        patches = conv2d(x, w["patch_embed.proj.weight"], w["patch_embed.proj.bias"], stride=PATCH)
        x = torch.cat([w["cls_token"].expand(len(x), -1, -1), patches.flatten(2).transpose(1, 2)], 1) + self.positions
        for i in range(self.depth):
            block = f"blocks.{i}"
            x = x + w[f"{block}.ls1.gamma"] * self.attention(self.norm(x, f"{block}.norm1"), f"{block}.attn")
            h = gelu(self.linear(self.norm(x, f"{block}.norm2"), f"{block}.mlp.fc1"))
            x = x + w[f"{block}.ls2.gamma"] * self.linear(h, f"{block}.mlp.fc2")
        return self.norm(x[:, 0], "norm")
