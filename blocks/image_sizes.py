"""The resolution at which an image generator starts, and the number of times it doubles it."""

from common.errors import UserError


def start_size(image_size: int, least_doublings: int = 1) -> tuple[int, int]:
    """Return the resolution, 4 to 7, at which a generator starts, and the number of doublings to `image_size`.

    Raises UserError, which names the nearest valid size, if no such resolution reaches `image_size` in
    at least `least_doublings` doublings.
    """
    size, doublings = image_size, 0
    while size > 7 and size % 2 == 0:
        size, doublings = size // 2, doublings + 1
    if not 4 <= size <= 7 or doublings < least_doublings:
        powers = range(least_doublings, max(image_size.bit_length(), least_doublings) + 1)
        nearest = min(
            (start * 2**power for power in powers for start in range(4, 8)), key=lambda it: abs(it - image_size)
        )
        power = "a power of two" if least_doublings == 1 else f"a power of two from {2**least_doublings} on"
        raise UserError(f"--image_size {image_size} is not 4 to 7 times {power}; the nearest is {nearest}")
    return size, doublings
