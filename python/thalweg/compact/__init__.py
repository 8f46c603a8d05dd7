"""Narrow parameters and state: their encodings in plain NumPy, and their numbers as float32.

An update of narrow arrays is: decode them to float32, apply the rule of `thalweg.reference`, encode
the result. The functions here define the bits, as `thalweg.reference` does for the rules; ``t`` is
the number of the parameter's update, counted from 1.

=================  ========================================================================
`decode`           the state of a parameter, and the parameter, as float32
`encode_bfloat16`  state in two bytes: the upper half of a float32, dithered
`encode_e5m3`      second moments in one byte, and one exponent for each block of 64 elements
`split_bfloat16`   a float32 parameter as a live bfloat16 and an int16 that has the rest
`split_float16`    the same with a live float16
=================  ========================================================================

**Dither.** State that is rounded to nearest stops: once the step of an average is below half of its
last place, the average no longer moves. Dither adds a word below one unit before it cuts, a
different one in each step, so that the average is right over steps. The words depend on the step
alone and, in blocks, on the position in the block: any cut of an array into slices (of blocks, for
`encode_e5m3`) gives the same bits.

**No collapse.** A second moment that is rounded to zero under a first moment that is not makes a
step of any size. A code of `encode_e5m3` is never zero in a block that has anything: the smallest
numbers of a block become 2⁻³¹ of the largest.
"""

from thalweg.compact.decoding import decode
from thalweg.compact.encodings import (
    decode_bfloat16,
    decode_e5m3,
    encode_bfloat16,
    encode_e5m3,
    join_bfloat16,
    join_float16,
    split_bfloat16,
    split_float16,
)

__all__ = [
    "decode",
    "decode_bfloat16",
    "decode_e5m3",
    "encode_bfloat16",
    "encode_e5m3",
    "join_bfloat16",
    "join_float16",
    "split_bfloat16",
    "split_float16",
]
