"""Plain gradient descent in an engine's place of Adam: it shows the gradient itself."""

import torch


@torch.no_grad()
def descend(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Take a step; Adam's first one would show little of a gradient but its sign."""
    for hook in optimizer._optimizer_step_pre_hooks.values():  # as the step has that it stands for
        hook(optimizer, (), {})
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is not None:
                parameter -= rate * parameter.grad
