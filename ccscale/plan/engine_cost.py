"""Memory and communication of DeepSpeed under a ZeRO stage, with fused Adam. Pure functions.

P parameters of e bytes, W ranks, B the bucket that DeepSpeed's ZeRO 1 and 2 copy gradients into, L the largest
parameter::

                      ZeRO 0             ZeRO 1                  ZeRO 2
    parameters        P                  P                       P
    masters           -                  P / W                   P / W
    Adam's moments    2 P                2 P / W                 2 P / W
    gradients         P                  P, B, L                 B, and the rank's part
    averaging         3 P, alone P       P, B                    2 B, and the rank's part
    sent              sum of P           sum of P, gather of P   the same, the sum for each micro-batch

Averaging first flattens the gradients into one tensor; under ZeRO 0 those of convolutions are made contiguous for
that, and a single rank averages nothing. Under ZeRO 1 a gradient exists twice while it is computed: its own
tensor, and one with the parameter's strides. ZeRO 2 also sums whole gradients and lets each rank keep its part
(`use_multi_rank_bucket_allreduce`): P / W, and up to L more, since whole parameters are kept. If a bucket holds
all gradients of a step, none are kept.
"""

from collections import Counter
from dataclasses import dataclass

from ccscale.engine.build import LARGEST_BUCKET


@dataclass(frozen=True)
class EngineCost:
    """Bytes on one rank.

    Attributes
    ----------
    weights, masters, moments
        Held all the time: the network's parameters, this rank's copy of them that Adam steps, Adam's moments.
    between
        Gradients that are held while a further micro-batch goes forward.
    gradients
        The most that the backward pass holds beside activations.
    averaging
        The most from the end of the backward pass to the end of the step.
    sent, buckets
        Payload by collective; in how many calls gradients are averaged.
    """

    weights: int
    masters: int
    moments: int
    between: int
    gradients: int
    averaging: int
    sent: Counter[str]
    buckets: int = 1


def engine_cost(
    weights: int, world: int, zero: int, micro_batches: int = 1, e: int = 4, largest: int = 0
) -> EngineCost:
    """Return the cost of averaging gradients and stepping.

    Parameters
    ----------
    weights
        Number of parameters.
    world
        Number of ranks.
    zero
        The ZeRO stage: 0, 1 or 2.
    micro_batches
        Number of micro-batches that a global batch goes through the network in.
    e
        Bytes in a number.
    largest
        Numbers in the largest parameter.
    """
    whole = weights * e
    if zero == 0:
        sent = Counter(all_reduce=whole) if world > 1 else Counter()
        between = whole if micro_batches > 1 else 0
        averaging = 3 * whole if world > 1 else whole
        return EngineCost(whole, 0, 2 * whole, between, whole, averaging, sent)
    part = -(-weights // (2 * world)) * 2 * e  # DeepSpeed pads to an even number for each rank
    padded, bucket = part * world, min(LARGEST_BUCKET, weights) * e  # which ZeRO 1 and 2 take in full
    sent = Counter()
    if world > 1:
        sent = Counter(all_reduce=whole * (micro_batches if zero == 2 else 1), all_gather=padded)
    if zero == 1:
        between, averaging = (whole if micro_batches > 1 else 0), whole + bucket
        gradients = averaging + largest * e
    else:
        kept = part + largest * e
        between = kept if micro_batches > 1 else 0
        if not between and bucket == whole:
            kept = 0
        gradients, averaging = bucket + kept, max(2 * bucket + kept, padded)
    return EngineCost(
        padded,
        part,
        2 * part,
        between,
        gradients,
        averaging,
        sent,
        -(-whole // bucket) * (micro_batches if zero == 2 else 1),
    )
