"""Examples that are judged and equal to ones that are trained on, row for row."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor


def equal_rows(train: Any, judged: Any, what: str) -> list[str]:
    """A line with the number of judged examples that equal ones that are trained on, or none.

    Args:
        train: tensors, arrays or tables, or a tuple or dict of these, n examples in each; nothing of other data.
        judged: in the same form.
        what: the judged examples are, in a word.
    """
    known, held = _digests(train), _digests(judged)
    if known is None or held is None:
        return []
    trained = set(known)
    both = sum(each in trained for each in held)
    if not both:
        return []
    return [
        f"{both} of {len(held)} {what} examples are among those trained on, row for row: what they say is too good; "
        "leave out what is there twice, or keep it together by groups=..., with one id for equal examples"
    ]


def _digests(data: Any) -> list[bytes] | None:
    """A digest of each example; None where the data are of another kind, or have no numbers or words."""
    if isinstance(data, Mapping | tuple):
        columns = [_digests(each) for each in (data.values() if isinstance(data, Mapping) else data)]
        known = [each for each in columns if each is not None]
        return [b"".join(row) for row in zip(*known, strict=True)] if len(known) == len(columns) and known else None
    if isinstance(data, Tensor):
        data = data.detach().cpu()
        data = data.float().numpy() if str(data.dtype) == "torch.bfloat16" else data.numpy()
    if hasattr(data, "iloc"):
        import pandas as pd

        data = pd.util.hash_pandas_object(data, index=False).to_numpy()
    if not isinstance(data, np.ndarray) or data.dtype.hasobject or not data.ndim or not data[:1].size:
        return None
    return [hashlib.blake2b(row.tobytes(), digest_size=12).digest() for row in np.ascontiguousarray(data)]
