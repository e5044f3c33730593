"""Numerical building blocks: stable functions, compensated sums, root finding, random bits, batched functions."""

from ._batch_last import (
    aligned as aligned,
    batch_last as batch_last,
    call_net as call_net,
    is_batch_last as is_batch_last,
    over_batch as over_batch,
    understands_batches as understands_batches,
)
from ._compensated import add_compensated as add_compensated, held_apart as held_apart
from ._excess import divergence as divergence, excess as excess
from ._log_gamma import half_step as half_step, stirling_error as stirling_error
from ._log_sum import log_sum as log_sum
from ._positive import (
    cholesky_factor as cholesky_factor,
    loc_and_log_scale as loc_and_log_scale,
    loc_and_raw_tril as loc_and_raw_tril,
    positive_tril as positive_tril,
)
from ._random import uniform as uniform
from ._root import (
    bend_slope as bend_slope,
    excess_of as excess_of,
    increasing_root as increasing_root,
    slope_of as slope_of,
    unbend as unbend,
)
from ._softplus import softplus as softplus
