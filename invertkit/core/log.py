"""The toolkit's logger, and warnings that nobody should miss."""

from __future__ import annotations

import logging
import warnings

from invertkit.errors import InvertkitWarning

log = logging.getLogger("invertkit")
log.addHandler(logging.NullHandler())


def warn(sentence: str) -> None:
    """Tell of something that is likely not what the user wants, and go on.

    Python shows it once; the command line prints the sentence alone.

    Example:
        >>> with warnings.catch_warnings(record=True) as told:
        ...     warnings.simplefilter("always")
        ...     warn("mask: covers 80% of the picture.")
        >>> str(told[0].message)
        'mask: covers 80% of the picture.'
    """
    warnings.warn(sentence, InvertkitWarning, stacklevel=3)
