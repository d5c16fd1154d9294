"""Numbers that divide a batch: ranks, lanes and micro-batches must."""


def divisors(number: int) -> list[int]:
    """Return the divisors of `number`, rising."""
    small = [d for d in range(1, int(number**0.5) + 1) if number % d == 0]
    return sorted({*small, *(number // d for d in small)})


def largest_divisor(number: int, limit: int) -> int:
    """Return the largest divisor of `number` that is at most `limit`."""
    return max(d for d in divisors(number) if d <= limit)


def nearest_divisors(number: int, wanted: int) -> list[int]:
    """Return the divisors of `number` next below and above `wanted`: one where there is no other."""
    known = divisors(number)
    below = [d for d in known if d <= wanted][-1:]
    above = [d for d in known if d >= wanted][:1]
    return sorted({*below, *above})
